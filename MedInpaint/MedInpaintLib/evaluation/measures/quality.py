"""How good a fill is, measured inside the hole against the truth that was taken away.

truth and fill are real arrays (z, y, x), equal outside the hole; hole and brain are bool (z, y, x); spacing is
(sz, sy, sx) in mm; data_range is the intensity that counts as full scale, see brain_range. Every function raises
InputError if the hole is empty or the arrays are not on one grid.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ...blending.noise import second_differences
from ...report.measures import Mask, Real, _check, _error, _ratio, brain_range, psnr, seam
from ...volumes.mask import bounding_box

SSIM_SIGMA = 1.5  # voxels
SSIM_RADIUS = 5  # voxels: scikit-image cuts the window at 3.5 sigma, which makes it 11 wide


def measure(truth: Real, fill: Real, hole: Mask, brain: Mask, spacing: Sequence[float]) -> dict[str, float]:
    """All measurements of one fill: psnr (dB), ssim, mae, sharpness, noise and seam (ratios)."""
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
    return float(np.abs(_error(truth, fill, hole)).mean() / data_range)


def ssim(truth: Real, fill: Real, hole: Mask, data_range: float) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004) in 3-D, averaged over the hole; 1 if equal.

    The window is a Gaussian, sigma 1.5 voxels. The volume is mirrored where the window leaves it, so that volumes
    thinner than the window can be measured too.
    """
    from skimage.metrics import structural_similarity

    _check(hole, truth, fill)
    box, cut = _box(hole, SSIM_RADIUS)
    a, b = (np.pad(np.asarray(image[box], dtype=np.float64), cut, mode="symmetric") for image in (truth, fill))
    _, similarity = structural_similarity(
        a, b, data_range=data_range, gaussian_weights=True, sigma=SSIM_SIGMA, use_sample_covariance=False, full=True
    )
    return float(similarity[np.pad(hole[box], cut)].mean())


def sharpness(truth: Real, fill: Real, hole: Mask, spacing: Sequence[float]) -> float:
    """Mean gradient magnitude of the fill in the hole over the truth's: below 1 is blurred, above 1 too rough.

    Gradients are central differences per mm; an axis one voxel long has none.
    """
    _check(hole, truth, fill)
    return _ratio(_mean_gradient(fill, hole, spacing), _mean_gradient(truth, hole, spacing))


def noise(truth: Real, fill: Real, hole: Mask) -> float:
    """Noise of the fill over the truth's, both as `texture.second_differences` shows it; 1: as noisy as the truth."""
    _check(hole, truth, fill)
    box = bounding_box(hole, 1)
    levels = (np.median(np.abs(second_differences(image[box])[hole[box]])) for image in (fill, truth))
    return _ratio(*map(float, levels))


def _mean_gradient(image: Real, hole: Mask, spacing: Sequence[float]) -> float:
    box = bounding_box(hole, 1)
    local = np.asarray(image[box], dtype=np.float64)
    square = np.zeros_like(local)
    for axis, step in enumerate(spacing):
        if local.shape[axis] > 1:
            square += np.gradient(local, step, axis=axis) ** 2
    return float(np.sqrt(square)[hole[box]].mean())


def _box(hole: Mask, margin: int) -> tuple[tuple[slice, ...], list[tuple[int, int]]]:
    """The hole's bounding box with a margin, and how many voxels of the margin each side of the volume cuts off."""
    box, cut = [], []
    for span, length in zip(ndimage.find_objects(hole.astype(np.uint8))[0], hole.shape, strict=True):
        start, stop = span.start - margin, span.stop + margin
        box.append(slice(max(start, 0), min(stop, length)))
        cut.append((max(-start, 0), max(stop - length, 0)))
    return tuple(box), cut
