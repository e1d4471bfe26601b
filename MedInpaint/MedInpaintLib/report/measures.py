"""Measures of a fill: against the known truth in the hole, and of the hole's border.

truth and fill are real arrays (z, y, x) that are equal outside the hole; hole and brain are bool (z, y, x); spacing is
(sz, sy, sx) in mm; data_range is the intensity of full scale, see `brain_range`. Each function raises InputError if the
hole is empty or the arrays have different shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import InputError
from ..volumes.mask import bounding_box

RING = 2  # voxels; the seam is compared with the known tissue this close to the hole
Real = NDArray[np.floating]
Mask = NDArray[np.bool_]


def brain_range(truth: Real, brain: Mask) -> float:
    """Full scale: the 99.5th percentile of the brain, which a few bright vessels hardly change."""
    check_mask(brain, truth, name="brain")
    full_scale = float(np.percentile(truth[brain], 99.5))
    if not full_scale > 0:
        raise InputError(f"The brain's 99.5th percentile is {full_scale:g}; give a scan with positive intensities.")
    return full_scale


def psnr(truth: Real, fill: Real, hole: Mask, data_range: float) -> float:
    """Peak signal-to-noise ratio over the hole, in dB; infinite if truth and fill are equal."""
    mean_square = np.square(hole_error(truth, fill, hole)).mean()
    return float(10 * np.log10(data_range**2 / mean_square)) if mean_square else float("inf")


def seam(fill: Real, hole: Mask, spacing: Sequence[float] | NDArray, brain: Mask | None = None) -> float:
    """How visible the hole's border is: the difference across the border over that near the border; 1 is invisible.

    Across: mean absolute difference per mm between a hole voxel and a known face neighbour. Near: the same between two
    known face neighbours within 2 voxels of the hole. Both weight the axes alike, so that thick slices or a flat hole
    do not count as a seam. If a brain is given, only pairs inside it count, so that the edge of the brain's surface
    does not count as a seam.

    NaN if there is no known pair to compare with.
    """
    check_mask(hole, fill)
    box = bounding_box(hole, RING + 1)
    image, hole = np.asarray(fill[box], dtype=np.float64), hole[box]
    inside = np.ones_like(hole) if brain is None else np.asarray(brain[box], dtype=bool)
    ring = ndimage.binary_dilation(hole, iterations=RING) & ~hole & inside

    border = near = 0.0
    compared = False
    for axis, step in enumerate(spacing):
        jump = np.abs(np.diff(image, axis=axis)) / step
        across = np.logical_xor(*_pairs(hole, axis)) & np.logical_and(*_pairs(inside, axis))
        beside = np.logical_and(*_pairs(ring, axis))
        if across.any() and beside.any():
            border += jump[across].sum()
            near += jump[beside].mean() * np.count_nonzero(across)
            compared = True
    return ratio_or_infinity(border, near) if compared else float("nan")


def hole_error(truth: Real, fill: Real, hole: Mask) -> NDArray[np.float64]:
    """Fill minus truth of the hole's voxels, (n,)."""
    check_mask(hole, truth, fill)
    return fill[hole].astype(np.float64) - truth[hole]


def ratio_or_infinity(value: float, reference: float) -> float:
    """value / reference, which is 1 for 0 / 0."""
    if reference:
        return float(value / reference)
    return float("inf") if value else 1.0


def check_mask(mask: Mask, *images: Real, name: str = "hole") -> None:
    """Raise InputError unless the mask is boolean, not empty, and of the same shape as the images."""
    if mask.dtype != bool or not mask.any():
        raise InputError(f"The {name} is empty or not boolean; give a boolean mask with at least one voxel.")
    if any(image.shape != mask.shape for image in images):
        shapes = ", ".join(str(image.shape) for image in images)
        raise InputError(f"The {name} is {mask.shape} and the images are {shapes}; resample them to one grid.")


def _pairs(mask: Mask, axis: int) -> Iterator[Mask]:
    """The first and the second voxels of all pairs of neighbours along an axis."""
    along = np.moveaxis(mask, axis, 0)
    return (np.moveaxis(ends, 0, axis) for ends in (along[:-1], along[1:]))
