"""The quality of a fill in the hole, where the truth is known.

Arguments: truth and fill, real arrays (z, y, x), equal outside the hole; hole and brain, bool (z, y, x); spacing,
(sz, sy, sx) in mm; data_range, the intensity of full scale, see `brain_range`. Every function raises InputError if the
hole is empty or the arrays have different shapes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ...blending.noise import second_differences
from ...report.measures import Mask, Real, brain_range, check_mask, hole_error, psnr, ratio_or_infinity, seam
from ...volumes.mask import bounding_box

SSIM_SIGMA = 1.5  # voxels
SSIM_RADIUS = 5  # voxels: scikit-image cuts the window at 3.5 sigma, which makes it 11 wide


def measure(truth: Real, fill: Real, hole: Mask, brain: Mask, spacing: Sequence[float]) -> dict[str, float]:
    """All measurements of a fill: psnr (dB), ssim, mae (share of full scale), and the ratios sharpness, noise, seam."""
    data_range = brain_range(truth, brain)
    return {
        "psnr": psnr(truth, fill, hole, data_range),
        "ssim": ssim(truth, fill, hole, data_range),
        "mae": mae(truth, fill, hole, data_range),
        "sharpness": sharpness(truth, fill, hole, spacing),
        "noise": noise(truth, fill, hole),
        "seam": seam(fill, hole, spacing, brain),
    }


def mae(truth: Real, fill: Real, hole: Mask, data_range: float) -> float:
    """Mean absolute error over the hole, as a share of data_range."""
    return float(np.abs(hole_error(truth, fill, hole)).mean() / data_range)


def ssim(truth: Real, fill: Real, hole: Mask, data_range: float) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004) in 3-D, the mean over the hole; 1 if equal.

    The window is a Gaussian with sigma 1.5 voxels. The volume is mirrored at its faces, so it can be thinner than the
    window.
    """
    from skimage.metrics import structural_similarity

    check_mask(hole, truth, fill)
    box, cut = _box(hole, SSIM_RADIUS)
    a, b = (np.pad(np.asarray(image[box], dtype=np.float64), cut, mode="symmetric") for image in (truth, fill))
    _, similarity = structural_similarity(
        a, b, data_range=data_range, gaussian_weights=True, sigma=SSIM_SIGMA, use_sample_covariance=False, full=True
    )
    return float(similarity[np.pad(hole[box], cut)].mean())


def sharpness(truth: Real, fill: Real, hole: Mask, spacing: Sequence[float]) -> float:
    """Mean gradient magnitude of the fill over that of the truth, in the hole. Below 1: blurred; above 1: too rough.

    Gradients are central differences per mm. An axis with one voxel has no gradient.
    """
    check_mask(hole, truth, fill)
    return ratio_or_infinity(_mean_gradient(fill, hole, spacing), _mean_gradient(truth, hole, spacing))


def noise(truth: Real, fill: Real, hole: Mask) -> float:
    """Noise of the fill over that of the truth: the ratio of the median absolute second differences in the hole."""
    check_mask(hole, truth, fill)
    box = bounding_box(hole, 1)
    levels = (np.median(np.abs(second_differences(image[box])[hole[box]])) for image in (fill, truth))
    return ratio_or_infinity(*map(float, levels))


def _mean_gradient(image: Real, hole: Mask, spacing: Sequence[float]) -> float:
    box = bounding_box(hole, 1)
    local = np.asarray(image[box], dtype=np.float64)
    square = np.zeros_like(local)
    for axis, step in enumerate(spacing):
        if local.shape[axis] > 1:
            square += np.gradient(local, step, axis=axis) ** 2
    return float(np.sqrt(square)[hole[box]].mean())


def _box(hole: Mask, margin: int) -> tuple[tuple[slice, ...], list[tuple[int, int]]]:
    """The bounding box of the hole with a margin, and the voxels of the margin outside the volume at each side."""
    box, cut = [], []
    for span, length in zip(ndimage.find_objects(hole.astype(np.uint8))[0], hole.shape, strict=True):
        start, stop = span.start - margin, span.stop + margin
        box.append(slice(max(start, 0), min(stop, length)))
        cut.append((max(-start, 0), max(stop - length, 0)))
    return tuple(box), cut
