"""The fills that are compared: each takes a case and gives the hole's new values.

The training mean, the linear latent model and the models make model-space slices, which go back to the scan. Those of
the models are finished as the product does it; the others are blended in by Poisson's equation, as in the study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...blending.blend import blend_into_scan, blend_poisson
from ...blending.poisson import harmonic_fill
from ...errors import InputError
from ...models.folder import Model
from ...pipeline import generate
from ...search.context import context_weights
from ...settings import Settings
from ...space.case import Case
from ...space.slices import to_scan
from ...space.template import Template
from ...training.slices.data import SliceData
from ...volumes.image import same_grid, spacing_zyx
from .linear import LinearModel
from .slicewise import biharmonic, check_libraries, telea

if TYPE_CHECKING:
    from torch import nn

Fill = Callable[[Case], NDArray[np.floating]]  # (n,), in the order of values[hole]
LINEAR_WINDOW = 7  # pixels of the context weights; with the noise below the best of the tuning scans
LINEAR_NOISE = 0.1  # intensity squared: the prior's weight
ABLATIONS: Mapping[str, Mapping] = {  # what follows the model's name, and the settings that differ
    "no prior": {"prior": False},
    "unweighted": {"weighting": False},
    "no residual": {"residual": False},
    "Poisson": {"blending": "3d"},
    "no blending": {"blending": "none"},
    "no texture": {"texture": False},
}


def baselines(data: SliceData) -> dict[str, Fill]:
    """What the models are compared with, by the name in the tables; of the data only the training brains are used.

    Raises InputError if a library is not installed.
    """
    check_libraries()
    brains = data.brains(tuning=False)
    return {
        "harmonic": harmonic,
        "biharmonic": biharmonic,
        "telea": telea,
        "mean": mean_fill(brains),
        "linear": linear_fill(brains),
    }


def model_fills(models: Sequence[Model], template: Template, settings: Settings) -> tuple[dict[str, Fill], ...]:
    """The models' fills, and those of their ablations, by their names in the tables ("vae3", "vae3 no prior").

    Raises InputError if a model has another model space, or two have one name.
    """
    full: dict[str, Fill] = {}
    ablated: dict[str, Fill] = {}
    for model in models:
        if model.name in full:
            raise InputError(f"Two models are called '{model.name}': rename the folder of one of them.")
        own = replace(settings, model=str(model.folder))
        search = LatentSearch(model, template, own)
        full[model.name] = latent_fill(search, own)
        for name, change in ABLATIONS.items():
            ablated[f"{model.name} {name}"] = latent_fill(search, replace(own, **change))
    return full, ablated


def harmonic(case: Case) -> NDArray[np.float64]:
    """The smoothest continuation of the surroundings in 3-D: knows nothing of brains."""
    return harmonic_fill(case.values, case.hole, spacing_zyx(case.scan))


def mean_fill(brains: NDArray[np.float32]) -> Fill:
    """The mean of the training brains (subjects, z, h, w): knows brains, but not this one."""
    mean = brains.mean(axis=0)
    return lambda case: _blended(case, mean[case.slices.heights])


def linear_fill(brains: NDArray[np.float32]) -> Fill:
    """The linear latent model of the training brains, which a network has to beat."""
    model = LinearModel().fit(brains)

    def fill(case: Case) -> NDArray[np.floating]:
        slices = case.slices
        weights = context_weights(slices.hole, slices.context, slices.heights, LINEAR_WINDOW)
        generated = model.fill_stack(slices.image, weights, slices.heights.tolist(), LINEAR_NOISE)
        return _blended(case, generated)

    return fill


class LatentSearch:
    """A model's latent search. What it finds in a case is kept until the next one: blending does not change it.

    Raises InputError if the model has another space than the template's.
    """

    def __init__(self, model: Model, template: Template, settings: Settings) -> None:
        from ...search.device import choose_device

        own = model.template()
        if not same_grid(own.image, template.image):
            raise InputError(
                f"Model '{model.name}' was trained on other slices: give --data the file it was trained on."
            )
        self._network: nn.Module = model.network(choose_device(settings.device))
        self._count = own.image.GetSize()[2]
        self._case: Case | None = None
        self._found: dict[Settings, NDArray[np.float32]] = {}

    def __call__(self, case: Case, settings: Settings) -> NDArray[np.float32]:
        """The generated slices, float32 (n, h, w), model intensities."""
        if self._case is not case:
            self._case, self._found = case, {}
        key = replace(settings, blending="none", texture=False)
        if key not in self._found:
            found = generate(self._network, case.slices, self._count, settings, lambda done, message: None)
            self._found[key] = found.slices
        return self._found[key]


def latent_fill(search: LatentSearch, settings: Settings) -> Fill:
    """A generative model's latent search, with any settings."""

    def fill(case: Case) -> NDArray[np.floating]:
        source, valid = to_scan(case.scan, search(case, settings), case.slices, case.alignment, case.template)
        return blend_into_scan(case, source, valid, settings)

    return fill


def _blended(case: Case, generated: NDArray[np.float32]) -> NDArray[np.floating]:
    source, _ = to_scan(case.scan, generated, case.slices, case.alignment, case.template)
    return blend_poisson(case, source, "3d")
