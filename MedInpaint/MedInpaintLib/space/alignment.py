"""Scan <-> model space: an affine transform found by registration, the lesion left out of the metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import InputError
from .registration import WORKING_SPACING, register, shrink_scan, shrink_to_spacing
from .resampling import carry
from .template import Template

POOR_QUALITY = 0.6  # correlation with the template; well aligned T1w scans reach 0.75 to 0.95


@dataclass(frozen=True)
class Alignment:
    """Where a scan lies in model space.

    Attributes:
        transform: affine; takes a template point to the scan's point (mm, LPS).
        brain: bool (z, y, x) on the scan's grid: the template's brain carried over; for a brain-extracted
            scan cut to its non-zero voxels.
        quality: Pearson correlation of the scan with the template in the known brain, -1 to 1.
        extracted: True if the scan has no head outside the brain.
    """

    transform: sitk.AffineTransform
    brain: np.ndarray
    quality: float
    extracted: bool

    @property
    def poor(self) -> bool:
        """True if the result should not be trusted without a look."""
        return self.quality < POOR_QUALITY


def align(scan: sitk.Image, values: np.ndarray, hole: np.ndarray, template: Template) -> Alignment:
    """Register the template to a scan: similarity, then affine, by Mattes mutual information.

    Args:
        scan: gives the geometry.
        values: float32 (z, y, x), the scan's voxels, all finite.
        hole: bool (z, y, x), left out of the metric.
        template: the model's template.

    Raises InputError if there is too little known tissue, or too few slices, to register.

    Source: Mattes et al., IEEE Trans. Med. Imaging 22(1), 2003.
    """
    moving, known = shrink_scan(scan, values, hole)
    extracted = is_brain_extracted(values, hole)
    try:
        transform = register(template, moving, known, extracted)
        if extracted and not _empty_around_brain(moving, template, transform):
            extracted = False  # a cropped head on zeros looked like a brain
            transform = register(template, moving, known, extracted)
    except RuntimeError as error:  # ITK found nothing to compare
        raise InputError(
            "The scan cannot be aligned with the model: check that it shows a brain, of which the mask leaves most."
        ) from error
    brain = carry(template.brain, scan, transform.GetInverse())
    if extracted:
        brain &= ndimage.binary_fill_holes((values != 0) | hole)
    return Alignment(transform, brain, _correlation(template, moving, known, transform), extracted)


def is_brain_extracted(values: np.ndarray, hole: np.ndarray) -> bool:
    """True if over 30 % of the volume is exactly zero, and over 70 % of its faces; the hole does not count."""
    empty = (values == 0) & ~hole
    faces = np.concatenate([np.take(empty, side, axis).ravel() for axis in range(3) for side in (0, -1)])
    return bool(empty.mean() > 0.3 and faces.mean() > 0.7)


def _on_template(moving, known, template, transform):
    """Shrunk scan and its known voxels on a 3 mm template grid."""
    grid = shrink_to_spacing(template.image, WORKING_SPACING)
    scan = sitk.Resample(moving, grid, transform, sitk.sitkLinear, 0.0)
    inside = sitk.Resample(known, grid, transform, sitk.sitkNearestNeighbor, 0)
    brain = sitk.Resample(template.brain, grid, sitk.Transform(), sitk.sitkNearestNeighbor)
    return (sitk.GetArrayFromImage(image) for image in (grid, scan, inside, brain))


def _correlation(template, moving, known, transform) -> float:
    grid, scan, inside, brain = _on_template(moving, known, template, transform)
    chosen = (brain > 0) & (inside > 0)
    if chosen.sum() < 100 or scan[chosen].std() == 0:
        return 0.0
    return float(np.corrcoef(grid[chosen], scan[chosen])[0, 1])


def _empty_around_brain(moving, template, transform) -> bool:
    """True if there is next to nothing from 9 to 18 mm outside the brain."""
    known = sitk.Cast(moving * 0 + 1, sitk.sitkUInt8)
    _, scan, inside, brain = _on_template(moving, known, template, transform)
    near = ndimage.distance_transform_edt(brain == 0, sampling=WORKING_SPACING)
    shell = (near > 9) & (near < 18) & (inside > 0)
    return not shell.any() or float((scan[shell] > 0.05).mean()) < 0.25
