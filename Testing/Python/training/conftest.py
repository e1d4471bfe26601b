"""Five synthetic brains on a small grid, to train on."""

import numpy as np
import pytest
from MedInpaintLib.space.template import Template
from MedInpaintLib.training.slices.data import LEVELS, SliceData
from synthetic import volume

GRID = (24, 48, 32)  # z, y, x
SPACING = (3.0, 3.0, 3.0)


@pytest.fixture(scope="session")
def brain():
    """The brain mask that all brains share."""
    z, y, x = coordinates()
    return (z / 0.9) ** 2 + (y / 0.85) ** 2 + (x / 0.85) ** 2 < 1


@pytest.fixture(scope="session")
def data(brain):
    """Model-space ellipsoids with waves that differ between the subjects; the third is for tuning."""
    z, y, x = coordinates()
    waves = [np.sin(3 * x + 2 * z), np.cos(4 * y), np.sin(5 * y * x), np.cos(3 * x * z)]
    weights = np.random.default_rng(0).normal(0, 0.07, (5, len(waves)))
    brains = (0.65 + np.tensordot(weights, waves, 1)) * brain
    slices = np.clip(np.round(brains * LEVELS), 0, 255).astype(np.uint8)
    grid = {"spacing": SPACING, "origin": [-(n - 1) * side / 2 for n, side in zip(GRID[::-1], SPACING, strict=True)]}
    image = slices.mean(axis=0).astype(np.float32) / LEVELS
    template = Template(volume(image, **grid), volume(brain.astype(np.uint8), **grid))
    source = {"name": "waves", "licence": "CC0", "citation": "none"}
    knots = np.random.default_rng(1).normal(0, 1, (4, 2, 9, 9, 7)).astype(np.float16)
    names = [f"brain-{i}" for i in range(5)]
    return SliceData(slices[[0, 1, 3, 4]], knots, slices[2:3], names[:2] + names[3:], names[2:3], template, source)


def coordinates():
    return np.meshgrid(*(np.linspace(-1, 1, n) for n in GRID), indexing="ij")
