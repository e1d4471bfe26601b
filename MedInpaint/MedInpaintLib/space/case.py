"""A case: a checked scan and its hole, aligned with the model's space and cut into slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..volumes.image import check_scan, scan_values, spacing_zyx
from ..volumes.mask import enlarge, hole_on_grid, next_voxels
from .alignment import Alignment, align
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
    """

    scan: sitk.Image
    values: np.ndarray
    hole: np.ndarray
    template: Template
    alignment: Alignment
    slices: Slices

    def crop(self, box: tuple[slice, ...]) -> Case:
        """The case cut to a box (z, y, x) of the scan's voxels. The slices stay as they are."""
        alignment = replace(self.alignment, brain=self.alignment.brain[box])
        scan, values, hole = self.scan[box[::-1]], self.values[box], self.hole[box]
        return replace(self, scan=scan, values=values, hole=hole, alignment=alignment)

    def without_rim(self, width: float) -> Case:
        """The same case, but its slices do not know the brain this close (mm) to the hole, nor the next voxel."""
        wide = enlarge(self.hole, self.alignment.brain, spacing_zyx(self.scan), width)
        wide |= next_voxels(self.hole) & self.alignment.brain
        floor = self.slices.floor
        slices = cut_slices(self.scan, _signal(self.values, floor), wide, self.alignment, self.template)
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
