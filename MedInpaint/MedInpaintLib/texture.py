"""The texture that a mean lacks: sharp edges deep in the hole, and the scan's noise.

What is generated is a mean over all that the surroundings allow: smoother than any one brain, and without noise. A fill
like this looks painted, and its classes are too narrow for tools that model a tissue's intensities as a Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SURROUNDINGS = 12  # voxels round the hole in which the noise is measured
ENOUGH = 200  # voxels; with fewer, the noise counts as none
SECOND_DIFFERENCE = np.array([1.0, -2.0, 1.0])
NOISY = 2.0  # mm: so far into the hole the blending continues the scan's own noise
# Sharpening as here raises SSIM in holes of 12 mm and more; twice as much of it costs more than it gains.
SHARPENING, DETAIL = 2.0, 0.8  # how many times what a Gaussian of so many mm takes away is added
SHARP = 3.0, 6.0  # mm into the hole: where the sharpening begins, and where it is whole


def noise_level(image: NDArray[np.floating], hole: NDArray[np.bool_], brain: NDArray[np.bool_]) -> float:
    """Standard deviation of the scan's noise in the brain round the hole.

    Of the second differences along all three axes one after another, which linear structure does not pass, the median
    absolute value (Immerkaer, "Fast noise variance estimation", CVIU 64(2), 1996, in 3-D and robust): exact for
    white Gaussian noise, too low for noise that was smoothed.

    Args:
        image: (z, y, x), the scan; what it holds inside the hole is ignored.
        hole, brain: (z, y, x).
    """
    box = _box(hole, SURROUNDINGS)
    known = ndimage.binary_erosion(brain[box] & ~hole[box], np.ones((3, 3, 3)))
    if np.count_nonzero(known) < ENOUGH:
        return 0.0
    return 1.4826 * float(np.median(np.abs(second_differences(image[box])[known])))


def second_differences(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of an image (z, y, x), along all axes one after another; of white noise they have its standard deviation."""
    differences = image.astype(np.float64)
    for axis, length in enumerate(image.shape):
        if length > 1:
            weights = SECOND_DIFFERENCE / np.linalg.norm(SECOND_DIFFERENCE)
            differences = ndimage.convolve1d(differences, weights, axis=axis)
    return differences


def sharpened(source: NDArray[np.float32], hole: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float32]:
    """The generated content with sharper edges where the hole is deep (unsharp masking), (z, y, x).

    Args:
        source: (z, y, x), what was generated.
        hole: (z, y, x), the only voxels that change.
        spacing: voxel size along (z, y, x) in mm.
    """
    sigmas = DETAIL / np.asarray(spacing)
    box = _box(hole, int(np.ceil(4 * sigmas.max())))
    begin, whole = SHARP
    depth = ndimage.distance_transform_edt(hole[box], sampling=spacing)
    strength = SHARPENING * np.clip((depth - begin) / (whole - begin), 0, 1)
    result = source.copy()
    result[box] += strength * (source[box] - ndimage.gaussian_filter(source[box], sigmas))
    return result


def grain(hole: NDArray[np.bool_], spacing: Sequence[float], noise: float, seed: int) -> NDArray[np.float64]:
    """White Gaussian noise (n,) for the hole's voxels, in the order of `image[hole]`; less of it near the border.

    Args:
        hole: (z, y, x).
        spacing: voxel size along (z, y, x) in mm.
        noise: its standard deviation.
        seed: of the draw.
    """
    inside = hole[_box(hole, 1)]
    depth = ndimage.distance_transform_edt(inside, sampling=spacing)[inside]
    return np.random.default_rng(seed).normal(0, noise, depth.size) * np.minimum(depth / NOISY, 1)


def _box(hole: NDArray[np.bool_], margin: int) -> tuple[slice, ...]:
    spans = ndimage.find_objects(hole.astype(np.uint8))[0]
    return tuple(slice(max(span.start - margin, 0), span.stop + margin) for span in spans)
