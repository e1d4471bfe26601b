"""The noise of a scan near the hole: its level by intensity, and how far it is correlated between voxels.

Scans are often resampled, so that neighbouring voxels share noise. Second differences over one voxel see little of such
noise, those over two voxels see nearly all of it. The ratio of the two gives the width of the correlation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..space.case import Case
from ..volumes.image import spacing_zyx
from ..volumes.mask import bounding_box

SURROUNDINGS = 12  # voxels; the noise is measured this close to the hole
ENOUGH = 200  # voxels; with fewer, the noise is taken to be zero, or white
TISSUES = 3  # classes of intensity, of equal size; the noise is measured in each
WHITE_MATTER = 0.62  # model intensity from which a generated voxel counts as white matter
EDGE = 0.06  # model intensity per mm; generated voxels with a larger gradient are no plain tissue
WIDTHS = np.linspace(0, 1, 101)  # voxels: standard deviations of a Gaussian that white noise was smoothed with


@dataclass(frozen=True)
class Noise:
    """The noise of a scan by intensity.

    It differs between tissues, and so does the fine structure that is measured as noise.

    Attributes:
        intensities: (k,), ascending.
        levels: (k,), the noise's standard deviation at each intensity.
        width: voxels; the noise is white noise smoothed with a Gaussian of this standard deviation.
    """

    intensities: NDArray[np.float64]
    levels: NDArray[np.float64]
    width: float = 0.0

    @property
    def level(self) -> float:
        """The mean standard deviation over all tissues."""
        return float(self.levels.mean())

    @property
    def white_level(self) -> float:
        """The standard deviation of white noise that has the same power at low frequencies."""
        kernel = _kernel(self.width)
        correlated_voxels = (kernel.sum() ** 2 / (kernel**2).sum()) ** 3
        return self.level * float(np.sqrt(correlated_voxels))

    def at(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """The noise's standard deviation at these intensities, interpolated linearly; same shape."""
        return np.interp(values, self.intensities, self.levels)


def white_matter(case: Case, tissue: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Known voxels where G(z) shows plain white matter, bool (z, y, x).

    Args:
        tissue: (z, y, x), G(z) without the residual on the scan's grid, in the model's own intensities.
    """
    slopes = [
        np.gradient(tissue, step, axis=axis)
        for axis, step in enumerate(spacing_zyx(case.scan))
        if tissue.shape[axis] > 1
    ]
    plain = (tissue > WHITE_MATTER) & (sum(slope**2 for slope in slopes) < EDGE**2)
    return plain & case.alignment.brain & ~case.hole & (case.values != 0)


def estimate_noise(
    image: NDArray[np.floating],
    hole: NDArray[np.bool_],
    brain: NDArray[np.bool_],
    white_matter: NDArray[np.bool_] | None = None,
) -> Noise:
    """The scan's noise in the brain around the hole.

    It is the median absolute value of second differences along all three axes, which remove linear structure
    (Immerkaer, "Fast noise variance estimation", CVIU 64(2), 1996; here in 3-D, and robust), corrected for the
    correlation of the noise, which is measured in plain white matter.

    Args:
        image: (z, y, x), the scan; its values inside the hole are ignored.
        hole, brain: (z, y, x).
        white_matter: bool (z, y, x), known voxels of plain tissue; None takes the noise to be white.
    """
    box = bounding_box(hole, SURROUNDINGS)
    known = brain[box] & ~hole[box]
    known = ndimage.binary_erosion(known, np.ones([min(3, length) for length in known.shape]))
    if np.count_nonzero(known) < ENOUGH:
        return Noise(np.zeros(1), np.zeros(1))
    differences = second_differences(image[box])[known]
    intensity = ndimage.uniform_filter(image[box].astype(np.float64), 3)[known]  # reduces the noise
    classes = np.array_split(np.argsort(intensity), TISSUES)
    width, most = (0.0, np.inf) if white_matter is None else _correlation(image[box], white_matter[box])
    levels = np.array([robust_deviation(differences[each]) for each in classes]) / np.sqrt(kept_share(width, 1))
    return Noise(np.array([np.median(intensity[each]) for each in classes]), np.minimum(levels, most), width)


def second_differences(image: NDArray[np.floating], step: int = 1) -> NDArray[np.float64]:
    """Second differences of an image (z, y, x) over so many voxels along all axes, one after another.

    For white noise they keep the standard deviation.
    """
    kernel = np.zeros(2 * step + 1)
    kernel[[0, step, -1]] = np.array([1, -2, 1]) / np.sqrt(6)
    differences = image.astype(np.float64)
    for axis, length in enumerate(image.shape):
        if length > 1:
            differences = ndimage.convolve1d(differences, kernel, axis=axis)
    return differences


def robust_deviation(values: NDArray[np.floating]) -> float:
    """The standard deviation of Gaussian values, from the median of their absolute values; outliers do not matter."""
    return 1.4826 * float(np.median(np.abs(values)))


def kept_share(width: float, step: int) -> float:
    """The share of the noise's variance that second differences over so many voxels keep, for a correlation width."""
    near, far = (_lag_correlation(width, k * step) for k in (1, 2))
    return ((6 - 8 * near + 2 * far) / 6) ** 3


def _lag_correlation(width: float, lag: int) -> float:
    """The correlation of two voxels so many voxels apart along an axis, in white noise smoothed with a Gaussian."""
    kernel = _kernel(width)
    return float((kernel[lag:] * kernel[: len(kernel) - lag]).sum() / (kernel**2).sum())


def _kernel(width: float) -> NDArray[np.float64]:
    """The sampled Gaussian of this standard deviation, voxels from -8 to 8."""
    with np.errstate(divide="ignore", invalid="ignore"):
        kernel = np.exp(-(np.arange(-8, 9) ** 2) / (2 * width**2))
    return np.nan_to_num(kernel, nan=1.0)  # width 0: the voxel itself


def _correlation(image: NDArray[np.floating], tissue: NDArray[np.bool_]) -> tuple[float, float]:
    """The width of the noise's correlation in voxels, and the largest standard deviation that the noise can have.

    The width is 0 if the noise is white or cannot be told from structure; the largest deviation is then infinite. It is
    that of differences over two voxels in plain white matter, and it holds for all tissues: in grey matter, structure
    would be taken for much correlated noise.
    """
    variances = []
    for step in (1, 2, 3):
        inside = ndimage.minimum_filter(tissue.astype(np.uint8), 2 * step + 1, mode="constant") > 0
        if np.count_nonzero(inside) < ENOUGH:
            return 0.0, np.inf
        variances.append(robust_deviation(second_differences(image, step)[inside]) ** 2)
    one, two, three = variances
    most = float(np.sqrt(two))
    # The variance of noise is the same over 2 and 3 voxels; that of structure grows with the square of the distance.
    two -= max(three - two, 0) * 2**2 / (3**2 - 2**2)
    if two <= one or not one:
        return 0.0, np.inf
    ratios = np.array([kept_share(width, 1) / kept_share(width, 2) for width in WIDTHS])  # falls with the width
    return float(np.interp(-one / two, -ratios, WIDTHS)), most
