"""The latent optimisation: z such that G(z) agrees with the known surroundings and stays plausible.

Source: Yeh et al., Semantic Image Inpainting with Deep Generative Models, CVPR 2017, eq. 5 to 8; for a VAE the prior
||z||^2 takes the discriminator's place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..models.gan import GAN
from ..models.vae import VAE
from ..settings import Settings
from ..space.slices import Slices
from .adam import Adam
from .context import context_weights
from .deformation import Deformation, roughness

LEARNING_RATE = 0.1  # of z; the gain and the offset move at a tenth of it
CHUNK = 32  # slices decoded at once unless told otherwise; bounds memory
CHECK_EVERY = 10  # steps between looks at the loss
KNOT_RATE = 0.3  # of the deformation's knots, in pixels
KNOT_WEIGHT = 0.003  # of the deformation's roughness in the loss
CORRELATION = 0.9  # of the latents of neighbouring slices, under the prior
SETTLED = 1e-3  # relative change of the loss between two looks below which the search has settled


Components = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Generated:
    """What the search found.

    Attributes:
        slices: float32 (n, h, w), gain * G(z) + offset, deformed and refined, model intensities.
        losses: float (n,), the final loss of each slice.
        gain, offset: map G(z) to the scan's intensities; all slices share them.
        iterations: Adam steps taken.
    """

    slices: np.ndarray
    losses: np.ndarray
    gain: float
    offset: float
    iterations: int


def search(
    network: VAE | GAN,
    slices: Slices,
    count: int,
    settings: Settings,
    progress: Callable[[float, str], None],
    chunk: int = CHUNK,
) -> tuple[Generated, Components]:
    """Minimise L = sum_i W_i |g G(z)_i + o - y_i| + lambda prior(z) over every slice's latent and the scan's g and o.

    The prior is ||u||^2 for a VAE and log(1 - D(G(z))) for a GAN, whose u also stays within a bound.

    The slices of one brain resemble each other: under the prior, z is a Gaussian process along the height. It is
    written as z = C u with independent standard normal u, where C C^T holds the correlations, so that the prior is
    the paper's for u, and known slices above and below the hole inform those that it crosses.

    G(z) may also bend a little: a smooth displacement is found along with z, as no affine alignment brings every
    ventricle and every gyrus in place. It starts from none, and its roughness is a part of the prior.

    In the search, G is the decoder's linear path; the z that is found is decoded with the refinement, through which
    a step would cost ten times as much. The discriminator needs the refinement: it judges a few slices a step, drawn
    anew each time.

    Args:
        network: the model, on its device.
        slices: n model-space slices.
        count: slices along the whole model grid.
        settings: iterations, restarts, prior_weight, window, weighting, prior, seed.
        progress: called with the done fraction and a message; may raise Cancelled.
        chunk: slices decoded at once; bounds memory, and changes nothing but the order of sums.

    Returns what was found, and the components of the generator there: called with the index of a slice and a mask
    (h, w) of its pixels, they give what a unit of each z changes in these pixels, float32 (pixels, latent).
    """
    descent = _Descent(network, slices, count, settings, chunk)
    before, taken = 0.0, 0
    for taken in range(1, settings.iterations + 1):
        loss = descent.step()
        progress(taken / settings.iterations, f"step {taken} of at most {settings.iterations}")
        if taken % CHECK_EVERY == 0:
            now = float(loss)
            if abs(before - now) < SETTLED * abs(before):
                break
            before = now
    return descent.found(taken)


class _Descent:
    """The variables of the search, for m starts of n slices each, and Adam's steps on them."""

    def __init__(self, network: VAE | GAN, slices: Slices, count: int, settings: Settings, chunk: int = CHUNK):
        self.chunk = chunk
        self.network, self.device = network, next(network.parameters()).device
        self.random = torch.Generator().manual_seed(settings.seed)
        self.starts = network.restarts if settings.restarts is None else settings.restarts
        self.prior_weight = network.prior_weight if settings.prior_weight is None else settings.prior_weight
        self.prior_weight *= settings.prior

        weights = context_weights(slices.hole, slices.context, slices.heights, settings.window, settings.weighting)
        self.image, unknown, self.weight = (
            self._tensor(array)[:, None] for array in (slices.image, slices.unknown, weights)
        )
        self.height = self._tensor(slices.heights / (count - 1))
        self.held = network.decoder.linear.held(self.height)
        self.coupling = slice_coupling(slices.heights).to(self.device)
        self.u = self._start(unknown).requires_grad_()
        self.gain, self.offset = (torch.full((), x, device=self.device, requires_grad=True) for x in (1.0, 0.0))
        *_, height, width = self.image.shape
        self.deformation = Deformation(slices.heights, (height, width), self.device)
        self.knots = torch.zeros((self.starts, *self.deformation.knots), device=self.device, requires_grad=True)
        self.adam = Adam(
            [
                (self.u, LEARNING_RATE),
                (self.gain, 0.1 * LEARNING_RATE),
                (self.offset, 0.1 * LEARNING_RATE),
                (self.knots, KNOT_RATE),
            ],
            max(settings.iterations, 1),
        )

    def step(self) -> Tensor:
        """One step of Adam; returns the loss before it."""
        roots = self._latents()
        # Of their own, to gather the decoder's gradient chunk by chunk.
        z, displacement = leaves = tuple(root.detach().requires_grad_() for root in roots)
        total = torch.zeros((), device=self.device)
        for part in self._chunks(0, len(roots[0])):
            loss = self._context_loss(z, displacement, part).sum()
            loss.backward()
            total += loss.detach()
        prior = KNOT_WEIGHT * roughness(self.knots)
        if self.prior_weight:
            prior = prior + self._prior_loss(roots[0])
        passed_on = prior  # with products whose gradients are the leaves': given as such, torch would load sympy first
        for root, leaf in zip(roots, leaves, strict=True):
            assert leaf.grad is not None
            passed_on = passed_on + (root * leaf.grad).sum()
        passed_on.backward()
        self.adam.step()
        with torch.no_grad():
            self.u.clamp_(-self.network.bound, self.network.bound)
        return total + prior.detach()

    @torch.no_grad()
    def found(self, iterations: int) -> tuple[Generated, Components]:
        """The start that ended with the lowest loss."""
        n = len(self.height)
        z, displacement = self._latents()
        chunks = self._chunks(0, len(z))
        losses = torch.cat([self._context_loss(z, displacement, part) for part in chunks])
        if self.prior_weight:
            heights = self.height.repeat(self.starts)
            u = self.u.flatten(0, 1)
            prior = [self.network.prior_loss(u[part], z[part], heights[part]) for part in chunks]
            losses = losses + self.prior_weight * torch.cat(prior)
        losses = losses.view(self.starts, n)
        best = int(losses.sum(1).argmin())
        parts = self._chunks(best * n, (best + 1) * n)
        slices = torch.cat([self._generated(z, displacement, part, refined=True) for part in parts])
        bent = displacement[best * n : (best + 1) * n]
        found = Generated(
            slices[:, 0].cpu().numpy(),
            losses[best].cpu().numpy(),
            float(self.gain),
            float(self.offset),
            iterations,
        )
        return found, lambda index, pixels: self._components(bent, index, pixels)

    @torch.no_grad()
    def _start(self, unknown: Tensor) -> Tensor:
        """u (m, n, latent) of the network's starts."""
        shape = self.starts, len(self.height), self.network.decoder.linear.latent
        noise = torch.randn(shape, generator=self.random).to(self.device)
        parts = [
            self.network.start(*part)
            for part in zip(
                self.image.split(self.chunk),
                unknown.split(self.chunk),
                self.height.split(self.chunk),
                (self.coupling @ noise).split(self.chunk, dim=1),
                strict=True,
            )
        ]
        u = torch.linalg.solve_triangular(self.coupling, torch.cat(parts, dim=1), upper=False)
        return u.clamp(-self.network.bound, self.network.bound)

    def _latents(self) -> tuple[Tensor, Tensor]:
        """z (m * n, latent) and the displacements in pixels (m * n, h, w, 2)."""
        return (self.coupling @ self.u).flatten(0, 1), self.deformation.displacement(self.knots)

    def _generated(self, z: Tensor, displacement: Tensor, part: slice, refined: bool = False) -> Tensor:
        own = self._own(part)
        made = self.network.decoder.linear.combined(z[part], *(held[own] for held in self.held))
        if refined:
            made = self.network.decoder.refined(made, self.height[own])
        return self.gain * self.deformation.warped(made, displacement[part]) + self.offset

    @torch.no_grad()
    def _components(self, displacement: Tensor, index: int, pixels: np.ndarray) -> np.ndarray:
        """What a unit of each z changes in pixels, bool (h, w), of a slice, bent by displacements (n, h, w, 2).

        Returns float32 (pixels, latent).
        """
        own = slice(index, index + 1)
        components = self.network.decoder.linear.components(self.held[1][own])
        there = torch.as_tensor(pixels, device=self.device)
        return (self.gain * self.deformation.sampled(components, displacement[own], there))[0].T.cpu().numpy()

    def _context_loss(self, z: Tensor, displacement: Tensor, part: slice) -> Tensor:
        own = self._own(part)
        difference = self._generated(z, displacement, part) - self.image[own]
        return (self.weight[own] * difference.abs()).flatten(1).sum(1)

    def _prior_loss(self, z: Tensor) -> Tensor:
        """The weighted prior of all slices, estimated from as many as the network judges in a step."""
        some = torch.arange(len(z))
        if self.network.judged:
            some = torch.randperm(len(z), generator=self.random)[: self.network.judged]
        some = some.to(self.device)
        losses = self.network.prior_loss(self.u.flatten(0, 1)[some], z[some], self.height[some % len(self.height)])
        return self.prior_weight * losses.sum() * (len(z) / len(some))

    def _chunks(self, begin: int, end: int) -> list[slice]:
        """Slices of whole starts, cut into chunks, of which none holds slices of two starts."""
        n = len(self.height)
        starts = range(begin, end, n)
        return [slice(low, min(low + self.chunk, at + n)) for at in starts for low in range(at, at + n, self.chunk)]

    def _own(self, part: slice) -> slice:
        """A chunk's place among the slices of its start."""
        first = part.start % len(self.height)
        return slice(first, first + part.stop - part.start)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32).to(self.device)


def slice_coupling(heights: np.ndarray) -> Tensor:
    """C, lower triangular (n, n), such that C C^T is the prior correlation of the latents of slices (n,)."""
    distance = torch.as_tensor(np.abs(heights[:, None] - heights[None, :]), dtype=torch.float64)
    return torch.linalg.cholesky(CORRELATION**distance).float()
