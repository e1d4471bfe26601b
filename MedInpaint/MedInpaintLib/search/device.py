"""The torch devices: which one a run uses, and how to free its memory."""

from __future__ import annotations

import gc

import torch

from ..errors import InputError
from ..models.latent_model import LatentModel


def choose_device(name: str) -> torch.device:
    """The torch device for a `Settings.device`. Raises InputError if this computer does not have it."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise InputError(f"This computer has no {name} device that torch can use: choose --device cpu or auto.")
    return torch.device(name)


def algebra_device(network: LatentModel) -> torch.device:
    """The device for linear systems: that of the network if it is CUDA, else the CPU, as MPS lacks some solvers."""
    device = network.brains.mean.device
    return device if device.type == "cuda" else torch.device("cpu")


def release_memory(device: torch.device) -> None:
    """Free the memory of a CUDA or MPS device that a failed search has used."""
    gc.collect()
    getattr(torch, device.type).empty_cache()
