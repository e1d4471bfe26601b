"""The fills of the generative models, whole and without one part (ablations)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...models.folder import Model
from ...pipeline import Prediction, blend, predict
from ...settings import Settings
from ...space.case import Case
from ...space.template import Template
from ...volumes.image import same_grid
from .baselines import Fill

if TYPE_CHECKING:
    from ...models.gan import GAN
    from ...models.vae import VAE

ABLATIONS: Mapping[str, Mapping] = {  # what follows the model's name: the settings that differ
    "no prior": {"prior": False},
    "unweighted": {"weighting": False},
    "no residual": {"residual": False},
    "Poisson": {"blending": "3d"},
    "no blending": {"blending": "none"},
    "with noise": {"noise": True},
}


def model_fills(
    models: Sequence[Model], template: Template, settings: Settings
) -> tuple[dict[str, Fill], dict[str, Fill]]:
    """The fills of the models and of their ablations, by their names in the tables ("vae3", "vae3 no prior").

    Raises InputError if a model has another model space, or if two models have the same name.
    """
    full: dict[str, Fill] = {}
    ablated: dict[str, Fill] = {}
    for model in models:
        if model.name in full:
            raise InputError(f"Two models are called '{model.name}': rename the folder of one of them.")
        model_settings = replace(settings, model=str(model.folder))
        search = LatentSearch(model, template, model_settings)
        full[model.name] = latent_fill(search, model_settings)
        for name, change in ABLATIONS.items():
            ablated[f"{model.name} {name}"] = latent_fill(search, replace(model_settings, **change))
    return full, ablated


def latent_fill(search: LatentSearch, settings: Settings) -> Fill:
    """The fill of a generative model with these settings, blended into the scan as in the product."""

    def fill(case: Case) -> NDArray[np.floating]:
        return blend(case, search(case, settings), settings)[0]

    return fill


class LatentSearch:
    """The latent search of a model. It keeps the slices of the last case, because blending does not change them.

    Raises InputError if the model space differs from the template's.
    """

    def __init__(self, model: Model, template: Template, settings: Settings) -> None:
        from ...search.device import choose_device

        model_image = model.template().image
        if not same_grid(model_image, template.image):
            raise InputError(
                f"Model '{model.name}' was trained on other slices: give --data the file it was trained on."
            )
        self._network: VAE | GAN = model.network(choose_device(settings.device))
        self._case: Case | None = None
        self._found: dict[Settings, Prediction] = {}

    def __call__(self, case: Case, settings: Settings) -> Prediction:
        """The prediction of the case's slices."""
        if self._case is not case:
            self._case, self._found = case, {}
        key = replace(settings, blending="none", noise=False)
        if key not in self._found:
            self._found[key] = predict(self._network, case, settings, lambda done, message: None)
        return self._found[key]
