"""The fills that are compared: each takes a case and gives the hole's new values.

All but the harmonic one make model-space slices, which go back to the scan and are blended in exactly as the
product does it, so that they differ in nothing but the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..alignment import Template
from ..blending import harmonic_fill
from ..context import context_weights
from ..errors import InputError
from ..image import same_grid, spacing_zyx
from ..models import find_model
from ..pipeline import Case, blend
from ..settings import Settings
from ..slices import to_scan
from ..training.prepare import SliceData
from .linear import LinearModel

Fill = Callable[[Case], NDArray[np.floating]]  # (n,), in the order of values[hole]

LINEAR_WINDOW = 7  # pixels of the context weights; with the noise below the best of the tuning scans
LINEAR_NOISE = 0.1  # intensity squared: the prior's weight


def all_fills(data: SliceData, models: Sequence[str], settings: Settings) -> dict[str, Fill]:
    """The baselines, then the models, by the name they have in the tables.

    Args:
        data: what the baselines are made from: its training brains only.
        models: names or folders, as in Settings.model.
        settings: of the latent search and the blending; its model is ignored.
    """
    brains = data.brains(tuning=False)
    fills: dict[str, Fill] = {
        "harmonic": harmonic,
        "mean": mean_fill(brains, settings),
        "linear": linear_fill(brains, settings),
    }
    for model in models:
        fills[find_model(model).name] = latent_fill(data.template, replace(settings, model=model))
    return fills


def harmonic(case: Case) -> NDArray[np.float64]:
    """The smoothest continuation of the surroundings in 3-D: knows nothing of brains."""
    return harmonic_fill(case.values, case.hole, spacing_zyx(case.scan))


def mean_fill(brains: NDArray[np.float32], settings: Settings) -> Fill:
    """The mean of the training brains (subjects, z, h, w): knows brains, but not this one."""
    mean = brains.mean(axis=0)
    return lambda case: _blended(case, mean[case.slices.heights], settings)


def linear_fill(brains: NDArray[np.float32], settings: Settings) -> Fill:
    """The linear latent model of the training brains, which a network has to beat."""
    model = LinearModel().fit(brains)

    def fill(case: Case) -> NDArray[np.floating]:
        slices = case.slices
        weights = context_weights(slices.hole, slices.context, slices.heights, LINEAR_WINDOW)
        generated = model.fill_stack(slices.image, weights, slices.heights.tolist(), LINEAR_NOISE)
        return _blended(case, generated, settings)

    return fill


def latent_fill(template: Template, settings: Settings) -> Fill:
    """A generative model's latent search, with any settings. Raises InputError if it has another model space."""
    from ..latent import choose_device, search

    model = find_model(settings.model)
    own = model.template()
    if not same_grid(own.image, template.image):
        raise InputError(f"Model '{model.name}' was trained on other slices: give --data the file it was trained on.")
    network = model.network(own, choose_device(settings.device))
    count = own.image.GetSize()[2]

    def fill(case: Case) -> NDArray[np.floating]:
        generated = search(network, case.slices, count, settings, lambda done, message: None)
        return _blended(case, generated.slices, settings)

    return fill


def _blended(case: Case, generated: NDArray[np.float32], settings: Settings) -> NDArray[np.floating]:
    source, _ = to_scan(case.scan, generated, case.slices, case.alignment, case.template)
    return blend(case, source, settings.blending)
