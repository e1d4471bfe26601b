"""The texture that a mean lacks: sharp edges deep in the hole, and the scan's noise.

What is generated is a mean over all that the surroundings allow: smoother than any one brain, and without noise. A fill
like this looks painted, and its classes are too narrow for tools that model a tissue's intensities as a Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .image import box_round

SURROUNDINGS = 12  # voxels round the hole in which the noise is measured
ENOUGH = 200  # voxels; with fewer, the noise counts as none
TISSUES = 3  # classes of intensity, equally large, in which the noise is measured apart
SECOND_DIFFERENCE = np.array([1.0, -2.0, 1.0]) / np.linalg.norm([1.0, -2.0, 1.0])
# Sharpening as here raises SSIM in holes of 12 mm and more; much more of it costs more than it gains.
SHARPENING, DETAIL = 1.0, 0.8  # how many times what a Gaussian of so many mm takes away is added
SHARP = 3.0, 6.0  # mm into the hole: where the sharpening begins, and where it is whole


@dataclass(frozen=True)
class Noise:
    """A scan's noise by intensity, as tissues differ in it, and more so in the fine structure that counts as noise.

    Attributes:
        intensities: (k,), ascending.
        levels: (k,), standard deviations.
    """

    intensities: NDArray[np.float64]
    levels: NDArray[np.float64]

    @property
    def level(self) -> float:
        """Of all tissues together."""
        return float(self.levels.mean())

    def at(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """The noise of voxels of these intensities."""
        return np.interp(values, self.intensities, self.levels)


def measured_noise(image: NDArray[np.floating], hole: NDArray[np.bool_], brain: NDArray[np.bool_]) -> Noise:
    """The scan's noise in the brain round the hole.

    Of the second differences along all three axes one after another, which linear structure does not pass, the median
    absolute value (Immerkaer, "Fast noise variance estimation", CVIU 64(2), 1996, in 3-D and robust): exact for
    white Gaussian noise, too low for noise that was smoothed.

    Args:
        image: (z, y, x), the scan; what it holds inside the hole is ignored.
        hole, brain: (z, y, x).
    """
    box = box_round(hole, SURROUNDINGS)
    known = brain[box] & ~hole[box]
    known = ndimage.binary_erosion(known, np.ones([min(3, length) for length in known.shape]))
    if np.count_nonzero(known) < ENOUGH:
        return Noise(np.zeros(1), np.zeros(1))
    differences = second_differences(image[box])[known]
    intensity = ndimage.uniform_filter(image[box].astype(np.float64), 3)[known]  # as free of noise as may be
    classes = np.array_split(np.argsort(intensity), TISSUES)
    return Noise(
        np.array([np.median(intensity[each]) for each in classes]),
        np.array([_deviation(differences[each]) for each in classes]),
    )


def second_differences(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of an image (z, y, x), along all axes one after another; of white noise they have its standard deviation."""
    differences = image.astype(np.float64)
    for axis, length in enumerate(image.shape):
        if length > 1:
            differences = ndimage.convolve1d(differences, SECOND_DIFFERENCE, axis=axis)
    return differences


def sharpened(
    source: NDArray[np.float32], hole: NDArray[np.bool_], spacing: Sequence[float] | np.ndarray
) -> NDArray[np.float32]:
    """The generated content with sharper edges where the hole is deep (unsharp masking), (z, y, x).

    Args:
        source: (z, y, x), what was generated.
        hole: (z, y, x), the only voxels that change.
        spacing: voxel size along (z, y, x) in mm.
    """
    sigmas = DETAIL / np.asarray(spacing)
    box = box_round(hole, int(np.ceil(4 * sigmas.max())))
    begin, whole = SHARP
    depth = ndimage.distance_transform_edt(hole[box], sampling=spacing)
    strength = SHARPENING * np.clip((depth - begin) / (whole - begin), 0, 1)
    result = source.copy()
    result[box] += strength * (source[box] - ndimage.gaussian_filter(source[box], sigmas))
    return result


def grain(filled: NDArray[np.floating], hole: NDArray[np.bool_], noise: Noise, seed: int) -> NDArray[np.float64]:
    """White Gaussian noise (n,) for the hole's voxels, in the order of `filled[hole]`: as much as they lack.

    Args:
        filled: (z, y, x), the scan with its hole filled.
        hole: (z, y, x).
        noise: the scan's.
        seed: of the draw.
    """
    box = box_round(hole, 1)
    own = _deviation(second_differences(filled[box])[hole[box]])
    lacking = np.sqrt(np.maximum(noise.at(filled[hole]) ** 2 - own**2, 0))
    return np.random.default_rng(seed).standard_normal(len(lacking)) * lacking


def _deviation(noise: NDArray[np.float64]) -> float:
    """The standard deviation of Gaussian noise, whatever outliers there are."""
    return 1.4826 * float(np.median(np.abs(noise)))
