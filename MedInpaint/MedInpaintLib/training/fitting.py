"""The latents of the linear path that best fit a slice."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.linear import LinearPath


@torch.no_grad()
def fit_latents(
    path: LinearPath, slices: Tensor, weight: Tensor, height: Tensor, excluded: Tensor, noise: float
) -> Tensor:
    """The z that minimise sum_i weight_i (linear path_i - slice_i)^2 / noise + ||z||^2, 0 in the excluded directions.

    Args:
        path: the linear path.
        slices: (n, 1, h, w).
        weight: (n, 1, h, w), 0 where a pixel is unknown or should not be fitted.
        height: (n,), relative heights.
        excluded: (n, latent, k), orthonormal directions in which z is 0.
        noise: variance of a pixel.

    Returns (n, latent).
    """
    unit = torch.eye(path.latent, device=slices.device)
    heights, which = torch.unique(height, return_inverse=True)
    means = path(torch.zeros(len(heights), path.latent, device=slices.device), heights).flatten(1)
    bases = path.components(path.at_height(heights)[1]).flatten(2)
    fitted = []
    for n, index in enumerate(which.tolist()):
        chosen = weight[n].flatten() > 0
        basis = remove_directions(bases[index][:, chosen].T, excluded[n].expand(int(chosen.sum()), -1, -1)).T
        weighted = basis * weight[n].flatten()[chosen] / noise
        residual = slices[n].flatten()[chosen] - means[index, chosen]
        fitted.append(torch.linalg.solve(weighted @ basis.T + unit, weighted @ residual))
    return torch.stack(fitted)


def remove_directions(z: Tensor, directions: Tensor) -> Tensor:
    """Latents (n, latent) without their components along orthonormal directions (n, latent, k)."""
    return z - torch.einsum("nij,nkj,nk->ni", directions, directions, z)
