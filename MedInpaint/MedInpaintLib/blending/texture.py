"""The texture of the fill: sharper edges deep in the hole, and the scan's noise.

The generated slices are a mean over all brains that fit the surroundings: smoother than any single brain, and without
noise. Such a fill looks painted, and its tissue classes are too narrow for tools that model a tissue's intensities as a
Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..volumes.mask import bounding_box
from .noise import Noise, kept_share, robust_deviation, second_differences

# This much sharpening raises SSIM in holes of 12 mm and more; much more of it lowers the quality.
SHARPENING, DETAIL = 1.0, 0.8  # the factor, and the Gaussian's standard deviation in mm, of the unsharp masking
SHARP = 3.0, 6.0  # mm from the hole's border: where the sharpening begins, and where it is complete


def sharpen(
    source: NDArray[np.float32], hole: NDArray[np.bool_], spacing: Sequence[float] | np.ndarray
) -> NDArray[np.float32]:
    """The generated slices with sharper edges where the hole is deep (unsharp masking), (z, y, x).

    Args:
        source: (z, y, x), the generated slices on the scan's grid.
        hole: (z, y, x), the only voxels that change.
        spacing: voxel size along (z, y, x) in mm.
    """
    sigmas = DETAIL / np.asarray(spacing)
    box = bounding_box(hole, int(np.ceil(4 * sigmas.max())))
    begin, whole = SHARP
    depth = ndimage.distance_transform_edt(hole[box], sampling=spacing)
    strength = SHARPENING * np.clip((depth - begin) / (whole - begin), 0, 1)
    result = source.copy()
    result[box] += strength * (source[box] - ndimage.gaussian_filter(source[box], sigmas))
    return result


def missing_noise(
    filled: NDArray[np.floating], hole: NDArray[np.bool_], noise: Noise, seed: int
) -> NDArray[np.float64]:
    """Gaussian noise that raises the fill's noise to the scan's: (n,), in the order of `filled[hole]`.

    It has the correlation of the scan's noise.

    Args:
        filled: (z, y, x), the scan with its hole filled.
        hole: (z, y, x).
        noise: the scan's noise.
        seed: of the random generator.
    """
    box = bounding_box(hole, 1)
    present = robust_deviation(second_differences(filled[box])[hole[box]]) / np.sqrt(kept_share(noise.width, 1))
    lacking = np.sqrt(np.maximum(noise.at(filled[hole]) ** 2 - present**2, 0))
    white = np.random.default_rng(seed).standard_normal(hole[box].shape)
    drawn = ndimage.gaussian_filter(white, noise.width)[hole[box]]
    return drawn / max(float(drawn.std()), 1e-9) * lacking
