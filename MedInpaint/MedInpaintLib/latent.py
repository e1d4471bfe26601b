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
from .deformation import Deformation, roughness
from .errors import InputError
from .networks import VAE
from .settings import Settings
from .slices import Slices

LEARNING_RATE = 0.1  # of z; the gain and the offset move at a tenth of it
CHUNK = 32  # slices decoded at once; bounds memory at about 0.5 GB on a CPU
CHECK_EVERY = 10  # steps between looks at the loss
KNOT_RATE = 0.3  # of the deformation's knots, in pixels
KNOT_WEIGHT = 0.003  # of the deformation's roughness in the loss
CORRELATION = 0.9  # of the latents of neighbouring slices, under the prior
SETTLED = 1e-3  # relative change of the loss between two looks below which the search has settled


@dataclass(frozen=True)
class Generated:
    """What the search found.

    Attributes:
        slices: float32 (n, h, w), gain * G(z) + offset, deformed and refined, model intensities.
        losses: float (n,), the final loss of each slice, of the start that ended with the lowest sum.
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
    """Minimise L = sum_i W_i |g G(z)_i + o - y_i| + lambda ||u||^2 over every slice's latent and the scan's g and o.

    The slices of one brain resemble each other: under the prior, z is a Gaussian process along the height. It is
    written as z = C u with independent standard normal u, where C C^T holds the correlations, so that the prior is
    the paper's for u, and known slices above and below the hole inform those that it crosses.

    G(z) may also bend a little: a smooth displacement is found along with z, as no affine alignment brings every
    ventricle and every gyrus in place. It starts from none, and its roughness is a part of the prior.

    In the search, G is the decoder's linear path; the z that is found is decoded with the refinement, through which
    a step would cost ten times as much.

    Args:
        network: the VAE, on its device.
        slices: n model-space slices.
        count: slices along the whole model grid.
        settings: iterations, restarts, prior_weight, window, weighting, prior, seed.
        progress: called with the done fraction and a message; may raise Cancelled.
    """
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(settings.seed)
    restarts, n = settings.restarts, len(slices.heights)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32).to(device)

    weights = context_weights(slices.hole, slices.context, slices.heights, settings.window, settings.weighting)
    image, unknown, weight = (tensor(array)[:, None] for array in (slices.image, slices.unknown, weights))
    height = tensor(slices.heights / (count - 1))
    with torch.no_grad():
        parts = [
            network.encoder(*part)
            for part in zip(image.split(CHUNK), unknown.split(CHUNK), height.split(CHUNK), strict=True)
        ]
    mean, log_variance = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    noise = torch.randn((restarts, *mean.shape), generator=generator).to(device)
    noise[0] = 0  # the first start is the encoder's mean, further ones are samples round it
    coupling = slice_coupling(slices.heights).to(device)
    start = mean + (0.5 * log_variance).exp() * noise
    u = torch.linalg.solve_triangular(coupling, start, upper=False).requires_grad_()
    gain, offset = (torch.full((), value, device=device, requires_grad=True) for value in (1.0, 0.0))
    deformation = Deformation(slices.heights, tuple(image.shape[2:]), device)
    knots = torch.zeros((restarts, *deformation.knots), device=device, requires_grad=True)
    optimiser = torch.optim.Adam(
        [{"params": [u]}, {"params": [gain, offset], "lr": 0.1 * LEARNING_RATE}, {"params": [knots], "lr": KNOT_RATE}],
        lr=LEARNING_RATE,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(settings.iterations, 1))
    prior_weight = settings.prior_weight if settings.prior else 0.0
    chunks = torch.arange(restarts * n, device=device).split(CHUNK)  # over the slices of all restarts

    def generated(decode: Callable, z: Tensor, displacement: Tensor, part: Tensor) -> Tensor:
        made = decode(z[part], height[part % n])
        return gain * deformation.warped(made, displacement[part]) + offset

    def context_loss(z: Tensor, displacement: Tensor, part: Tensor) -> Tensor:
        difference = generated(network.decoder.linear, z, displacement, part) - image[part % n]
        return (weight[part % n] * difference.abs()).flatten(1).sum(1)

    before, taken = 0.0, 0
    for taken in range(1, settings.iterations + 1):
        optimiser.zero_grad(set_to_none=True)
        roots = (coupling @ u).flatten(0, 1), deformation.displacement(knots)
        leaves = [root.detach().requires_grad_() for root in roots]  # gather the decoder's gradient chunk by chunk
        total = 0.0
        for part in chunks:
            loss = context_loss(*leaves, part).sum()
            loss.backward()
            total += loss.detach()
        prior = prior_weight * (u**2).sum() + KNOT_WEIGHT * roughness(knots)
        torch.autograd.backward([*roots, prior], [*(leaf.grad for leaf in leaves), None])
        optimiser.step()
        schedule.step()
        progress(taken / settings.iterations, f"step {taken} of at most {settings.iterations}")
        if taken % CHECK_EVERY == 0:
            now = float(total + prior.detach())
            if abs(before - now) < SETTLED * abs(before):
                break
            before = now
    with torch.no_grad():
        z, displacement = (coupling @ u).flatten(0, 1), deformation.displacement(knots)
        losses = torch.cat([context_loss(z, displacement, part) for part in chunks]).view(restarts, n)
        losses = losses + prior_weight * (u**2).sum(2)
        best = int(losses.sum(1).argmin())
        chosen = torch.arange(best * n, (best + 1) * n, device=device).split(CHUNK)
        made = torch.cat([generated(network.decoder, z, displacement, part) for part in chosen])
    return Generated(
        made[:, 0].cpu().numpy(),
        losses[best].cpu().numpy(),
        float(gain.detach()),
        float(offset.detach()),
        taken,
    )


def slice_coupling(heights: np.ndarray) -> Tensor:
    """C, lower triangular (n, n), such that C C^T is the prior correlation of the latents of slices (n,)."""
    distance = torch.as_tensor(np.abs(heights[:, None] - heights[None, :]), dtype=torch.float64)
    return torch.linalg.cholesky(CORRELATION**distance).float()
