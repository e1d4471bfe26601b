"""Scan <-> model space: an affine transform found by registration, the lesion left out of the metric."""

from __future__ import annotations

from itertools import product

import numpy as np
import SimpleITK as sitk

from ..volumes.image import affine


def carry(mask: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> np.ndarray:
    """A binary image on another grid: bool (z, y, x). The transform takes the grid's points to the mask's."""
    return resampled(sitk.Cast(mask, sitk.sitkFloat32), grid, transform, sitk.sitkLinear) >= 0.5


def resampled(image: sitk.Image, grid: sitk.Image, transform: sitk.Transform, interpolator: int) -> np.ndarray:
    """An image on another grid (z, y, x), 0 where that lies beyond it; time grows with the part that does not.

    The transform, affine, takes the grid's points to the image's.
    """
    result = np.zeros(grid.GetSize()[::-1], sitk.GetArrayViewFromImage(image).dtype)
    box = covered(image, grid, transform)
    if all(side.start < side.stop for side in box):
        part = sitk.Resample(image, grid[box[::-1]], transform, interpolator, 0.0)
        result[box] = sitk.GetArrayViewFromImage(part)  # a view does not keep its image alive
    return result


def covered(image: sitk.Image, grid: sitk.Image, transform: sitk.Transform, margin: int = 0) -> tuple[slice, ...]:
    """The box (z, y, x) of a grid's voxels that holds an image, its voxels whole, and a margin in the grid's voxels.

    The transform, affine, takes the grid's points to the image's.
    """
    sides = [(-0.5, length - 0.5) for length in image.GetSize()]
    to_grid = np.linalg.inv(to_matrix(transform) @ affine(grid)) @ affine(image)
    corners = np.array([(*corner, 1.0) for corner in product(*sides)]) @ to_grid.T
    low, high = np.floor(corners.min(axis=0)) - margin, np.ceil(corners.max(axis=0)) + 1 + margin
    spans = zip(low[:3], high[:3], grid.GetSize(), strict=True)
    return tuple(slice(int(np.clip(a, 0, length)), int(np.clip(b, 0, length))) for a, b, length in spans)[::-1]


def to_matrix(transform: sitk.Transform) -> np.ndarray:
    """An affine transform as a 4 x 4 homogeneous matrix (mm)."""
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    matrix[:3, :3] = np.array([transform.TransformPoint(axis) for axis in np.eye(3).tolist()]).T - matrix[:3, 3:]
    return matrix
