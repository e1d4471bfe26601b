"""One task of a worker: fill one scan and write its results, completely or not at all."""

from __future__ import annotations

import gc
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, explain_out_of_memory
from ..kept import Kept
from ..pipeline import Result, inpaint
from ..settings import Settings
from ..space.alignment import align
from ..space.case import check_input
from ..volumes.image import like
from ..volumes.read import read_image
from ..volumes.write import write_exactly
from .derivatives import image_sidecar, mask_sidecar, uncertainty_sidecar, write_json, write_text
from .report.pictures import thumbnail
from .report.section import render_section
from .resume import is_complete
from .scans import Results, Scan, sidecar

Engine = Callable[[sitk.Image, sitk.Image, Settings], Result]


@dataclass(frozen=True)
class Job:
    """One scan to fill.

    Attributes:
        scan: the scan and its mask.
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


def inpaint_in_worker(image: sitk.Image, lesion: sitk.Image, settings: Settings) -> Result:
    """As `inpaint`, but the model stays in the memory of this process for the next scan."""
    return inpaint(image, lesion, settings, kept=_kept())


def fill(job: Job, engine: Engine = inpaint_in_worker) -> Outcome:
    """Fill one scan. Errors are in the outcome, so that they cost this scan alone.

    If another process fills the same scan, wait for it. What it has done with the same settings is not done again.
    """
    started = time.perf_counter()
    try:
        with locked(job.results.lock):
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
    assert scan.image is not None
    assert scan.mask is not None
    image, lesion = read_image(scan.image), read_image(scan.mask)
    hole = check_input(image, lesion, settings.label, settings.grow)[1]
    result = engine(image, lesion, settings)
    if job.uncertainty and result.uncertainty is None:
        raise InputError("Without the residual the uncertainty is unknown: drop --uncertainty or --no-residual.")
    results = job.results
    shutil.rmtree(results.staging, ignore_errors=True)
    results.staging.mkdir(parents=True)
    try:
        _write(job, image, hole, result)
    finally:
        shutil.rmtree(results.staging, ignore_errors=True)


def _write(job: Job, image: sitk.Image, hole: np.ndarray, result: Result) -> None:
    """Write all files to the staging folder and then move them, the sidecar of the image last."""
    results, report = job.results, result.report
    images = {results.image: result.image, results.mask: like(image, hole.astype(np.uint8))}
    sidecars = {results.mask: mask_sidecar(results)}
    if job.uncertainty and result.uncertainty is not None:
        images[results.uncertainty] = result.uncertainty
        sidecars[results.uncertainty] = uncertainty_sidecar(results, report)
    for path, volume in images.items():
        write_exactly(volume, results.staging / path.name, path.name)
    for path, content in sidecars.items():
        write_json(results.staging / sidecar(path).name, content)
    write_text(results.staging / results.section.name, render_section(job.scan, image, hole, result))
    (results.staging / results.thumbnail.name).write_bytes(thumbnail(image, hole, result))
    last = sidecar(results.image)
    write_json(results.staging / last.name, image_sidecar(results, report, job.fingerprint))

    for folder in (results.image.parent, results.section.parent):
        folder.mkdir(parents=True, exist_ok=True)
    last.unlink(missing_ok=True)  # until the new one is there, nobody takes a mixture for complete
    moved = [*images, *map(sidecar, sidecars), results.section, results.thumbnail]
    for path in (*moved, last):
        os.replace(results.staging / path.name, path)
