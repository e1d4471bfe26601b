"""Models by name: the shipped ones, and any other by its folder."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError
from .folder import CARD, Model, models_folder, read_model


def shipped_models() -> list[Model]:
    """All shipped models, sorted by name."""
    return [read_model(card.parent) for card in sorted(models_folder().glob(f"*/{CARD}"))]


def find_model(name: str) -> Model:
    """A shipped model by its name, or any model by its folder. Raises InputError if there is none."""
    names = [card.parent.name for card in sorted(models_folder().glob(f"*/{CARD}"))]
    if name in names:
        return read_model(models_folder() / name)
    if os.path.isfile(os.path.join(name, CARD)):  # Path would raise an error if the name is too long
        return read_model(Path(name).resolve())
    raise InputError(f"There is no model '{name}': choose one of {', '.join(names)}, or give a model's folder.")
