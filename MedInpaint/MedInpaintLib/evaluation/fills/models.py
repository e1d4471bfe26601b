"""The fills of the generative models, whole and without one part (ablations), and as the study fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...models.folder import Model
from ...models.registry import find_model, shipped_models
from ...prediction import Prediction, blend, predict
from ...settings import Settings
from ...space.case import Case
from ...space.template import Template
from ...volumes.image import same_grid
from ..holes.cases import SQUARE
from .baselines import Fill

if TYPE_CHECKING:
    from ...models.latent_model import LatentModel

STUDY = "study"  # preset, and the word after the model's name in the names of its fills
ABLATIONS: Mapping[str, Mapping] = {  # what follows the model's name: the settings that differ
    "no prior": {"prior": False},
    "unweighted": {"weighting": False},
    "no residual": {"residual": False},
    "Poisson": {"blending": "3d"},
    "no blending": {"blending": "none"},
    "with noise": {"noise": True},
}
STUDY_PARTS = ("no prior", "unweighted", "no blending")  # those that the study had


def full_name(fill: str) -> str:
    """The name of the fill without the name of the ablation; other names do not change."""
    return next((fill.removesuffix(f" {name}") for name in ABLATIONS if fill.endswith(f" {name}")), fill)


def takes_part(fill: str, kind: str, ablations: bool) -> bool:
    """Whether a fill of a model is made in this kind of hole: the study's fills are made in squares.

    With ablations, so are those of the study's fills in squares, and those of the whole models in the other kinds.
    """
    of_study, in_square = full_name(fill).endswith(f" {STUDY}"), kind.startswith(SQUARE)
    if full_name(fill) == fill:
        return in_square or not of_study
    return ablations and of_study == in_square


def find_models(names: Sequence[str]) -> list[Model]:
    """The models of these names or folders; without names the shipped ones, the default first."""
    if names:
        return [find_model(name) for name in names]
    return sorted(shipped_models(), key=lambda model: model.name != Settings().model)


def model_fills(models: Sequence[Model], template: Template, device: str, seed: int) -> dict[str, Fill]:
    """The fills of the models by their names in the tables.

    For each model: with the default settings ("vae3") and with those of the study ("vae3 study"), and the ablations of
    both ("vae3 no prior", "vae3 study no prior").

    Raises InputError if a model has another model space, or if two models have the same name.
    """
    fills: dict[str, Fill] = {}
    for model in models:
        if model.name in fills:
            raise InputError(f"Two models are called '{model.name}': rename the folder of one of them.")
        search = LatentSearch(model, template, device)
        given = {"model": str(model.folder), "device": device, "seed": seed}
        default, study = Settings(**given), Settings.preset(STUDY, **given)
        for name, settings, parts in ((model.name, default, ABLATIONS), (f"{model.name} {STUDY}", study, STUDY_PARTS)):
            fills[name] = latent_fill(search, settings)
            for part in parts:
                fills[f"{name} {part}"] = latent_fill(search, replace(settings, **ABLATIONS[part]))
    return fills


def latent_fill(search: LatentSearch, settings: Settings) -> Fill:
    """The fill of a generative model with these settings, blended into the scan as in the product."""

    def fill(case: Case) -> NDArray[np.floating]:
        return blend(case, search(case, settings), settings)[0]

    return fill


class LatentSearch:
    """The latent search of a model. It keeps the slices of the last case, because blending does not change them.

    Raises InputError if the model space differs from the template's.
    """

    def __init__(self, model: Model, template: Template, device: str) -> None:
        from ...search.device import choose_device

        model_image = model.template().image
        if not same_grid(model_image, template.image):
            raise InputError(f"Model '{model.name}' has another model space than the first one: evaluate it alone.")
        self._network: LatentModel = model.network(choose_device(device))
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
