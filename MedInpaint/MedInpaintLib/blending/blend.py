"""The blending as a whole: from generated slices on the scan's grid to the hole's new values."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..settings import Settings
from ..space.case import Case
from ..space.slices import Tissue, deviation_to_scan
from ..volumes.image import spacing_zyx
from ..volumes.mask import bounding_box
from .matern import matern_blend, matern_correlation
from .noise import SURROUNDINGS, estimate_noise, white_matter
from .poisson import harmonic_fill, poisson_blend
from .rim import FAR, rim_voxels
from .texture import missing_noise, sharpen

RIM_TRUST = 1e-9  # of a known voxel that is probably lesion
LOCAL = 5.0  # mm; the range of the tissue this close limits the fill
NOISE_ERROR = 0.35  # standard deviations of the noise; error of the fill's detail in a noisy scan
MODEL_ERROR = 0.007  # of the brain's intensity; error of the fill's detail in a scan without noise
FLUID = 0.2  # model intensity; a generated voxel below it shows fluid
DETAIL_REACH = 4.0  # mm; the detail is measured in a Gaussian window of this standard deviation


def box_near_hole(case: Case) -> tuple[slice, ...]:
    """The part (z, y, x) of the scan's grid beyond which neither `find_rim` nor `blend_into_scan` looks."""
    zones = np.ceil(FAR[1] / spacing_zyx(case.scan)).astype(int) + 1
    return bounding_box(case.hole, np.maximum(SURROUNDINGS, zones))


def blend_into_scan(
    case: Case,
    source: np.ndarray,
    tissue: Tissue,
    settings: Settings,
    tight: np.ndarray | None = None,
    shown: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """The hole's new values, float64 (n,), in the order of `case.values[case.hole]`, and the scan's noise level.

    Values inside the hole do not matter.

    Args:
        source: float32 (z, y, x), the predicted slices on the scan's grid, in scan intensities; see `to_scan`.
        tissue: the same without the residual.
        settings: blending, noise and seed.
        tight: bool (z, y, x), the lesions of the hole that have a rim outside of it, see `Rim`; None: no lesion has.
        shown: (z, y, x), what other scans of the same contrast show, in scan intensities; NaN where they do not. None:
            they show nothing.

    Raises:
        InputError: Poisson blending finds no known voxel at some part of the hole.
    """
    box = bounding_box(case.hole, SURROUNDINGS)  # no step looks farther, so the cost grows with the hole alone
    tight = np.zeros_like(case.hole) if tight is None else tight
    shown = np.full(case.hole.shape, np.nan) if shown is None else shown
    case, source, tissue, tight, shown = case.crop(box), source[box], tissue.crop(box), tight[box], shown[box]
    plain = white_matter(case, tissue.model_like) & tissue.valid
    noise = estimate_noise(case.values, case.hole, case.alignment.brain, plain)
    if settings.blending == "matern":
        source = sharpen(source, case.hole, spacing_zyx(case.scan))
        trust = tissue.valid
        if tight.any():
            trust = np.where(rim_voxels(case, source, tight, tissue.bright), RIM_TRUST, 1) * trust
        there = np.isfinite(shown)
        if there.any():
            source = follow(source, shown, case, noise.white_level)
        filled = blend_matern(case, source, trust, noise.white_level)
        filled = limit_range(case, np.where(there, shown, tissue.scan_like), filled)
        exact = ~(tight | there)[case.hole]
        if exact.any():  # beside a rim, the smoothest continuation is that of the lesion
            smooth = harmonic_fill(case.values, case.hole, spacing_zyx(case.scan))
            shrunk = shrink_detail(case, filled, smooth, noise.level)
            if not case.alignment.contrast.straight:
                shrunk = shrink_fluid(case, shrunk, smooth, tissue)
            filled = np.where(exact, shrunk, filled)
    else:
        filled = blend_poisson(case, source, settings.blending)
    if settings.noise:
        result = case.values.copy()
        result[case.hole] = filled
        filled = filled + missing_noise(result, case.hole, noise, settings.seed)
    return filled, noise.level


def follow(source: np.ndarray, shown: np.ndarray, case: Case, noise: float) -> np.ndarray:
    """The source (z, y, x) with what other scans show in its place; in the rest of the hole it joins smoothly.

    Args:
        source, shown: as for `blend_into_scan`.
        noise: standard deviation of the scan's noise, as white noise.
    """
    there = np.isfinite(shown)
    result = np.where(there, shown, source)
    rest = case.hole & ~there
    if rest.any():
        result[rest] = matern_blend(
            result, source, rest, spacing_zyx(case.scan), there.astype(float), case.slices.scale, noise
        )
    return result


def blend_matern(case: Case, source: np.ndarray, trust: np.ndarray, noise: float) -> np.ndarray:
    """The hole's new values (n,) by Matérn blending.

    Where the contrast is a curve, most of the difference between scan and source is what the curve misses, such as
    narrow fluid in T2. It says little of the hole, so all of it counts as noise.

    Args:
        source: as for `blend_into_scan`.
        trust: (z, y, x), from 0 to 1, how much a known voxel counts.
        noise: standard deviation of the scan's noise, as white noise.
    """
    known, hole, spacing, scale = case.values, case.hole, spacing_zyx(case.scan), case.slices.scale
    noise = noise if case.alignment.contrast.straight else np.inf
    if case.alignment.extracted:
        return matern_blend(known, source, hole, spacing, trust, scale, noise)
    brain = case.alignment.brain
    inside, outside = hole & brain, hole & ~brain
    filled = known.copy()
    filled[inside] = matern_blend(known, source, inside, spacing, trust * brain, scale, noise)
    if outside.any():
        filled[outside] = harmonic_fill(filled, outside, spacing)
    return filled[hole]


def limit_range(case: Case, generated: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """The new values (n,), limited to the range of what is within 5 mm: known brain, and G(z) in the hole.

    A continuation across the border can overshoot; tissue that is neither known nearby nor generated is not plausible.
    """
    content = np.where(case.hole, generated, case.values)
    there = case.hole | case.alignment.brain
    size = (2 * np.maximum(np.rint(LOCAL / spacing_zyx(case.scan)), 1) + 1).astype(int)
    low = ndimage.minimum_filter(np.where(there, content, np.inf), size)[case.hole]
    high = ndimage.maximum_filter(np.where(there, content, -np.inf), size)[case.hole]
    return np.clip(filled, low, high)


def shrink_detail(case: Case, filled: np.ndarray, smooth: np.ndarray, noise: float) -> np.ndarray:
    """The new values (n,), closer to the smoothest continuation where they differ from it by little.

    In plain tissue, such detail comes from the noise beside the hole and from the model's errors. This is the Wiener
    filter with local statistics of Lee, IEEE TPAMI 2(2), 1980. It leaves true structure, which differs by more, nearly
    as it is.

    Args:
        filled: (n,), the hole's values in the order of `case.values[case.hole]`.
        smooth: (n,), the harmonic fill.
        noise: standard deviation of the scan's noise.
    """
    detail = np.zeros(case.hole.shape)
    detail[case.hole] = filled - smooth
    power, share = (
        ndimage.gaussian_filter(field, DETAIL_REACH / spacing_zyx(case.scan))[case.hole]
        for field in (detail**2, case.hole.astype(float))
    )
    power /= np.maximum(share, np.finfo(float).tiny)
    error = (NOISE_ERROR * noise) ** 2 + (MODEL_ERROR * case.slices.scale) ** 2
    kept = np.clip(1 - error / np.maximum(power, np.finfo(float).tiny), 0, 1)
    return smooth + kept * (filled - smooth)


def shrink_fluid(case: Case, filled: np.ndarray, smooth: np.ndarray, tissue: Tissue) -> np.ndarray:
    """The new values (n,), closer to the harmonic fill where G(z) shows fluid or nothing.

    Narrow fluid is hard to place. In contrasts that need a curve, such as T2, what shows it wrongly costs more.

    Args:
        filled: (n,), the hole's values in the order of `case.values[case.hole]`.
        smooth: (n,), the harmonic fill.
        tissue: G(z).
    """
    kept = np.clip(tissue.model_like[case.hole] / FLUID, 0, 1)
    return smooth + kept * (filled - smooth)


def blend_poisson(case: Case, source: np.ndarray, blending: str) -> np.ndarray:
    """The hole's new values (n,) by Poisson blending ("3d" or "2d"), or the source itself ("none").

    Raises InputError as `poisson_blend` does.
    """
    if blending == "none":
        return source[case.hole]
    # The model shows the brain only. Outside the brain of a head, the fill continues its surroundings smoothly.
    guide = None if case.alignment.extracted else case.alignment.brain
    return poisson_blend(case.values, source, case.hole, spacing_zyx(case.scan), guide, slicewise=blending == "2d")


def deviation_on_scan(case: Case, deviation: np.ndarray, noise: float) -> np.ndarray:
    """The standard deviation of the truth around the fill, on the scan's grid, float32 (z, y, x); 0 outside the hole.

    The blending continues the scan's own values across the border, so close to the border it explains a part of the
    variance: the square of the Matérn correlation at this depth. The truth also has noise, which no fill can know.

    Args:
        deviation: (n, h, w), the posterior standard deviation of the slices, in model intensities.
        noise: standard deviation of the scan's noise.
    """
    box = bounding_box(case.hole, 1)
    near = case.crop(box)
    depth = ndimage.distance_transform_edt(near.hole, sampling=spacing_zyx(case.scan))
    slices = deviation_to_scan(near.scan, deviation, near.slices, near.alignment, near.template)
    unexplained = np.sqrt(1 - matern_correlation(depth) ** 2)
    result = np.zeros(case.hole.shape, np.float32)
    result[box] = near.hole * np.hypot(slices * unexplained, noise)
    return result
