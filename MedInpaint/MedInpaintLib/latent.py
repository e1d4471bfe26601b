"""The latent optimisation: z such that G(z) agrees with the known surroundings and stays plausible.

Source: Yeh et al., Semantic Image Inpainting with Deep Generative Models, CVPR 2017, eq. 5 to 8; the VAE's prior
||z||^2 takes the discriminator's place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .context import context_weights
from .errors import InputError
from .networks import VAE
from .settings import Settings
from .slices import Slices

LEARNING_RATE = 0.1  # of z; the gain and the offset move at a tenth of it
CHUNK = 32  # slices decoded at once; bounds memory at about 0.5 GB on a CPU
CHECK_EVERY = 10  # steps between looks at the loss
SETTLED = 1e-3  # relative change of the loss between two looks below which the search has settled


@dataclass(frozen=True)
class Generated:
    """What the search found.

    Attributes:
        slices: float32 (n, h, w), gain * G(z) + offset, model intensities.
        losses: float (n,), the final loss of each slice.
        gain, offset: of the scan against the model, shared by all slices.
        iterations: Adam steps taken.
    """

    slices: np.ndarray
    losses: np.ndarray
    gain: float
    offset: float
    iterations: int


def choose_device(name: str) -> torch.device:
    """The device of a Settings.device. Raises InputError if it is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise InputError(f"This computer has no {name} device that torch can use: choose --device cpu or auto.")
    return torch.device(name)


def search(
    network: VAE, slices: Slices, count: int, settings: Settings, progress: Callable[[float, str], None]
) -> Generated:
    """Minimise L = sum_i W_i |g G(z)_i + o - y_i| + lambda ||z||^2 over every slice's z and the scan's g and o.

    G(z) is what the decoder makes and the template's fine detail, which the decoder does not resolve.

    Args:
        network: the VAE, on its device.
        slices: n model-space slices.
        count: slices along the whole model grid.
        settings: iterations, restarts, prior_weight, window, weighting, prior, seed.
        progress: called with the done fraction and a message; may raise Cancelled.
    """
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(settings.seed)
    weights = context_weights(slices.hole, slices.context, settings.window, weighting=settings.weighting)

    def batch(array: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        repeated = torch.as_tensor(array, dtype=dtype).repeat_interleave(settings.restarts, dim=0)
        return repeated.to(device)

    fine = np.array(np.broadcast_to(slices.detail, slices.image.shape))
    image, hole, weight, detail = (batch(array)[:, None] for array in (slices.image, slices.hole, weights, fine))
    height = batch(slices.heights / (count - 1))
    with torch.no_grad():
        parts = [
            network.encoder(*part)
            for part in zip(image.split(CHUNK), hole.split(CHUNK), height.split(CHUNK), strict=True)
        ]
    mean, log_variance = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    noise = torch.randn(mean.shape, generator=generator).to(device)
    noise[:: settings.restarts] = 0  # the first start is the encoder's mean, further ones are samples round it
    z = (mean + (0.5 * log_variance).exp() * noise).requires_grad_()
    gain, offset = (torch.full((), value, device=device, requires_grad=True) for value in (1.0, 0.0))
    optimiser = torch.optim.Adam(
        [{"params": [z]}, {"params": [gain, offset], "lr": 0.1 * LEARNING_RATE}], lr=LEARNING_RATE
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(settings.iterations, 1))
    prior_weight = settings.prior_weight if settings.prior else 0.0

    def loss_of(part: slice) -> Tensor:
        generated = gain * (network.decoder(z[part], height[part]) + detail[part]) + offset
        context = (weight[part] * (generated - image[part]).abs()).flatten(1).sum(1)
        return context + prior_weight * (z[part] ** 2).sum(1)

    chunks = [slice(start, start + CHUNK) for start in range(0, len(z), CHUNK)]
    before, taken = 0.0, 0
    for taken in range(1, settings.iterations + 1):
        optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for part in chunks:
            loss = loss_of(part).sum()
            loss.backward()
            total += loss.detach()
        optimiser.step()
        schedule.step()
        progress(taken / settings.iterations, f"step {taken} of at most {settings.iterations}")
        if taken % CHECK_EVERY == 0:
            now = float(total)
            if abs(before - now) < SETTLED * abs(before):
                break
            before = now
    with torch.no_grad():
        losses = torch.cat([loss_of(part) for part in chunks]).view(-1, settings.restarts)
        best = losses.argmin(dim=1) + torch.arange(len(losses), device=device) * settings.restarts
        found = [network.decoder(z[part], height[part]) + detail[part] for part in best.split(CHUNK)]
        generated = gain * torch.cat(found)[:, 0] + offset
    return Generated(
        generated.cpu().numpy(), losses.amin(dim=1).cpu().numpy(), float(gain.detach()), float(offset.detach()), taken
    )
