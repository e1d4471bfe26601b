"""Lesions that experts outlined in one scan, and where they lie in the brain of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...errors import InputError
from ...space.alignment import Alignment, align
from ...space.resampling import resample_mask
from ...space.template import Template
from ...volumes.image import check_scan, like, scan_values
from ...volumes.mask import hole_on_grid
from ...volumes.read import read_image
from .shapes import lesion_hole
from .subjects import Subject, stem


@dataclass(frozen=True)
class Lesions:
    """Lesion masks on the grid of one scan, and the alignment of this scan with model space."""

    masks: tuple[Path, ...]
    scan: sitk.Image
    alignment: Alignment

    def on(self, index: int, subject: Subject) -> NDArray[np.bool_]:
        """The mask of this index at the same place of the subject's brain, clipped to the brain: bool (z, y, x).

        Raises InputError if no voxel of the mask lies in the brain.
        """
        voxels = hole_on_grid(read_image(self.masks[index]), self.scan)
        mask = like(self.scan, voxels.astype(np.uint8))
        to_lesions = scan_to_scan(subject.alignment, self.alignment)
        hole = lesion_hole(resample_mask(mask, subject.scan, to_lesions), subject.brain)
        if not hole.any():
            raise InputError(f"'{self.masks[index].name}' misses the brain of {subject.name}: leave one of them out.")
        return hole


def read_lesions(masks: Sequence[Path], scan_path: Path, template: Template) -> Lesions:
    """Align the scan that the masks were drawn on. The alignment does not use the voxels of the scan's lesions.

    The lesions of the scan are the masks with the same first word: patient26_* for patient26_T1.nii.gz. Masks of other
    patients may be on the same grid.
    """
    scan = read_image(scan_path)
    check_scan(scan)
    lesions = np.zeros(scan.GetSize()[::-1], bool)
    for path in masks:
        if stem(path).split("_")[0] == stem(scan_path).split("_")[0]:
            lesions |= hole_on_grid(read_image(path), scan)
    return Lesions(tuple(masks), scan, align(scan, scan_values(scan, lesions), lesions, template))


def scan_to_scan(here: Alignment, there: Alignment) -> sitk.CompositeTransform:
    """The transform from a point of one aligned scan to the same place of the brain in another aligned scan."""
    return sitk.CompositeTransform([there.transform, here.transform.GetInverse()])  # ITK applies the last one first
