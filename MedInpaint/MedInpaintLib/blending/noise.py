"""The texture that a mean lacks: sharp edges deep in the hole, and the scan's noise.

What is generated is a mean over all that the surroundings allow: smoother than any one brain, and without noise. A fill
like this looks painted, and its classes are too narrow for tools that model a tissue's intensities as a Gaussian.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..volumes.mask import bounding_box

SURROUNDINGS = 12  # voxels round the hole in which the noise is measured
ENOUGH = 200  # voxels; with fewer, the noise counts as none
TISSUES = 3  # classes of intensity, equally large, in which the noise is measured apart
SECOND_DIFFERENCE = np.array([1.0, -2.0, 1.0]) / np.linalg.norm([1.0, -2.0, 1.0])


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


def estimate_noise(image: NDArray[np.floating], hole: NDArray[np.bool_], brain: NDArray[np.bool_]) -> Noise:
    """The scan's noise in the brain round the hole.

    Of the second differences along all three axes one after another, which linear structure does not pass, the median
    absolute value (Immerkaer, "Fast noise variance estimation", CVIU 64(2), 1996, in 3-D and robust): exact for
    white Gaussian noise, too low for noise that was smoothed.

    Args:
        image: (z, y, x), the scan; what it holds inside the hole is ignored.
        hole, brain: (z, y, x).
    """
    box = bounding_box(hole, SURROUNDINGS)
    known = brain[box] & ~hole[box]
    known = ndimage.binary_erosion(known, np.ones([min(3, length) for length in known.shape]))
    if np.count_nonzero(known) < ENOUGH:
        return Noise(np.zeros(1), np.zeros(1))
    differences = second_differences(image[box])[known]
    intensity = ndimage.uniform_filter(image[box].astype(np.float64), 3)[known]  # as free of noise as may be
    classes = np.array_split(np.argsort(intensity), TISSUES)
    return Noise(
        np.array([np.median(intensity[each]) for each in classes]),
        np.array([robust_deviation(differences[each]) for each in classes]),
    )


def second_differences(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of an image (z, y, x), along all axes one after another; of white noise they have its standard deviation."""
    differences = image.astype(np.float64)
    for axis, length in enumerate(image.shape):
        if length > 1:
            differences = ndimage.convolve1d(differences, SECOND_DIFFERENCE, axis=axis)
    return differences


def robust_deviation(noise: NDArray[np.float64]) -> float:
    """The standard deviation of Gaussian noise, whatever outliers there are."""
    return 1.4826 * float(np.median(np.abs(noise)))
