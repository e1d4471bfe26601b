"""The procedure of the study with our networks and slices: the reference for speed and quality.

Source: Yeh et al., Semantic Image Inpainting with Deep Generative Models, CVPR 2017. Each slice is filled alone: a
random start, many steps of Adam through the whole decoder, then Poisson blending by gradient descent. The numbers of
steps are those of the study. The paper does not give the learning rates; ours let both descents converge.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ...models.gan import GAN
from ...models.vae import VAE
from ...search.context import context_weights
from ...settings import Settings
from ...space.case import Case
from ...space.slices import to_scan
from ...volumes.image import with_voxels

SEARCH_STEPS, SEARCH_RATE = 1500, 0.01
BLENDING_STEPS, BLENDING_RATE = 3000, 0.01


@dataclass(frozen=True)
class ReferenceFill:
    """The result of the procedure.

    Attributes:
        image: the scan with its hole filled.
        seconds: of search and blending together, for each slice with a hole.
    """

    image: sitk.Image
    seconds: list[float]


def reference_fill(
    network: VAE | GAN,
    case: Case,
    search_steps: int = SEARCH_STEPS,
    blending_steps: int = BLENDING_STEPS,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> ReferenceFill:
    """Fill one slice after another, and resample the slices to the scan.

    Args:
        network: the model on its device; its parameters need no gradients.
        case: a scan with a hole, aligned with model space.
        search_steps, blending_steps: steps of Adam for each slice.
        seed: of the random starts.
        progress: called after each slice with the number of finished slices and the number of all slices.
    """
    slices, device = case.slices, next(network.parameters()).device
    random = torch.Generator().manual_seed(seed)
    count = case.template.image.GetSize()[2]
    stack, seconds = slices.image.copy(), []
    numbers = np.flatnonzero(slices.hole.any(axis=(1, 2)))
    for done, number in enumerate(numbers, start=1):
        began = time.perf_counter()
        alone = slice(number, number + 1)  # without neighbours, the weights are those of the paper
        height = slices.heights[alone]
        weight = context_weights(slices.hole[alone], slices.context[alone], height, Settings().window, floor=0.0)
        known, hole, unknown, weight = (
            torch.from_numpy(array).to(device)
            for array in (slices.image[number], slices.hole[number], slices.unknown[number], weight[0])
        )
        start = torch.randn((1, network.decoder.linear.latent), generator=random).to(device)
        relative = torch.tensor(height / (count - 1), dtype=torch.float32, device=device)
        generated = search_slice(network, known, weight, relative, start, search_steps)
        stack[number] = blend_slice(known, generated, hole, unknown & ~hole, blending_steps).cpu().numpy()
        seconds.append(time.perf_counter() - began)
        progress(done, len(numbers))
    on_scan, _ = to_scan(case.scan, stack, slices, case.alignment, case.template)
    return ReferenceFill(with_voxels(case.scan, on_scan[case.hole], case.hole), seconds)


def search_slice(
    network: VAE | GAN, known: Tensor, weight: Tensor, height: Tensor, start: Tensor, steps: int
) -> Tensor:
    """G(z), (h, w), for the z that Adam finds: argmin_z sum_i W_i |G(z)_i - y_i| + lambda prior(z).

    Source: Yeh et al. 2017, eq. 3, 6 and 7. For a VAE the prior is ||z||^2. Lambda is network.prior_weight.

    Args:
        network: the model.
        known, weight: y and W, (h, w), on the network's device.
        height: (1,), relative, 0 to 1.
        start: z to start from, (1, latent).
        steps: of Adam.
    """
    z = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([z], lr=SEARCH_RATE)
    for _ in range(steps):
        optimiser.zero_grad()
        context = (weight * (network.decoder(z, height)[0, 0] - known).abs()).sum()
        (context + network.prior_weight * network.prior_loss(z, z, height).sum()).backward()
        optimiser.step()
    return network.decoder(z.detach(), height)[0, 0]


def blend_slice(known: Tensor, source: Tensor, hole: Tensor, unknown: Tensor, steps: int) -> Tensor:
    """x, (h, w): argmin_x ||grad x - grad G(z)||^2 with x = y outside the hole, by Adam from x = G(z).

    Source: Yeh et al. 2017, eq. 8; Pérez et al. 2003, eq. 3.

    Args:
        known: y, (h, w); its values in the hole are ignored.
        source: G(z), (h, w).
        hole: bool (h, w).
        unknown: bool (h, w), unknown pixels outside the hole; their differences do not count.
        steps: of Adam.
    """
    inner = source[hole].clone().requires_grad_()
    optimiser = torch.optim.Adam([inner], lr=BLENDING_RATE)
    pairs = []  # along each axis: which pairs of neighbours count, and the differences that they should have
    for axis in (0, 1):
        n = hole.shape[axis] - 1
        (hole_a, hole_b), (unknown_a, unknown_b) = (
            (mask.narrow(axis, 0, n), mask.narrow(axis, 1, n)) for mask in (hole, unknown)
        )
        pairs.append(((hole_a | hole_b) & ~unknown_a & ~unknown_b, source.diff(dim=axis)))
    for _ in range(steps):
        optimiser.zero_grad()
        x = known.masked_scatter(hole, inner)
        losses = [(counts * (x.diff(dim=axis) - wanted) ** 2).sum() for axis, (counts, wanted) in enumerate(pairs)]
        sum(losses).backward()
        optimiser.step()
    return known.masked_scatter(hole, inner.detach())
