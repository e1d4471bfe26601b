"""The scale from scan intensities to model intensities, and the contrast: the curve from the model's to the scan's."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

WHITE_MATTER = 0.75  # model intensity of the brighter half of the known brain
INTENSITY_RULE = "0 stays 0; the mean of the known brain between its 50th and 98th percentile becomes 0.75"
LEVELS = np.linspace(0, 1.2, 13)  # model intensities at which a contrast curve has its values
# Model intensities that show the tissues best: fluid, fluid beside grey matter, grey and white matter.
FLUID, BESIDE, GREY, WHITE = 0.2, 0.3, 0.5, 0.8
CLEARLY = 1.1  # times as bright as grey matter: white matter in T1; in FLAIR the two differ by 5 % or so
SAME_KIND = 0.05  # share of a curve's variance that a line from the other one leaves, if both are one contrast
ALIKE = 0.01  # of the brighter one: grey and white matter that differ by less; in FLAIR they differ by 3 % and more
# Hounsfield units between which white and grey matter lie in a CT: 20 to 30 and 37 to 45, with room for noise and blur.
LEAST_HU, MOST_HU = 15, 50
CONSTANT = 0.5  # of the bright end: a scan with no darker voxels has a constant added
SMOOTHNESS = 3e-4  # of a curve against its fit
STRAIGHT = 0.8  # share of what the curve explains from which a rising straight line is taken in its place
SLOPED = 0.01  # model intensity per mm; tissue is mixed where the average brain changes faster


@dataclass(frozen=True)
class Contrast:
    """How a scan's intensities depend on those of the average brain, which is T1-weighted.

    Attributes:
        values: float (k,), the scan's intensity where the average brain has LEVELS; in any unit.
        explained: share of the variance of the scan's brain that the curve explains, 0 to 1.
        straight: whether a rising straight line explains about as much, as in T1-weighted scans.
    """

    values: NDArray[np.float64] = field(default_factory=LEVELS.copy)
    explained: float = 1.0
    straight: bool = True


def measure_contrast(average: NDArray[np.floating], scan: NDArray[np.floating], weight: NDArray) -> Contrast:
    """The contrast of a scan from voxels of its brain, all arrays (n,).

    Lesions hardly matter, because medians are fitted.

    Args:
        average: the average brain.
        scan: the scan at the same places, in any unit.
        weight: of each voxel, 0 or more; it is small where the average brain mixes tissues.
    """
    shares = np.clip(1 - np.abs(average - LEVELS[:, None]) / LEVELS[1], 0, None) * weight
    counts = shares.sum(axis=1) / max(float(weight.sum()), 1e-9)
    medians = np.array([_weighted_median(scan, each) for each in shares])
    steps = np.diff(np.eye(len(LEVELS)), axis=0)  # levels that no voxel has get the value of the nearest one
    system = np.diag(counts) + SMOOTHNESS * steps.T @ steps + 1e-9 * np.eye(len(LEVELS))
    values = np.linalg.solve(system, counts * medians)
    from_average = average - np.average(average, weights=weight)
    gain = np.average(scan * from_average, weights=weight) / max(np.average(from_average**2, weights=weight), 1e-9)
    straight = gain * from_average + np.average(scan, weights=weight)
    by_curve, by_line = (_explained(scan, fit, weight) for fit in (np.interp(average, LEVELS, values), straight))
    return Contrast(values, by_curve, bool(gain > 0 and by_line >= STRAIGHT * by_curve > 0))


def _explained(scan: NDArray[np.floating], fit: NDArray[np.floating], weight: NDArray[np.floating]) -> float:
    """The share of a scan's variance (n,) that a fit explains, 0 to 1, from absolute values: lesions count little."""
    left, whole = (np.average(np.abs(scan - x), weights=weight) for x in (fit, _weighted_median(scan, weight)))
    return float(np.clip(1 - (left / whole) ** 2, 0, 1)) if whole else 0.0


def contrast_name(curve: NDArray[np.floating]) -> str:
    """What a contrast looks like, "T1", "T2", "FLAIR" or "other", from the values (k,) of its curve."""
    fluid, beside, grey, white = np.interp((FLUID, BESIDE, GREY, WHITE), LEVELS, curve)
    if not lesions_are_bright(curve):
        return "T1" if fluid < grey else "other"
    if fluid < min(grey, white):
        return "FLAIR"
    return "T2" if beside > grey > white else "other"


def lesions_are_bright(curve: NDArray[np.floating]) -> bool:
    """Whether lesions of white matter are bright, for the values (k,) of a contrast curve.

    Lesions have more water than white matter, as grey matter has: they are dark where grey matter is clearly darker. In
    FLAIR, the two hardly differ.
    """
    grey, white = np.interp((GREY, WHITE), LEVELS, curve)
    return bool(white < CLEARLY * grey)


def gain_between(one: NDArray[np.floating], other: NDArray[np.floating]) -> float | None:
    """How much larger a difference is in the other contrast, from two curves (k,); None if they differ in kind."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    gain, offset = np.polyfit(one, other, 1)
    left = np.var(other - gain * one - offset) / np.var(other)
    return float(gain) if gain > 0 and left < SAME_KIND else None


def tissues_are_alike(curve: NDArray[np.floating]) -> bool:
    """Whether grey and white matter hardly differ, for the values (k,) of a contrast curve; in a CT they do not."""
    grey, white = np.interp((GREY, WHITE), LEVELS, curve)
    return bool(np.isfinite((grey, white)).all() and abs(grey - white) < ALIKE * max(abs(grey), abs(white)))


def looks_like_ct(curve: NDArray[np.floating]) -> bool:
    """Whether the values (k,) of a contrast curve, in the scan's intensities, are Hounsfield units of a brain."""
    fluid, grey, white = np.interp((FLUID, GREY, WHITE), LEVELS, curve)
    return bool(fluid < white < grey and white > LEAST_HU and grey < MOST_HU)


def _weighted_median(values: NDArray[np.floating], weight: NDArray[np.floating]) -> float:
    """The weighted median of values (n,); 0 if no weight is positive."""
    order = np.argsort(values)
    sums = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(sums, sums[-1] / 2)]) if sums[-1] > 0 else 0.0


def intensity_floor(values: np.ndarray, hole: np.ndarray) -> float:
    """The scan intensity without signal: 0, or the 0.5th percentile if 1 % or more of the known tissue is negative.

    It is also the 0.5th percentile if that is more than half of the 99.5th: then a large constant was added to the
    scan, because brains have fluid or white matter that is darker.
    """
    known = ~hole & (values != 0)
    negative = np.count_nonzero(known & (values < 0))
    if negative and negative >= 0.01 * np.count_nonzero(known):
        return float(np.percentile(values[known], 0.5))
    least, most = values.min(where=known, initial=np.inf), values.max(where=known, initial=-np.inf)
    if np.isfinite(least) and least > 0.1 * most:  # quick to see, and false in nearly all scans
        low, high = np.percentile(values[known], (0.5, 99.5))
        return float(low) if CONSTANT * high < low < high else 0.0
    return 0.0


def intensity_scale(values: np.ndarray, known: np.ndarray) -> float:
    """The scan intensity that becomes 1: the trimmed mean of the brighter half of the known brain becomes 0.75.

    Zero stays zero, so background stays background. Raises InputError if there is too little brain or no contrast.
    """
    tissue = values[known].astype(np.float64)  # float32 sums of huge intensities overflow
    if tissue.size < 100:
        raise InputError("The scan shows too little brain to work from: check that the mask marks only the lesion.")
    middle, top = np.percentile(tissue, [50, 98])
    upper = tissue[(tissue >= middle) & (tissue <= top)]
    scale = float(upper.mean() / WHITE_MATTER)
    if scale <= 0 or tissue.std() == 0:
        raise InputError("The scan has no contrast in the brain: check that it is a brain MRI.")
    return scale
