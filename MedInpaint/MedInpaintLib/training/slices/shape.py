"""Training brains in a common shape: each brain is deformed onto the mean brain.

The affine alignment leaves differences in shape. Without them, the principal components are sharper. The latent search
deforms the generated slices back (active appearance models, Cootes, Edwards and Taylor, IEEE TPAMI 2001).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...models.linear import DIFFERENCE_LEVELS, MEAN_LEVELS
from ...search.deformation import Deformation, roughness

STEPS = 40
LEARNING_RATE = 0.3  # pixels
LIKENESS = 60.0  # weight of the squared differences relative to the roughness of the deformation


def to_common_shape(
    brains: np.ndarray, report: Callable[[int], None] = lambda done: None
) -> tuple[np.ndarray, np.ndarray]:
    """Deform brains onto their left-right symmetric mean.

    Args:
        brains: float32 (subjects, z, h, w), model intensities.
        report: called with the number of brains that are done.

    Returns the deformed brains, float32 (subjects, z, h, w), and the knots of the deformations, float16 (subjects, 2,
    kz, ky, kx): see `Deformation`.
    """
    mean = brains.mean(axis=0)
    mean = torch.as_tensor(0.5 * (mean + mean[..., ::-1]))
    deformation = Deformation(np.arange(len(mean)), tuple(mean.shape[1:]), mean.device)
    shaped, shapes = [], []
    for brain in brains:
        deformed, knots = _deform_to_mean(torch.as_tensor(brain), mean, deformation)
        shaped.append(deformed.numpy())
        shapes.append(knots.half().numpy())
        report(len(shaped))
    return np.stack(shaped), np.stack(shapes)


def mean_and_differences(brains: np.ndarray) -> tuple[Tensor, Tensor]:
    """The parameters of the linear path, from brains in a common shape, float32 (subjects, z, h, w).

    Returns the mean of the brains and their mirror images, uint8 (z, h, w), and the difference of each brain from it,
    int8 (z, subjects, h, w). The differences are rounded to 1 / 25, which is less than the noise of the scans and takes
    a quarter of the memory.
    """
    mean = brains.mean(axis=0)
    mean = np.round(0.5 * (mean + mean[..., ::-1]) * MEAN_LEVELS).clip(0, 255).astype(np.uint8)
    differences = np.round((brains - mean.astype(np.float32) / MEAN_LEVELS) * DIFFERENCE_LEVELS).astype(np.int8)
    return torch.from_numpy(mean), torch.from_numpy(np.ascontiguousarray(differences.swapaxes(0, 1)))


def _deform_to_mean(brain: Tensor, mean: Tensor, deformation: Deformation) -> tuple[Tensor, Tensor]:
    """One brain (z, h, w), deformed so that its difference from the mean is smallest, and the knots of this."""
    knots = torch.zeros(deformation.knots, device=mean.device, requires_grad=True)
    optimiser = torch.optim.Adam([knots], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)

    def deformed() -> Tensor:
        return deformation.warp(brain[:, None], deformation.displacement(knots))[:, 0]

    for _ in range(STEPS):
        optimiser.zero_grad()
        (LIKENESS * (deformed() - mean).square().sum() + roughness(knots)).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return deformed(), knots.detach()
