"""The linear model: probabilistic principal component analysis of brains in one shape.

Source: Tipping & Bishop, "Probabilistic principal component analysis", J. Royal Statistical Society B 1999. It is the
optimum of a variational autoencoder whose decoder is linear (Lucas et al., NeurIPS 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .latent_model import LatentModel

MEAN_LEVELS, DIFFERENCE_LEVELS = 200, 25  # grey levels of model intensity 1 in the stored mean and differences
FIT_NOISE = 0.03  # variance of a pixel, in the fit that a search starts from


class Brains(nn.Module):
    """The training brains in one shape: their mean, and their differences S_k from it.

    The S_k are the differences of the brains, and of their mirror images, divided by the root of their number. So the
    covariance of two pixels is the scalar product of their S_k. The S_k may depend on each other linearly; this does no
    harm.

    Args:
        mean: uint8 (heights, h, w), left-right symmetric; divide by MEAN_LEVELS for model intensities.
        differences: int8 (heights, brains, h, w); divide by DIFFERENCE_LEVELS.
    """

    mean: Tensor
    differences: Tensor

    def __init__(self, mean: Tensor, differences: Tensor):
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("differences", differences, persistent=False)
        self.count = 2 * differences.shape[1]
        self.scale = 1 / (DIFFERENCE_LEVELS * self.count**0.5)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of a slice."""
        return self.mean.shape[1], self.mean.shape[2]

    def mean_at(self, height: Tensor) -> Tensor:
        """The mean (n, 1, h, w) at relative heights (n,), 0 to 1. The nearest slice is used."""
        return self.mean[self._index(height)][:, None].float() / MEAN_LEVELS

    def differences_at(self, height: Tensor) -> Tensor:
        """The scaled differences of the brains (n, brains, h, w), without mirror images, at relative heights (n,)."""
        return self.differences[self._index(height)].float().mul_(self.scale)

    def components(self, height: Tensor) -> Tensor:
        """The S_k (n, 2 * brains, h, w) at relative heights (n,): the brains, then their mirror images."""
        differences = self.differences[self._index(height)]
        return torch.cat([differences, differences.flip(-1)], dim=1).float().mul_(self.scale)

    def principal_axes(self) -> Tensor:
        """The orthonormal matrix (2 * brains, 2 * brains) whose columns combine the S_k to principal components.

        The first column belongs to the largest variance.
        """
        gram = torch.zeros(self.count, self.count, dtype=torch.float64)
        for differences in self.differences:
            both = torch.cat([differences, differences.flip(-1)]).flatten(1).float()
            gram += (both @ both.T).double().cpu()
        return torch.linalg.eigh(gram).eigenvectors.flip(1).float()

    def _index(self, height: Tensor) -> Tensor:
        return (height * (len(self.mean) - 1)).round().long()


def combine(weights: Tensor, differences: Tensor) -> Tensor:
    """sum_k weights_k S_k, (n, 1, h, w), from weights (n, 2 * brains) and the result of `Brains.differences_at`."""
    parts = torch.einsum("nmk,nkhw->nmhw", weights.unflatten(1, (2, -1)), differences)  # as they are, and to mirror
    return parts[:, :1] + parts[:, 1:].flip(-1)


class Linear(LatentModel):
    """G(z, height) = mean(height) + sum_k z_k S_k(height), with the same z at all heights.

    With a standard normal z, the slices have the covariance of the brains.

    Args:
        brains: the training brains.
    """

    prior_weight = 0.3
    pixelwise = True

    def __init__(self, brains: Brains):
        super().__init__()
        self.brains = brains
        self.latent = brains.count

    def at_height(self, height: Tensor) -> tuple[Tensor, ...]:
        """The mean and the differences."""
        return self.brains.mean_at(height), self.brains.differences_at(height)

    def decode(self, z: Tensor, *at_height: Tensor) -> Tensor:
        """The mean plus the weighted S_k."""
        mean, differences = at_height
        return mean + combine(z, differences)

    def start(self, image: Tensor, unknown: Tensor, height: Tensor, noise: Tensor) -> Tensor:
        """The posterior mean of z given the known pixels (eq. 7, Tipping & Bishop)."""
        known = (unknown == 0)[:, 0].float()
        residual = (known * (image - self.brains.mean_at(height))[:, 0]).flatten(1)
        unit = torch.eye(self.latent, device=image.device)
        means = []
        for n in range(len(image)):
            # Unknown pixels become 0: to leave them out would copy the rest, which takes longer.
            basis = self.brains.components(height[n : n + 1])[0].mul_(known[n]).flatten(1)
            precision = torch.linalg.cholesky(basis @ basis.T / FIT_NOISE + unit)
            means.append(torch.cholesky_solve((basis @ residual[n] / FIT_NOISE)[:, None], precision)[:, 0])
        return torch.stack(means)
