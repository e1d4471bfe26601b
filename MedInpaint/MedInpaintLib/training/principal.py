"""The decoder's linear path: principal components of whole brains, and the latents that fit a slice best."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..networks import LinearPath, neighbours

ATOM_SCALE = 10.0  # norm of a dictionary image; keeps its values and the loadings within reach of one learning rate


@torch.no_grad()
def fit_components(path: LinearPath, brains: np.ndarray) -> Tensor:
    """Fit a linear path in place: principal components of whole brains and of their mirror images.

    A component spans all heights, so that one brain has much the same z at each of them, and z is standard normal.
    There are at most as many components as brains and mirror images; further ones are zero.

    Args:
        path: the linear path.
        brains: float32 (subjects, z, h, w), model intensities.

    Returns the latent's directions that a brain and its mirror image span, (subjects, latent, 2), orthonormal: without
    them, z explains that brain by the others alone.
    """
    subjects, count = 2 * len(brains), brains.shape[1]
    slices = torch.as_tensor(np.concatenate([brains, brains[..., ::-1]])).flatten(2)[..., path.pixels]
    heights = torch.arange(count) / (count - 1)

    shares = _shares(heights, len(path.mean))
    path.mean.copy_((shares @ slices.mean(0)) / shares.sum(1, keepdim=True).clamp(min=1e-9))
    residuals = slices - sum(share[:, None] * path.mean[index] for index, share in neighbours(heights, len(path.mean)))

    flat = residuals.flatten(0, 1)
    _, _, images = torch.svd_lowrank(flat, q=min(len(path.dictionary) + 20, *flat.shape), niter=4)
    images = images[:, : len(path.dictionary)].T
    atoms = len(images)  # fewer than the dictionary has if the data are few
    path.dictionary.zero_()
    path.dictionary[:atoms] = ATOM_SCALE * images

    codes = (residuals @ images.T / ATOM_SCALE).flatten(1)  # (subjects, z * atoms)
    places, values, directions = torch.linalg.svd(codes / subjects**0.5, full_matrices=False)
    components = (values[:, None] * directions)[: path.loadings.shape[1]].view(-1, count, atoms)
    at_controls = torch.linalg.pinv(_shares(heights, path.controls).T)  # least squares over the heights
    path.loadings.zero_()
    path.loadings[:, : len(components), :atoms] = torch.einsum("cz,kza->cka", at_controls, components)

    own = torch.zeros(len(brains), path.loadings.shape[1], 2)
    own[:, : len(components)] = places[:, : len(components)].view(2, len(brains), -1).permute(1, 2, 0)
    return torch.linalg.qr(own)[0]


@torch.no_grad()
def fitted_latents(
    path: LinearPath, slices: Tensor, weight: Tensor, height: Tensor, own: Tensor, noise: float
) -> Tensor:
    """The z that minimise sum_i weight_i (linear path_i - slice_i)^2 / noise + ||z||^2, without their own directions.

    Args:
        path: the linear path.
        slices: (n, 1, h, w).
        weight: (n, 1, h, w), 0 where a pixel is not known or not to be fitted.
        height: (n,), relative heights.
        own: (n, latent, k), orthonormal directions in which z is 0.
        noise: variance of a pixel.

    Returns (n, latent).
    """
    latent = path.loadings.shape[1]
    unit = torch.eye(latent, device=slices.device)
    heights, which = torch.unique(height, return_inverse=True)
    means = path(torch.zeros(len(heights), latent, device=slices.device), heights).flatten(1)
    bases = [path(unit, one.expand(latent)).flatten(1) - mean for one, mean in zip(heights, means, strict=True)]
    fitted = []
    for n, index in enumerate(which.tolist()):
        chosen = weight[n].flatten() > 0
        basis = without(bases[index][:, chosen].T, own[n].expand(int(chosen.sum()), -1, -1)).T
        weighted = basis * weight[n].flatten()[chosen] / noise
        residual = slices[n].flatten()[chosen] - means[index, chosen]
        fitted.append(torch.linalg.solve(weighted @ basis.T + unit, weighted @ residual))
    return torch.stack(fitted)


def without(z: Tensor, own: Tensor) -> Tensor:
    """Latents (n, latent) without their parts along orthonormal directions (n, latent, k)."""
    return z - torch.einsum("nij,nkj,nk->ni", own, own, z)


def _shares(height: Tensor, controls: int) -> Tensor:
    """Interpolation shares (controls, n) of every control height for every slice."""
    shares = torch.zeros(controls, len(height))
    for index, share in neighbours(height, controls):
        shares[index, torch.arange(len(height))] += share
    return shares
