"""The texture that a mean lacks: sharp edges deep in the hole, and the scan's noise.

What is generated is a mean over all that the surroundings allow: smoother than any one brain, and without noise. A fill
like this looks painted, and its classes are too narrow for tools that model a tissue's intensities as a Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..volumes.mask import bounding_box
from .noise import Noise, robust_deviation, second_differences

# Sharpening as here raises SSIM in holes of 12 mm and more; much more of it costs more than it gains.
SHARPENING, DETAIL = 1.0, 0.8  # how many times what a Gaussian of so many mm takes away is added
SHARP = 3.0, 6.0  # mm into the hole: where the sharpening begins, and where it is whole


def sharpen(
    source: NDArray[np.float32], hole: NDArray[np.bool_], spacing: Sequence[float] | np.ndarray
) -> NDArray[np.float32]:
    """The generated content with sharper edges where the hole is deep (unsharp masking), (z, y, x).

    Args:
        source: (z, y, x), what was generated.
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
    """White Gaussian noise (n,) for the hole's voxels, in the order of `filled[hole]`: as much as they lack.

    Args:
        filled: (z, y, x), the scan with its hole filled.
        hole: (z, y, x).
        noise: the scan's.
        seed: of the draw.
    """
    box = bounding_box(hole, 1)
    own = robust_deviation(second_differences(filled[box])[hole[box]])
    lacking = np.sqrt(np.maximum(noise.at(filled[hole]) ** 2 - own**2, 0))
    return np.random.default_rng(seed).standard_normal(len(lacking)) * lacking
