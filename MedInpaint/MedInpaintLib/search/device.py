"""The latent optimisation: z such that G(z) agrees with the known surroundings and stays plausible.

Source: Yeh et al., Semantic Image Inpainting with Deep Generative Models, CVPR 2017, eq. 5 to 8; for a VAE the prior
||z||^2 takes the discriminator's place.
"""

from __future__ import annotations

import gc

import torch

from ..errors import InputError


def choose_device(name: str) -> torch.device:
    """The device of a Settings.device. Raises InputError if it is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise InputError(f"This computer has no {name} device that torch can use: choose --device cpu or auto.")
    return torch.device(name)


def algebra_device(network: torch.nn.Module) -> torch.device:
    """Where to solve linear systems: the network's device if it is CUDA, else the CPU, as MPS lacks some solvers."""
    device = next(network.parameters()).device
    return device if device.type == "cuda" else torch.device("cpu")


def release_memory(device: torch.device) -> None:
    """Give back what a search that failed has held of a CUDA or MPS device's memory."""
    gc.collect()
    getattr(torch, device.type).empty_cache()
