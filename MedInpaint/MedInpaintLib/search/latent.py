"""The latent search: find z such that G(z) agrees with the known surroundings of the hole and is plausible.

Source: Yeh et al., "Semantic Image Inpainting with Deep Generative Models", CVPR 2017, eq. 5 to 8. For a VAE, the prior
||z||^2 replaces the discriminator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..models.latent_model import LatentModel
from ..settings import Settings
from ..space.intensities import LEVELS
from ..space.slices import Slices
from .adam import Adam
from .context import ScanLoss, balance, context_weights
from .curve import as_model_sees, slope
from .deformation import Deformation, roughness

LEARNING_RATE = 0.2  # of z
STUDY_RATE = 0.1  # the same for the search of the paper alone
CURVE_RATE = 0.02  # of the gain and the offset of the contrast curve
CHUNK = 32  # slices that are decoded at once by default; bounds memory
CHECK_EVERY = 10  # steps between two checks of the loss
KNOT_RATE = 0.6  # learning rate of the deformation's knots, in pixels
KNOT_WEIGHT = 0.003  # of the deformation's roughness in the loss
BEND_RATE = 0.02  # learning rate of the bend of the contrast curve
CORRELATION = 0.9  # of the latents of neighbouring slices, under the prior
ROWS = 30  # pixels; with a pixelwise model, the search compares the rows of the slices this close to those of the hole
SETTLED = 1e-3  # the search stops if the loss changes by less than this share between two checks

# A function of a slice's index and of some of its pixels, bool (h, w). It returns the change of these pixels for a unit
# of each z, float32 (pixels, latent).
Components = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Generated:
    """The result of the search.

    Attributes:
        slices: float32 (n, h, w), the contrast curve of the tissue, in model intensities of the scan.
        tissue: float32 (n, h, w), G(z), deformed, in the model's own intensities, those of a T1-weighted scan.
        losses: float (n,), the final loss of each slice.
        curve: float32 (k,), the contrast curve, from G(z) to the scan: its values at LEVELS, the same for all slices.
        straight: whether the curve is a line.
        iterations: number of Adam steps.
    """

    slices: np.ndarray
    tissue: np.ndarray
    losses: np.ndarray
    curve: np.ndarray
    straight: bool
    iterations: int

    def through_curve(self, tissue: np.ndarray) -> np.ndarray:
        """The contrast curve of model intensities of any shape. A straight one goes on beyond LEVELS."""
        if self.straight:
            return self.curve[0] + (self.curve[-1] - self.curve[0]) / LEVELS[-1] * tissue
        return np.interp(tissue, LEVELS, self.curve)


def search(
    network: LatentModel,
    slices: Slices,
    count: int,
    settings: Settings,
    progress: Callable[[float, str], None],
    chunk: int = CHUNK,
) -> tuple[Generated, Components]:
    """Minimise L = sum_i W_i |f(G(z)_i) - y_i| + lambda prior(z) over the latent of each slice, and one curve f.

    The prior is ||u||^2, and log(1 - D(G(z))) for a GAN. The u of a GAN also has a bound.

    Neighbouring slices of a brain resemble each other, so under the prior z is a Gaussian process along the height. It
    is written as z = C u, where u is independent standard normal and C C^T is the correlation matrix of the slices. The
    prior for u is then that of the paper, and known slices above and below the hole inform the slices of the hole.

    G(z) may also deform a little: the search finds a smooth displacement together with z, because an affine alignment
    cannot match each ventricle and each gyrus. The displacement starts at zero, and its roughness is part of the prior.

    The contrast curve f is g f_0 + o + b, where f_0 is that of the slices, g and o are a gain and an offset, and b is a
    small bend. So it serves scans of other contrasts than the model's. A straight f_0, that of T1-weighted scans, stays
    straight: a bend would cost them up to 0.9 dB.

    With settings.slicewise the search is that of the paper alone: C and f are the identity, nothing deforms.

    Args:
        network: the model, on its device.
        slices: n model-space slices.
        count: number of slices of the whole model grid.
        settings: iterations, prior_weight, window, weighting, prior, slicewise and seed.
        progress: called with the fraction done and a message; may raise Cancelled.
        chunk: slices that are decoded at once; bounds memory, and changes only the order of sums.

    Returns the result, and the components of the model's brains, deformed like the result.
    """
    return search_together(network, [slices], count, settings, progress, chunk)[0]


def search_together(
    network: LatentModel,
    stacks: Sequence[Slices],
    count: int,
    settings: Settings,
    progress: Callable[[float, str], None],
    chunk: int = CHUNK,
) -> list[tuple[Generated, Components]]:
    """As `search`, for several scans of one anatomy: one latent of each slice and one deformation, a curve for each.

    The loss is the sum of the scans' context losses, in equal parts, and of one prior. A pixel that one scan knows in
    the hole of another one counts like the pixels beside the hole.

    Args:
        stacks: the slices of each scan, all at the same heights. The search starts from the first.

    Returns a result and its components for each scan.
    """
    descent = _Descent(network, stacks, count, settings, chunk)
    earlier, step = 0.0, 0
    for step in range(1, settings.iterations + 1):
        loss = descent.step()
        progress(step / settings.iterations, f"step {step} of at most {settings.iterations}")
        if step % CHECK_EVERY == 0:
            now = float(loss)
            if abs(earlier - now) < SETTLED * abs(earlier):
                break
            earlier = now
    return descent.results(step)


def rows_near(hole: np.ndarray) -> slice:
    """The rows of the slices (n, h, w) of which the search knows: those of the hole, and ROWS more on both sides."""
    used = np.flatnonzero(hole.any(axis=(0, 2)))
    return slice(max(int(used[0]) - ROWS, 0), int(used[-1]) + 1 + ROWS)


def slice_coupling(heights: np.ndarray) -> Tensor:
    """C, lower triangular (n, n); C C^T is the prior correlation of the latents of slices at heights (n,)."""
    distance = torch.as_tensor(np.abs(heights[:, None] - heights[None, :]), dtype=torch.float64)
    return torch.linalg.cholesky(CORRELATION**distance).float()


@dataclass(frozen=True)
class _View:
    """What the loss compares: all of the slices, or some rows of them."""

    scans: list[ScanLoss]
    at_height: tuple[Tensor, ...]
    deformation: Deformation

    def of_rows(self, rows: slice, deformation: Deformation) -> _View:
        return _View(
            [scan.of_rows(rows) for scan in self.scans],
            tuple(tensor[..., rows, :] for tensor in self.at_height),
            deformation,
        )


class _Descent:
    """The variables of the search for n slices, and Adam's steps on them."""

    def __init__(
        self, network: LatentModel, stacks: Sequence[Slices], count: int, settings: Settings, chunk: int = CHUNK
    ):
        self.chunk = chunk
        self.network, self.device = network, network.brains.mean.device
        self.random = torch.Generator().manual_seed(settings.seed)
        self.prior_weight = network.prior_weight if settings.prior_weight is None else settings.prior_weight
        self.prior_weight *= settings.prior

        heights = stacks[0].heights
        hole = np.any([slices.hole for slices in stacks], axis=0)
        rows = rows_near(hole) if network.pixelwise and not settings.slicewise else slice(None)
        self.scans = []
        for slices in stacks:
            weights = context_weights(hole, slices.context, heights, settings.window, settings.weighting)
            weights[:, np.delete(np.arange(hole.shape[1]), rows)] = 0
            curve = LEVELS if settings.slicewise else slices.curve
            self.scans.append(ScanLoss(slices, weights, curve, self.device))
        self.height = torch.as_tensor(heights / (count - 1), dtype=torch.float32).to(self.device)
        if len(self.scans) > 1:
            balance(self.scans, network.brains.mean_at(self.height))
        coupling = torch.eye(len(heights)) if settings.slicewise else slice_coupling(heights)
        self.coupling = coupling.to(self.device)
        self.u = self._start(self.scans[0], stacks[0].unknown).requires_grad_()
        self.deformation = Deformation(heights, hole.shape[1:], self.device)
        self.whole = _View(self.scans, network.at_height(self.height), self.deformation)
        self.near = self.whole
        if rows != slice(None):
            self.near = self.whole.of_rows(rows, Deformation(heights, hole.shape[1:], self.device, rows))
        self.knots = torch.zeros(self.deformation.knots, device=self.device, requires_grad=True)
        variables = [(self.u, STUDY_RATE if settings.slicewise else LEARNING_RATE)]
        if not settings.slicewise:
            for scan in self.scans:
                variables += [(scan.gain, CURVE_RATE), (scan.offset, CURVE_RATE)]
                variables += [] if scan.straight else [(scan.bend, BEND_RATE)]
            variables.append((self.knots, KNOT_RATE))
        self.adam = Adam(variables, max(settings.iterations, 1))

    def step(self) -> Tensor:
        """Take one step of Adam and return the loss before it."""
        roots = self._latents(self.near)
        # Separate leaf tensors collect the gradient of the decoder chunk by chunk.
        z, displacement = leaves = tuple(root.detach().requires_grad_() for root in roots)
        total = torch.zeros((), device=self.device)
        for part in self._chunks():
            loss = self._loss(self.near, z, displacement, part)[0].sum()
            loss.backward()
            total += loss.detach()
        # The products pass the leaves' gradients on. `torch.autograd.backward` with gradients would load sympy first.
        objective = KNOT_WEIGHT * roughness(self.knots) + sum(scan.penalty() for scan in self.scans)
        rough = objective.detach()
        for root, leaf in zip(roots, leaves, strict=True):
            assert leaf.grad is not None
            objective = objective + (root * leaf.grad).sum()
        objective.backward()
        self.adam.step()
        with torch.no_grad():
            self.u.clamp_(-self.network.latent_bound, self.network.latent_bound)
        return total + rough

    @torch.no_grad()
    def results(self, iterations: int) -> list[tuple[Generated, Components]]:
        """The results of the scans after this number of steps."""
        z, displacement = self._latents(self.whole)
        found = [self._loss(self.whole, z, displacement, part) for part in self._chunks()]
        losses, tissue = (torch.cat(parts) for parts in zip(*found, strict=True))

        def result(scan: ScanLoss) -> tuple[Generated, Components]:
            curve = scan.curve()

            def components(index: int, pixels: np.ndarray) -> np.ndarray:
                return self._components(z[index], displacement, curve, index, pixels)

            generated = Generated(
                scan.through_curve(tissue)[:, 0].cpu().numpy(),
                tissue[:, 0].cpu().numpy(),
                losses.cpu().numpy(),
                curve.cpu().numpy(),
                scan.straight,
                iterations,
            )
            return generated, components

        return [result(scan) for scan in self.scans]

    @torch.no_grad()
    def _start(self, scan: ScanLoss, hidden: np.ndarray) -> Tensor:
        """The u (n, latent) where the network starts for a scan, whose unknown pixels are given, bool (n, h, w)."""
        noise = torch.randn(len(self.height), self.network.latent, generator=self.random).to(self.device)
        image, unknown = scan.image, torch.as_tensor(hidden[:, None], dtype=torch.float32).to(self.device)
        if not scan.straight:
            image = as_model_sees(scan.start_curve, image, self.network.brains.mean_at(self.height)) * (1 - unknown)
        z = self.coupling @ noise
        z = torch.cat([self.network.start(image[p], unknown[p], self.height[p], z[p]) for p in self._chunks()])
        u = torch.linalg.solve_triangular(self.coupling, z, upper=False)
        return u.clamp(-self.network.latent_bound, self.network.latent_bound)

    def _latents(self, view: _View) -> tuple[Tensor, Tensor]:
        """z (n, latent), and the displacements in pixels (n, h, w, 2)."""
        return self.coupling @ self.u, view.deformation.displacement(self.knots)

    def _loss(self, view: _View, z: Tensor, displacement: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """The loss (chunk,) of each slice of one chunk, and G(z), deformed, (chunk, 1, h, w)."""
        decoded = self.network.decode(z[part], *(tensor[part] for tensor in view.at_height))
        tissue = view.deformation.warp(decoded, displacement[part])
        loss = torch.stack([scan(tissue, part) for scan in view.scans]).sum(0)
        if self.prior_weight:
            loss = loss + self.prior_weight * self.network.prior_loss(self.u[part], decoded, self.height[part])
        return loss, tissue

    @torch.no_grad()
    def _components(self, z: Tensor, displacement: Tensor, curve: Tensor, index: int, pixels: np.ndarray) -> np.ndarray:
        """See `Components`; z (latent,) is of this slice, the displacement of all slices, (n, h, w, 2)."""
        one = slice(index, index + 1)
        decoded = self.network.decode(z[None], *(tensor[one] for tensor in self.whole.at_height))
        mask = torch.as_tensor(pixels, device=self.device)
        tissue, components = (
            self.deformation.warp_pixels(each, displacement[one], mask)[0]
            for each in (decoded, self.network.brains.components(self.height[one]))
        )
        return (slope(curve, tissue[0]) * components).T.cpu().numpy()

    def _chunks(self) -> list[slice]:
        """The slices that are decoded at once."""
        return [slice(low, low + self.chunk) for low in range(0, len(self.height), self.chunk)]
