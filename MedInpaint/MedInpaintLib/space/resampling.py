"""Images on another grid, through an affine transform from the grid's points to the image's points (mm)."""

from __future__ import annotations

from itertools import product

import numpy as np
import SimpleITK as sitk

from ..volumes.image import affine


def resample_mask(mask: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> np.ndarray:
    """A binary image on another grid, bool (z, y, x): linear interpolation, then a threshold of 0.5."""
    return resample(sitk.Cast(mask, sitk.sitkFloat32), grid, transform, sitk.sitkLinear) >= 0.5


def resample(image: sitk.Image, grid: sitk.Image, transform: sitk.Transform, interpolator: int) -> np.ndarray:
    """An image on another grid (z, y, x), 0 outside the image. Only the box that holds the image is computed."""
    result = np.zeros(grid.GetSize()[::-1], sitk.GetArrayViewFromImage(image).dtype)
    box = covered_box(image, grid, transform)
    if all(side.start < side.stop for side in box):
        part = sitk.Resample(image, grid[box[::-1]], transform, interpolator, 0.0)
        result[box] = sitk.GetArrayViewFromImage(part)  # a view does not keep its image alive
    return result


def covered_box(image: sitk.Image, grid: sitk.Image, transform: sitk.Transform, margin: int = 0) -> tuple[slice, ...]:
    """The box (z, y, x) of a grid that holds all of an image, enlarged by a margin in voxels of the grid."""
    sides = [(-0.5, length - 0.5) for length in image.GetSize()]
    to_grid = np.linalg.inv(to_matrix(transform) @ affine(grid)) @ affine(image)
    corners = np.array([(*corner, 1.0) for corner in product(*sides)]) @ to_grid.T
    low, high = np.floor(corners.min(axis=0)) - margin, np.ceil(corners.max(axis=0)) + 1 + margin
    spans = zip(low[:3], high[:3], grid.GetSize(), strict=True)
    return tuple(slice(int(np.clip(a, 0, length)), int(np.clip(b, 0, length))) for a, b, length in spans)[::-1]


def to_matrix(transform: sitk.Transform) -> np.ndarray:
    """An affine transform as a homogeneous 4 x 4 matrix (mm)."""
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    matrix[:3, :3] = np.array([transform.TransformPoint(axis) for axis in np.eye(3).tolist()]).T - matrix[:3, 3:]
    return matrix


def to_transform(matrix: np.ndarray) -> sitk.AffineTransform:
    """The affine transform with this homogeneous 4 x 4 matrix (mm): the inverse of `to_matrix`."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return transform
