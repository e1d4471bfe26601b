"""How good a fill is, measured inside the hole against the truth that was taken away.

truth and fill are real arrays (z, y, x), equal outside the hole; hole and brain are bool (z, y, x); spacing is
(sz, sy, sx) in mm; data_range is the intensity that counts as full scale, see brain_range. Every function raises
InputError if the hole is empty or the arrays are not on one grid.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import InputError
from ..volumes.mask import bounding_box

RING = 2  # voxels: the known tissue the seam is compared with
Real = NDArray[np.floating]
Mask = NDArray[np.bool_]


def brain_range(truth: Real, brain: Mask) -> float:
    """Full scale: the 99.5th percentile of the brain, which a few bright vessels do not move."""
    _check(brain, truth, name="brain")
    full_scale = float(np.percentile(truth[brain], 99.5))
    if not full_scale > 0:
        raise InputError(f"The brain's 99.5th percentile is {full_scale:g}; give a scan with positive intensities.")
    return full_scale


def psnr(truth: Real, fill: Real, hole: Mask, data_range: float) -> float:
    """Peak signal-to-noise ratio over the hole, in dB; infinite if truth and fill are equal there."""
    mean_square = np.square(_error(truth, fill, hole)).mean()
    return float(10 * np.log10(data_range**2 / mean_square)) if mean_square else float("inf")


def seam(fill: Real, hole: Mask, spacing: Sequence[float], brain: Mask | None = None) -> float:
    """How visible the hole's border is: the jump across it over the jump between neighbours near it; 1: invisible.

    Across: mean absolute difference per mm between a hole voxel and a known face neighbour. Near: the same between
    two known face neighbours within 2 voxels of the hole. The second takes the axes in the proportions they have in
    the first, so that thick slices or a flat hole do not count as a seam. With brain given, only pairs inside it
    count: a hole that reaches the brain's surface is not blamed for the surface's own edge.

    Not a number if there is no known neighbour to compare with.
    """
    _check(hole, fill)
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
    return _ratio(border, near) if compared else float("nan")


def _error(truth: Real, fill: Real, hole: Mask) -> NDArray[np.float64]:
    _check(hole, truth, fill)
    return fill[hole].astype(np.float64) - truth[hole]


def _pairs(mask: Mask, axis: int) -> Iterator[Mask]:
    """The two ends of every pair of neighbours along an axis."""
    moved = np.moveaxis(mask, axis, 0)
    return (np.moveaxis(ends, 0, axis) for ends in (moved[:-1], moved[1:]))


def _ratio(value: float, reference: float) -> float:
    if reference:
        return float(value / reference)
    return float("inf") if value else 1.0


def _check(mask: Mask, *images: Real, name: str = "hole") -> None:
    if mask.dtype != bool or not mask.any():
        raise InputError(f"The {name} is empty or not boolean; give a boolean mask with at least one voxel.")
    if any(image.shape != mask.shape for image in images):
        shapes = ", ".join(str(image.shape) for image in images)
        raise InputError(f"The {name} is {mask.shape} and the images are {shapes}; resample them to one grid.")
