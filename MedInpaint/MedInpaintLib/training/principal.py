"""The decoder's linear path, started from principal components, so that training begins at their quality."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..networks import LinearPath, neighbours

REACH = 1.5  # in distances between control heights: the slices that one set of loadings is fitted to

ATOM_SCALE = 10.0  # norm of a dictionary image; keeps its values and the loadings within reach of one learning rate


@torch.no_grad()
def start_from_components(path: LinearPath, brains: np.ndarray, noise: float) -> None:
    """Fit a linear path in place by probabilistic PCA (Tipping & Bishop, J. R. Stat. Soc. B 61, 1999).

    Args:
        path: the linear path.
        brains: float32 (subjects, z, h, w), model intensities.
        noise: standard deviation of a pixel that the latent need not explain.
    """
    subjects, count = brains.shape[:2]
    slices = torch.as_tensor(brains).reshape(subjects * count, 1, *brains.shape[2:])
    slices = torch.cat([slices, slices.flip(-1)])
    pixels = torch.nn.functional.avg_pool2d(slices, 2).flatten(1)
    height = (torch.arange(count) / (count - 1)).repeat(2 * subjects)

    for control, share in enumerate(_shares(height, len(path.mean))):
        path.mean[control] = (share[:, None] * pixels).sum(0) / share.sum()
    mean = sum(share[:, None] * path.mean[index] for index, share in neighbours(height, len(path.mean)))
    residual = pixels - mean
    covariance = residual.T @ residual
    _, vectors = torch.linalg.eigh(covariance.double())  # in single precision it does not always converge
    atoms = vectors[:, -len(path.dictionary) :].T.float()
    codes = residual @ atoms.T / ATOM_SCALE
    path.dictionary.copy_(atoms * ATOM_SCALE)

    previous = None
    for control in range(path.controls):
        near = (height * (path.controls - 1) - control).abs() <= REACH
        loadings = _components(codes[near], path.loadings.shape[1], noise / ATOM_SCALE)
        if previous is not None:  # any rotation of z is as good: take the one nearest to the control height below
            u, _, v = torch.linalg.svd(previous @ loadings.T)
            loadings = (u @ v) @ loadings
        path.loadings[control] = previous = loadings


def _components(codes: Tensor, latent: int, noise: float) -> Tensor:
    """Loadings (latent, atoms) such that z ~ N(0, 1) explains the codes' covariance above the noise."""
    values, vectors = torch.linalg.eigh(codes.T @ codes / len(codes))
    values, vectors = values[-latent:], vectors[:, -latent:]
    return (vectors * (values - noise**2).clamp(min=0).sqrt()).T


def _shares(height: Tensor, controls: int) -> Tensor:
    """Interpolation shares (controls, n) of every control height for every slice."""
    shares = torch.zeros(controls, len(height))
    for index, share in neighbours(height, controls):
        shares[index, torch.arange(len(height))] += share
    return shares
