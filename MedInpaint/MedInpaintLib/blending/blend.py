"""The method: find the latents whose slices agree with the surroundings, decode them, blend them in."""

from __future__ import annotations

import numpy as np

from ..settings import Settings
from ..space.case import Case
from ..space.slices import deviation_to_scan
from ..volumes.image import spacing_zyx
from ..volumes.mask import bounding_box
from .matern import matern_blend
from .noise import SURROUNDINGS, estimate_noise
from .poisson import harmonic_fill, poisson_blend
from .rim import lesion_rim
from .texture import missing_noise, sharpen

RIM_TRUST = 1e-4  # of a known voxel that is likely lesion


def blend_into_scan(case: Case, source: np.ndarray, valid: np.ndarray, settings: Settings) -> np.ndarray:
    """The hole's new values, float64 (n,) in the order of values[hole].

    Args:
        source, valid: of to_scan: G(z) on the scan's grid, and where it is defined.
        settings: blending, texture and seed.
    """
    box = bounding_box(case.hole, SURROUNDINGS)  # what lies beyond has no say: cost grows with the hole
    case, source, valid = case.crop(box), source[box], valid[box]
    noise = estimate_noise(case.values, case.hole, case.alignment.brain)
    if settings.texture:
        source = sharpen(source, case.hole, spacing_zyx(case.scan))
    if settings.blending == "matern":
        filled = blend_matern(case, source, valid, noise.level)
    else:
        filled = blend_poisson(case, source, settings.blending)
    if settings.texture:
        result = case.values.copy()
        result[case.hole] = filled
        filled = filled + missing_noise(result, case.hole, noise, settings.seed)
    return filled


def blend_poisson(case: Case, source: np.ndarray, blending: str) -> np.ndarray:
    """The hole's new values (n,) from G(z) on the scan's grid; blending is "3d", "2d" or "none"."""
    if blending == "none":
        return source[case.hole]
    # Outside a head's brain the model knows nothing: there the fill continues the surroundings smoothly.
    guide = None if case.alignment.extracted else case.alignment.brain
    return poisson_blend(case.values, source, case.hole, spacing_zyx(case.scan), guide, slicewise=blending == "2d")


def blend_matern(case: Case, source: np.ndarray, valid: np.ndarray, noise: float) -> np.ndarray:
    """The hole's new values (n,) from G(z) on the scan's grid; noise is the scan's, a standard deviation."""
    known, hole, spacing, scale = case.values, case.hole, spacing_zyx(case.scan), case.slices.scale
    trust = np.where(lesion_rim(case, source), RIM_TRUST, 1) * valid
    if case.alignment.extracted:
        return matern_blend(known, source, hole, spacing, trust, scale, noise)
    brain = case.alignment.brain
    inside, outside = hole & brain, hole & ~brain
    filled = known.copy()
    filled[inside] = matern_blend(known, source, inside, spacing, trust * brain, scale, noise)
    if outside.any():
        filled[outside] = harmonic_fill(filled, outside, spacing)
    return filled[hole]


def deviation_on_scan(case: Case, sd: np.ndarray) -> np.ndarray:
    """The fill's standard deviation on the scan's grid, float32 (z, y, x), from that of the slices."""
    box = bounding_box(case.hole, 0)
    near = case.crop(box)
    result = np.zeros(case.hole.shape, np.float32)
    result[box] = near.hole * deviation_to_scan(near.scan, sd, near.slices, near.alignment, near.template)
    return result
