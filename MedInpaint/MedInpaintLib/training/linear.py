"""`medinpaint train linear`: the linear model needs no training, its components are the brains."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..models.folder import Model
from ..models.linear import Brains, Linear
from .export import export
from .slices.data import LEVELS, load
from .slices.shape import mean_and_differences


def train_linear(data_file: Path, output: Path) -> Model:
    """Write the folder of the linear model. Raises InputError if the slice file cannot be used.

    Args:
        data_file: slice file of `medinpaint train prepare`.
        output: folder of the model.
    """
    data = load(data_file)
    brains = Brains(*mean_and_differences(data.training.astype(np.float32) / LEVELS))
    training = {"kernel": None, "command": "medinpaint train linear", "epochs": 0, "training_minutes": 0, "history": []}
    return export(Linear(brains), output, data, {"kind": "linear", **training, "device": "cpu"})
