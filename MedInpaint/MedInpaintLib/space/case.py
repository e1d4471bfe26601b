"""A case: a checked scan and its hole, aligned with the model's space and cut into slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..volumes.image import check_scan, move, scan_values, spacing_zyx
from ..volumes.mask import enlarge, hole_on_grid
from .alignment import Alignment, align, align_like, find_motion, shrink_brain
from .intensities import intensity_floor
from .slices import Slices, cut_slices
from .template import Template


@dataclass(frozen=True)
class Case:
    """A scan and its hole, aligned with a model's space.

    Attributes:
        scan: the input image.
        values: float32 (z, y, x), its voxels.
        hole: bool (z, y, x).
        template: of the model.
        alignment: scan <-> template.
        slices: the model-space slices that the hole touches, and their neighbours.
        moved: mm, how far the brain lies from where the first scan and the headers say, on average.
    """

    scan: sitk.Image
    values: np.ndarray
    hole: np.ndarray
    template: Template
    alignment: Alignment
    slices: Slices
    moved: float = 0.0

    def crop(self, box: tuple[slice, ...]) -> Case:
        """The case cut to a box (z, y, x) of the scan's voxels. The slices stay as they are."""
        alignment = replace(self.alignment, brain=self.alignment.brain[box])
        scan, values, hole = self.scan[box[::-1]], self.values[box], self.hole[box]
        return replace(self, scan=scan, values=values, hole=hole, alignment=alignment)

    def without(self, voxels: np.ndarray | None, heights: np.ndarray | None = None) -> Case:
        """The same case, but its slices do not know these voxels, bool (z, y, x); None: they know all but the hole.

        `heights` are those of `cut_slices`.
        """
        wide = self.hole if voxels is None else self.hole | voxels
        floor = self.slices.floor
        slices = cut_slices(self.scan, _signal(self.values, floor), wide, self.alignment, self.template, heights)
        return replace(self, slices=replace(slices, floor=floor))


def prepare_case(
    image: sitk.Image,
    mask: sitk.Image,
    template: Template,
    label: int | None = None,
    grow: float = 0.0,
    progress: Callable[[float, str], None] = lambda done, message: None,
    align: Callable[[sitk.Image, np.ndarray, np.ndarray, Template], Alignment] = align,
) -> Case:
    """Check the input, align the scan and cut it into slices. Raises InputError if the input cannot be used.

    `label` and `grow` are those of Settings. `progress` is called with the done fraction and a message, and may raise
    Cancelled. `align` finds the alignment; see `space.alignment.align`.
    """
    progress(0.0, "registering the model's template to the scan")
    values, hole = check_input(image, mask, label, grow)
    floor = intensity_floor(values, hole)
    signal = _signal(values, floor)
    alignment = align(image, signal, hole, template)
    inside, brain = np.count_nonzero(hole & alignment.brain), np.count_nonzero(alignment.brain)
    if inside == 0:
        raise InputError("The mask lies outside the brain: check that it belongs to this scan.")
    if inside > 0.5 * brain:
        raise InputError("The mask covers more than half of the brain: mark the lesion only.")
    if np.count_nonzero(hole) > brain:
        raise InputError("The mask is larger than the brain: mark the lesion only.")
    progress(0.6, "cutting the scan into the model's slices")
    slices = replace(cut_slices(image, signal, hole, alignment, template), floor=floor)
    return Case(image, values, hole, template, alignment, slices)


def prepare_cases(
    images: Sequence[sitk.Image],
    masks: Sequence[sitk.Image | None],
    template: Template,
    label: int | None = None,
    grow: float = 0.0,
    progress: Callable[[float, str], None] = lambda done, message: None,
    align: Callable[[sitk.Image, np.ndarray, np.ndarray, Template], Alignment] = align,
) -> list[Case]:
    """As `prepare_case`, for several scans of one head; all have the same slices.

    The first scan is aligned with the template, and the others are registered to the first one. A scan without a mask
    has that of the first, moved as the scan is. The messages of InputError say which scan they are about. The further
    scans are prepared side by side; `progress` is called between them.
    """
    count, first_mask = len(images), masks[0]
    if first_mask is None:
        raise InputError("The first scan has no mask: give the lesion that is to be filled.")

    def part(done: float, message: str, n: int = 0) -> None:
        progress((n + done) / count, message if count == 1 else f"scan {n + 1} of {count}: {message}")

    with _naming(1, count):
        first = prepare_case(images[0], first_mask, template, label, grow, part, align)
    if count == 1:
        return [first]
    shrunk = shrink_brain(first.scan, first.values, first.hole, first.alignment.brain)
    further = partial(_further_case, first, shrunk, first_mask, label=label, grow=grow)
    cases = [first]
    with ThreadPoolExecutor() as pool:  # ITK and numpy work while other threads run
        waiting = [pool.submit(further, *given) for given in zip(images[1:], masks[1:], strict=True)]
        for n, future in enumerate(waiting, start=1):
            part(0.0, "registering the scan to the first one", n)
            with _naming(n + 1, count):
                cases.append(future.result())
    return cut_together(cases, [None] * count)


@contextmanager
def _naming(number: int, count: int) -> Iterator[None]:
    """Errors in the input say which one of several scans they are about."""
    try:
        yield
    except InputError as error:
        if count == 1:
            raise
        raise InputError(f"Scan {number}: {error}") from error


def cut_together(cases: Sequence[Case], left_out: Sequence[np.ndarray | None]) -> list[Case]:
    """The cases without these voxels, as in `Case.without`, with the slices that any of them needs."""
    cut = [case if voxels is None else case.without(voxels) for case, voxels in zip(cases, left_out, strict=True)]
    heights = np.unique(np.concatenate([case.slices.heights for case in cut]))
    return [
        case if np.array_equal(case.slices.heights, heights) else case.without(voxels, heights)
        for case, voxels in zip(cut, left_out, strict=True)
    ]


def _further_case(
    first: Case,
    shrunk: tuple[sitk.Image, np.ndarray],
    first_mask: sitk.Image,
    image: sitk.Image,
    mask: sitk.Image | None,
    label: int | None,
    grow: float,
) -> Case:
    check_scan(image)
    if mask is None:
        own = ~np.isfinite(sitk.GetArrayFromImage(image).astype(np.float32))
    else:
        own = hole_on_grid(mask, image, label)
    motion, moved = find_motion(first.scan, shrunk, image, scan_values(image, own), own)
    if mask is None:
        mask = move(first_mask, motion)
    alike = partial(align_like, first.alignment, motion)
    case = prepare_case(image, mask, first.template, label, grow, align=alike)
    return replace(case, moved=moved)


def check_input(image: sitk.Image, mask: sitk.Image, label: int | None, grow: float) -> tuple[np.ndarray, np.ndarray]:
    """Check the scan and the mask; return the scan's voxels, float32, and its hole, bool, both (z, y, x).

    `label` and `grow` are those of Settings. Raises InputError if the scan or the mask cannot be used.
    """
    check_scan(image)
    hole = hole_on_grid(mask, image, label)
    values = scan_values(image, hole)
    return values, enlarge(hole, values != 0, spacing_zyx(image), grow)


def _signal(values: np.ndarray, floor: float) -> np.ndarray:
    """The scan's voxels above the floor, 0 below it."""
    return np.where(values == 0, 0, np.maximum(values - floor, 0)) if floor else values
