"""Training brains in one shape: what their affine alignment leaves apart is deformed onto their mean.

Principal components of brains in one shape are sharper than those of brains as they are; the latent search bends them
back (active appearance models, Cootes, Edwards and Taylor, IEEE TPAMI 2001).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...models.linear import DIFFERENCE_LEVELS, MEAN_LEVELS
from ...search.deformation import Deformation, roughness

STEPS = 40
LEARNING_RATE = 0.3  # pixels
LIKENESS = 60.0  # weight of a squared difference against the deformation's roughness


def to_common_shape(brains: np.ndarray, device: torch.device) -> np.ndarray:
    """Deform brains onto their left-right symmetric mean.

    Args:
        brains: float32 (subjects, z, h, w), model intensities.
        device: where to work.

    Returns float32, the same shape.
    """
    mean = brains.mean(axis=0)
    mean = torch.as_tensor(0.5 * (mean + mean[..., ::-1])).to(device)
    deformation = Deformation(np.arange(len(mean)), tuple(mean.shape[1:]), device)
    shaped = [_deformed(torch.as_tensor(brain).to(device), mean, deformation) for brain in brains]
    return torch.stack(shaped).cpu().numpy()


def _deformed(brain: Tensor, mean: Tensor, deformation: Deformation) -> Tensor:
    """One brain (z, h, w), deformed so that it differs least from the mean."""
    knots = torch.zeros((1, *deformation.knots), device=mean.device, requires_grad=True)
    optimiser = torch.optim.Adam([knots], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)

    def moved() -> Tensor:
        return deformation.warped(brain[:, None], deformation.displacement(knots))[:, 0]

    for _ in range(STEPS):
        optimiser.zero_grad()
        (LIKENESS * (moved() - mean).square().sum() + roughness(knots)).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return moved()


def mean_and_differences(brains: np.ndarray) -> tuple[Tensor, Tensor]:
    """What the linear path holds of brains in one shape, float32 (subjects, z, h, w), model intensities.

    Returns the mean of the brains and their mirror images, uint8 (z, h, w), and what each brain differs from it by,
    int8 (z, subjects, h, w): rounded to 1 / 25, which is less than the scans' noise and a quarter of the space.
    """
    mean = brains.mean(axis=0)
    mean = np.round(0.5 * (mean + mean[..., ::-1]) * MEAN_LEVELS).clip(0, 255).astype(np.uint8)
    differences = np.round((brains - mean.astype(np.float32) / MEAN_LEVELS) * DIFFERENCE_LEVELS).astype(np.int8)
    return torch.from_numpy(mean), torch.from_numpy(np.ascontiguousarray(differences.swapaxes(0, 1)))
