"""A model's figures on the tuning subjects: round holes in single slices, filled, compared with the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..blending import poisson_blend
from ..evaluation.metrics import brain_range, psnr
from ..latent import search
from ..networks import VAE
from ..settings import Settings
from ..slices import Slices, fine_detail
from .prepare import SliceData

RADII = (4.5, 9.0, 18.0)  # mm
CASES = 8  # holes a subject and radius


def validate(network: VAE, data: SliceData, radii: Sequence[float] = RADII, settings: Settings | None = None) -> dict:
    """Median in-hole PSNR (dB, range = 99.5th percentile of the slice's brain) by radius in mm, and the case count."""
    spacing = data.template.image.GetSpacing()[0]
    brains, detail = data.brains(tuning=True), fine_detail(data.template)
    figures = {}
    for radius in radii:
        random = np.random.default_rng(1)
        scores = [
            _subject(network, brain, detail, radius / spacing, settings or Settings(), random) for brain in brains
        ]
        figures[f"{radius:g}"] = round(float(np.median(scores)), 2)
    return {"psnr_by_radius": figures, "holes_each": len(brains) * CASES, "subjects": data.names(tuning=True)}


def _subject(network, brain, detail, radius, settings, random) -> list[float]:
    heights = random.choice(np.flatnonzero((brain > 0.05).mean(axis=(1, 2)) > 0.15), CASES)
    truth = brain[heights]
    hole = np.stack([_round_hole(slice_, radius, random) for slice_ in truth])
    masked = np.where(hole, 0, truth)
    slices = Slices(masked, hole, ~hole, heights, 1.0, detail=detail[heights])
    generated = search(network, slices, len(brain), settings, lambda *_: None)
    blended = truth.copy()
    blended[hole] = poisson_blend(masked, generated.slices, hole, (1.0, 1.0, 1.0), slicewise=True)
    return [_psnr(*case) for case in zip(truth, blended, hole, strict=True)]


def _round_hole(slice_: np.ndarray, radius: float, random: np.random.Generator) -> np.ndarray:
    """A disc with its centre in the brain, the one of 20 that lies in it most."""
    brain = slice_ > 0.05
    rows, columns = np.indices(slice_.shape)
    centres = np.argwhere(brain)[random.integers(brain.sum(), size=20)]
    discs = [(rows - row) ** 2 + (columns - column) ** 2 <= radius**2 for row, column in centres]
    return max(discs, key=lambda disc: brain[disc].mean())


def _psnr(truth: np.ndarray, filled: np.ndarray, hole: np.ndarray) -> float:
    return psnr(truth, filled, hole, brain_range(truth, truth > 0.05))
