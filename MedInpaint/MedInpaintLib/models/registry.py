"""A model on disk: a folder with its weights, its template and a card that says what it is.

A folder may come from anywhere: it is data and never code, and neither a file nor what it unpacks to may be huge.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    pass
from .folder import CARD, Model, _read, models_folder


def shipped_models() -> list[Model]:
    """All shipped models, by name."""
    return [_read(card.parent) for card in sorted(models_folder().glob(f"*/{CARD}"))]


def find_model(name: str) -> Model:
    """A shipped model by its name, or any model by its folder. Raises InputError if there is none."""
    names = [card.parent.name for card in sorted(models_folder().glob(f"*/{CARD}"))]
    if name in names:
        return _read(models_folder() / name)
    if os.path.isfile(os.path.join(name, CARD)):  # of a Path, a name that is too long would raise
        return _read(Path(name).resolve())
    raise InputError(f"There is no model '{name}': choose one of {', '.join(names)}, or give a model's folder.")
