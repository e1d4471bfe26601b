"""A run from files to files: the files are checked before the work starts and written together at its end."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from ..errors import InputError, explain_out_of_memory
from ..models.registry import find_model
from ..pipeline import Result, inpaint_together
from ..report.figure import check_matplotlib, draw_figure
from ..settings import Settings
from ..space.case import check_input
from ..volumes.dicom.derived import write_series
from ..volumes.dicom.source import SourceSlice, check_pydicom, read_slices
from ..volumes.nifti_copy import NiftiFile, nifti_file, write_filled_copy
from ..volumes.read import IMAGE_SUFFIXES, NIFTI_SUFFIXES, read_image, series_files
from ..volumes.write import check_new_folder, check_writable, replacing, replacing_folder, write_exactly
from .console import Console

Source = NiftiFile | list[SourceSlice] | None  # what a result keeps of its scan's file, or of its series


@dataclass(frozen=True)
class Outputs:
    """The files of a run; None for a file that is not wanted.

    Attributes:
        image: the filled scan; a folder for a derived DICOM series.
        report: the measurements, JSON.
        figure: the picture of the run, PNG.
        generated: the generated slices on the scan's grid.
        uncertainty: the fill's posterior standard deviation on the scan's grid.
    """

    image: Path
    report: Path | None = None
    figure: Path | None = None
    generated: Path | None = None
    uncertainty: Path | None = None

    def beside(self, image: Path, number: int) -> Outputs:
        """The same for a further scan: the names of the other files end with its number."""
        others = (self.report, self.figure, self.generated, self.uncertainty)
        return Outputs(image, *(path and _numbered(path, number) for path in others))

    def check(self, scan: Path, taken: set[str]) -> None:
        """Raise InputError unless each file can be written and none has a path that is taken; then take their paths.

        Args:
            scan: the input.
            taken: the real paths of all inputs, and of the outputs of other scans.
        """
        if self.in_series(scan):
            check_new_folder(self.image)
            check_pydicom()
        else:
            check_writable(self.image)
        for path, suffixes in (
            (self.image, None),
            (self.generated, IMAGE_SUFFIXES),
            (self.uncertainty, IMAGE_SUFFIXES),
            (self.report, (".json",)),
            (self.figure, (".png",)),
        ):
            if path is None:
                continue
            if suffixes:
                check_writable(path, suffixes)
            if os.path.realpath(path) in taken:
                raise InputError(f"'{path.name}' is already an input or another output: choose another name for it.")
            taken.add(os.path.realpath(path))
        if self.figure:
            check_matplotlib()

    def in_series(self, scan: Path) -> bool:
        """Whether the filled scan is to be a DICOM series: the scan is a folder, and the output no image file."""
        return scan.is_dir() and not self.image.name.lower().endswith(IMAGE_SUFFIXES)

    def source(self, path: Path, scan: sitk.Image, series: str | None) -> Source:
        """What the filled scan keeps of the file or folder that a scan was read from, besides what ITK keeps."""
        if self.in_series(path):
            return read_slices([Path(file) for file in series_files(path, series)], scan)
        return nifti_file(path, scan) if self.image.name.lower().endswith(NIFTI_SUFFIXES) else None

    def write(
        self,
        stack: ExitStack,
        source: Source,
        scan: sitk.Image,
        result: Result,
        about: dict[str, str],
    ) -> None:
        """Write all files beside their targets. The stack renames them when it is closed, the filled scan last.

        Args:
            stack: takes the files.
            source: see `source`.
            scan: the input.
            result: of this scan.
            about: entries for the top of the report.

        Raises:
            InputError: a file cannot be written, or its format cannot hold the image exactly.
        """
        hole = result.hole
        assert hole is not None
        if isinstance(source, list):
            folder = stack.enter_context(replacing_folder(self.image))
            write_series(source, scan, result.image, folder, f"model {result.report['model']['name']}")
        elif source:
            write_filled_copy(source, stack.enter_context(replacing(self.image)), result.image, hole)
        else:
            write_exactly(result.image, stack.enter_context(replacing(self.image)), self.image.name)
        for image, path in ((result.generated, self.generated), (result.uncertainty, self.uncertainty)):
            if path and image:
                write_exactly(image, stack.enter_context(replacing(path)), path.name)
        if self.report:
            text = json.dumps({**about, **result.report}, indent=2, allow_nan=False)
            stack.enter_context(replacing(self.report)).write_text(text + "\n", encoding="utf-8")
        if self.figure:
            path, contrast = stack.enter_context(replacing(self.figure)), result.report["contrast"]
            draw_figure(path, scan, hole, result.generated, result.image, contrast)


@dataclass(frozen=True)
class Further:
    """A further scan of the same head.

    Attributes:
        scan: its file, or its folder with a DICOM series.
        output: the filled scan.
        mask: the file of its own mask; None: that of the first scan.
    """

    scan: Path
    output: Path
    mask: Path | None = None


def _numbered(path: Path, number: int) -> Path:
    """report.json -> report_2.json."""
    suffix = next((each for each in IMAGE_SUFFIXES if path.name.lower().endswith(each)), path.suffix)
    return path.with_name(
        f"{path.name[: len(path.name) - len(suffix)]}_{number}{path.name[len(path.name) - len(suffix) :]}"
    )


@contextmanager
def _ignored_signals() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM for a moment, because a renaming that has begun cannot be undone."""
    ends = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    earlier = {number: signal.signal(number, signal.SIG_IGN) for number in ends}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@explain_out_of_memory()
def run_files(
    image: Path,
    mask: Path,
    outputs: Outputs,
    settings: Settings,
    console: Console,
    series: str | None = None,
    also: Sequence[Further] = (),
) -> list[Result]:
    """Fill the lesion of the scan in a file or folder, and of further scans of the same head, and write the results.

    After SIGINT or SIGTERM, all outputs are as before; while they are renamed the signals are ignored.

    Args:
        image, mask: the files, or folders with DICOM series.
        outputs: the files to write.
        settings: of the run.
        console: takes the progress and the warnings.
        series: the Series Instance UID of the scan if its folder holds several series.
        also: the further scans; see `inpaint_together`.

    Raises:
        InputError: the input or the outputs cannot be used; then nothing is written.
    """
    if outputs.uncertainty and not settings.residual:
        raise InputError("Without the residual the uncertainty is unknown: drop --uncertainty or --no-residual.")
    images, masks = [image, *(each.scan for each in also)], [mask, *(each.mask for each in also)]
    inputs = [path for path in (*images, *masks) if path is not None]
    for path in inputs:
        if not os.path.exists(path):
            raise InputError(f"'{path.name}' does not exist: check the path.")
    all_outputs = [outputs, *(outputs.beside(each.output, n) for n, each in enumerate(also, start=2))]
    taken = {os.path.realpath(path) for path in inputs}
    for path, files in zip(images, all_outputs, strict=True):
        files.check(path, taken)
    scans = [read_image(path, series if n == 0 else None) for n, path in enumerate(images)]
    lesions = [None if path is None else read_image(path) for path in masks]
    sources = [
        files.source(path, scan, series if n == 0 else None)
        for n, (files, path, scan) in enumerate(zip(all_outputs, images, scans, strict=True))
    ]
    for scan, own in zip(scans, lesions, strict=True):
        if own is not None:  # else it has the first one's, which the registration moves
            check_input(scan, own, settings.label, settings.grow)  # the engine does so again, seconds later
    find_model(settings.model)
    from ..search.device import choose_device

    console.event("device", device=str(choose_device(settings.device)))
    results = inpaint_together(scans, lesions, settings, console.progress)
    with ExitStack() as stack:
        for n, (files, source, scan, result) in enumerate(zip(all_outputs, sources, scans, results, strict=True)):
            files.write(stack, source, scan, result, {"image": images[n].name, "mask": (masks[n] or mask).name})
        with _ignored_signals():
            stack.close()  # renames them
    for n, result in enumerate(results, start=1):
        for warning in result.report["warnings"]:
            console.warning(f"Scan {n}: {warning}" if also else warning)
    return results
