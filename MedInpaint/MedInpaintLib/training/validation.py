"""The validation of a model: round holes in the model-space brains of the tuning subjects are filled and measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..blending.poisson import poisson_blend
from ..models.latent_model import LatentModel
from ..prediction import generate
from ..report.measures import brain_range, psnr
from ..settings import Settings
from ..space.slices import Slices, searched_heights
from .slices.data import LEVELS, SliceData

RADII = (5.0, 10.0, 20.0)  # mm
CASES = 1  # holes per subject and radius


def validate(
    network: LatentModel, data: SliceData, radii: Sequence[float] = RADII, settings: Settings | None = None
) -> dict:
    """Measure the fills of a network.

    Args:
        network: the model.
        data: its slices; only the tuning subjects are used.
        radii: of the holes, mm.
        settings: of the search; None: the defaults.

    Returns for the card: the median PSNR in the hole by radius (dB; full scale is the 99.5th percentile of the brain),
    the number of holes per radius, and the names of the subjects.
    """
    spacing = data.template.image.GetSpacing()[0]
    brains = data.tuning.astype(np.float32) / LEVELS
    psnr_by_radius = {}
    for radius in radii:
        random = np.random.default_rng(1)
        scores = [
            _score(network, brain, round_hole(brain, radius / spacing, random), settings or Settings())
            for brain in brains
            for _ in range(CASES)
        ]
        psnr_by_radius[f"{radius:g}"] = round(float(np.median(scores)), 2)
    return {"psnr_by_radius": psnr_by_radius, "holes_each": len(brains) * CASES, "subjects": data.tuning_subjects}


def model_space_slices(brain: np.ndarray, hole: np.ndarray) -> Slices:
    """The slices of a brain on the model grid, float32 (z, h, w), and of a hole in it, bool (z, h, w)."""
    heights = searched_heights(hole)
    hole = hole[heights]
    return Slices(np.where(hole, 0, brain[heights]), hole, hole, ~hole, heights, 1.0)


def round_hole(brain: np.ndarray, radius: float, random: np.random.Generator) -> np.ndarray:
    """A ball, bool (z, h, w), with the radius in pixels. Of 20 balls with random centres in the brain, the one with the
    largest share in the brain is returned."""
    tissue = brain > 0.05
    centres = np.argwhere(tissue)[random.integers(tissue.sum(), size=20)]
    z, y, x = np.indices(brain.shape, dtype=np.float32)

    def ball(k: int, j: int, i: int) -> np.ndarray:
        return (z - k) ** 2 + (y - j) ** 2 + (x - i) ** 2 <= radius**2

    return ball(*max(centres, key=lambda centre: tissue[ball(*centre)].mean()))


def _score(network: LatentModel, brain: np.ndarray, hole: np.ndarray, settings: Settings) -> float:
    slices = model_space_slices(brain, hole)
    source = np.zeros_like(brain)
    source[slices.heights] = generate(network, [slices], len(brain), settings, lambda *_: None)[0].slices
    filled = brain.copy()
    filled[hole] = poisson_blend(brain, source, hole, (1.0, 1.0, 1.0))
    return psnr(brain, filled, hole, brain_range(brain, brain > 0.05))
