"""The noise level of a scan near the hole, as a function of intensity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..volumes.mask import bounding_box

SURROUNDINGS = 12  # voxels; the noise is measured this close to the hole
ENOUGH = 200  # voxels; with fewer, the noise is taken to be zero
TISSUES = 3  # classes of intensity, of equal size; the noise is measured in each
SECOND_DIFFERENCE = np.array([1.0, -2.0, 1.0]) / np.linalg.norm([1.0, -2.0, 1.0])


@dataclass(frozen=True)
class Noise:
    """The noise of a scan by intensity.

    It differs between tissues, and so does the fine structure that is measured as noise.

    Attributes:
        intensities: (k,), ascending.
        levels: (k,), the noise's standard deviation at each intensity.
    """

    intensities: NDArray[np.float64]
    levels: NDArray[np.float64]

    @property
    def level(self) -> float:
        """The mean standard deviation over all tissues."""
        return float(self.levels.mean())

    def at(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """The noise's standard deviation at these intensities, interpolated linearly; same shape."""
        return np.interp(values, self.intensities, self.levels)


def estimate_noise(image: NDArray[np.floating], hole: NDArray[np.bool_], brain: NDArray[np.bool_]) -> Noise:
    """The scan's noise in the brain around the hole.

    It is the median absolute value of second differences along all three axes, which remove linear structure
    (Immerkaer, "Fast noise variance estimation", CVIU 64(2), 1996; here in 3-D, and robust). The estimate is exact for
    white Gaussian noise and too low for smoothed noise.

    Args:
        image: (z, y, x), the scan; its values inside the hole are ignored.
        hole, brain: (z, y, x).
    """
    box = bounding_box(hole, SURROUNDINGS)
    known = brain[box] & ~hole[box]
    known = ndimage.binary_erosion(known, np.ones([min(3, length) for length in known.shape]))
    if np.count_nonzero(known) < ENOUGH:
        return Noise(np.zeros(1), np.zeros(1))
    differences = second_differences(image[box])[known]
    intensity = ndimage.uniform_filter(image[box].astype(np.float64), 3)[known]  # the mean of 27 voxels, for less noise
    classes = np.array_split(np.argsort(intensity), TISSUES)
    return Noise(
        np.array([np.median(intensity[each]) for each in classes]),
        np.array([robust_deviation(differences[each]) for each in classes]),
    )


def second_differences(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Second differences of an image (z, y, x) along all axes in turn; white noise keeps its standard deviation."""
    differences = image.astype(np.float64)
    for axis, length in enumerate(image.shape):
        if length > 1:
            differences = ndimage.convolve1d(differences, SECOND_DIFFERENCE, axis=axis)
    return differences


def robust_deviation(noise: NDArray[np.float64]) -> float:
    """The standard deviation of Gaussian noise from its median absolute value, which outliers hardly change."""
    return 1.4826 * float(np.median(np.abs(noise)))
