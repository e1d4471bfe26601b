"""The blending as a whole: from generated slices on the scan's grid to the hole's new values."""

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

RIM_TRUST = 1e-4  # of a known voxel that is probably lesion


def blend_into_scan(case: Case, source: np.ndarray, valid: np.ndarray, settings: Settings) -> np.ndarray:
    """The hole's new values, float64 (n,), in the order of `case.values[case.hole]`.

    Args:
        source: float32 (z, y, x), the generated slices on the scan's grid, in scan intensities; see `to_scan`.
        valid: bool (z, y, x), where the source is defined.
        settings: blending, texture and seed.

    Raises:
        InputError: Poisson blending finds no known voxel at some part of the hole.
    """
    box = bounding_box(case.hole, SURROUNDINGS)  # no step looks farther, so the cost grows with the hole alone
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


def blend_matern(case: Case, source: np.ndarray, valid: np.ndarray, noise: float) -> np.ndarray:
    """The hole's new values (n,) by Matérn blending.

    Args:
        source, valid: as for `blend_into_scan`.
        noise: standard deviation of the scan's noise.
    """
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


def blend_poisson(case: Case, source: np.ndarray, blending: str) -> np.ndarray:
    """The hole's new values (n,) by Poisson blending ("3d" or "2d"), or the source itself ("none").

    Raises InputError as `poisson_blend` does.
    """
    if blending == "none":
        return source[case.hole]
    # The model shows the brain only. Outside the brain of a head, the fill continues its surroundings smoothly.
    guide = None if case.alignment.extracted else case.alignment.brain
    return poisson_blend(case.values, source, case.hole, spacing_zyx(case.scan), guide, slicewise=blending == "2d")


def deviation_on_scan(case: Case, deviation: np.ndarray) -> np.ndarray:
    """The fill's standard deviation on the scan's grid, float32 (z, y, x), from that of the slices (n, h, w)."""
    box = bounding_box(case.hole, 0)
    near = case.crop(box)
    result = np.zeros(case.hole.shape, np.float32)
    result[box] = near.hole * deviation_to_scan(near.scan, deviation, near.slices, near.alignment, near.template)
    return result
