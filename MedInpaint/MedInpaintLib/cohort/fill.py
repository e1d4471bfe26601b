"""One task of a worker: fill a scan and those of its session that go with it, and write all results or none."""

from __future__ import annotations

import gc
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, explain_out_of_memory
from ..kept import Kept
from ..pipeline import Result, inpaint_together
from ..settings import Settings
from ..space.alignment import align
from ..volumes.image import like
from ..volumes.read import read_image
from ..volumes.write import write_exactly
from .derivatives import image_sidecar, mask_sidecar, uncertainty_sidecar, write_json, write_text
from .report.pictures import thumbnail
from .report.section import render_section
from .resume import is_complete
from .scans import Results, Scan, sidecar

Engine = Callable[[Sequence[sitk.Image], Sequence[sitk.Image | None], Settings], list[Result]]


@dataclass(frozen=True)
class Job:
    """One scan to fill, with the further scans that are filled together with it.

    Attributes:
        scan: the scan, its mask, and the further scans.
        output: the folder of the derivatives.
        settings: those of the fill.
        fingerprint: of the files and the settings, see `resume.fingerprint`.
        uncertainty: also write the standard deviation of the fill.
    """

    scan: Scan
    output: Path
    settings: Settings
    fingerprint: str
    uncertainty: bool = False

    @property
    def results(self) -> Results:
        """The files of this job."""
        return Results(self.output, self.scan)


@dataclass(frozen=True)
class Outcome:
    """How a job ended: a sentence if it failed, and the traceback if that was unexpected."""

    problem: str = ""
    details: str = ""
    seconds: float = 0.0


def inpaint_in_worker(
    images: Sequence[sitk.Image], masks: Sequence[sitk.Image | None], settings: Settings
) -> list[Result]:
    """As `inpaint_together`, but the model stays in the memory of this process for the next scan."""
    return inpaint_together(images, masks, settings, kept=_kept())


def fill(job: Job, engine: Engine = inpaint_in_worker) -> Outcome:
    """Fill one scan, or several of a session. Errors are in the outcome, so that they cost this session alone.

    If another process fills the same scan, wait for it. What it has done with the same settings is not done again.
    """
    started = time.perf_counter()
    try:
        with ExitStack() as stack:
            for lock in sorted(part.lock for part in job.results.together):  # in one order: no two wait for each other
                stack.enter_context(locked(lock))
            if not is_complete(job.results, job.fingerprint, job.uncertainty):
                _fill(job, engine)
    except InputError as error:
        return Outcome(str(error))
    except OSError as error:
        why = error.strerror or "incomplete on the disk"  # ITK does not say why
        return Outcome(f"The results cannot be written ({why}): free disk space or check the folder.")
    except Exception as error:  # whatever it is, the other scans go on
        return Outcome(f"An unexpected error ended the fill ({type(error).__name__}: {error}).", traceback.format_exc())
    finally:
        gc.collect()  # matplotlib's figures refer to themselves: without this, a worker grows by 1 MB a scan for long
    return Outcome(seconds=time.perf_counter() - started)


def remove_unfinished(results: Results) -> None:
    """Remove what a killed process left, unless another one is at work on the same scan."""
    with suppress(OSError, TimeoutError), locked(results.lock, wait=False):
        shutil.rmtree(results.staging, ignore_errors=True)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock of the operating system, which frees it if the process is killed.

    Raises TimeoutError if another process has it and `wait` is false. On file systems without locks there is none.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except NotImplementedError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


class _KeptModel(Kept):
    """Keeps the model alone. The alignment is made anew, so that no fill depends on what its worker did before."""

    align = staticmethod(align)


@cache
def _kept() -> Kept:
    """One for each process. Jobs carry none of it, so that no model travels to a worker."""
    return _KeptModel()


@explain_out_of_memory()
def _fill(job: Job, engine: Engine) -> None:
    scan, settings = job.scan, job.settings
    assert scan.mask is not None
    images = [read_image(part.image) for part in scan.together if part.image]
    found = engine(images, [read_image(scan.mask), *(None for _ in scan.also)], settings)
    for contrast in scan.missing:
        found[0].report["warnings"].append(f"The session has no {contrast} scan: it is filled without it.")
    if job.uncertainty and found[0].uncertainty is None:
        raise InputError("Without the residual the uncertainty is unknown: drop --uncertainty or --no-residual.")
    results = job.results
    shutil.rmtree(results.staging, ignore_errors=True)
    results.staging.mkdir(parents=True)
    try:
        _write(job, images, found)
    finally:
        shutil.rmtree(results.staging, ignore_errors=True)


def _write(job: Job, images: Sequence[sitk.Image], found: Sequence[Result]) -> None:
    """Write all files to the staging folder and then move them, the sidecars of the images last."""
    staging, parts = job.results.staging, job.results.together
    moved = [
        path
        for part, image, result in zip(parts, images, found, strict=True)
        for path in _make(job, part, image, result)
    ]
    last = [sidecar(part.image) for part in reversed(parts)]
    for path in (*moved, *last):
        path.parent.mkdir(parents=True, exist_ok=True)
    for path in last:
        path.unlink(missing_ok=True)  # until the new one is there, nobody takes a mixture for complete
    for path in (*moved, *last):
        os.replace(staging / path.name, path)


def _make(job: Job, part: Results, image: sitk.Image, result: Result) -> list[Path]:
    """Write the files of one scan to the staging folder. Returns where they belong, without the image's sidecar."""
    assert result.hole is not None
    staging, report = job.results.staging, result.report
    together = [scan.suffix for scan in job.scan.together] if job.scan.also else []
    images = {part.image: result.image, part.mask: like(image, result.hole.astype(np.uint8))}
    sidecars = {part.mask: mask_sidecar(part)}
    if job.uncertainty and result.uncertainty is not None:
        images[part.uncertainty] = result.uncertainty
        sidecars[part.uncertainty] = uncertainty_sidecar(part, report)
    for path, volume in images.items():
        write_exactly(volume, staging / path.name, path.name)
    for path, content in sidecars.items():
        write_json(staging / sidecar(path).name, content)
    section = render_section(part.scan, image, result.hole, result, [s for s in together if s != part.scan.suffix])
    write_text(staging / part.section.name, section)
    (staging / part.thumbnail.name).write_bytes(thumbnail(image, result.hole, result))
    write_json(staging / sidecar(part.image).name, image_sidecar(part, report, job.fingerprint, together))
    return [*images, *map(sidecar, sidecars), part.section, part.thumbnail]
