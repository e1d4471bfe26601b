"""The linear path of every decoder: a mean brain plus a weighted sum of the training brains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEAN_LEVELS, DIFFERENCE_LEVELS = 200, 25  # grey levels of model intensity 1 in the stored mean and differences


class LinearPath(nn.Module):
    """mean(height) + sum_k z_k S_k(height): probabilistic PCA of a brain, with the same z at all heights.

    The S_k are the differences of the training brains, and of their mirror images, from the mean, divided by the root
    of their number. With a standard normal z, the slices have the covariance of the brains. The S_k may depend on each
    other linearly; this does no harm.

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
        self.latent = 2 * differences.shape[1]
        self.scale = 1 / (DIFFERENCE_LEVELS * self.latent**0.5)

    def forward(self, z: Tensor, height: Tensor) -> Tensor:
        """Slices (n, 1, h, w) from latents (n, latent) at relative heights (n,), 0 to 1. The nearest slice is used."""
        return self.combine(z, *self.at_height(height))

    def at_height(self, height: Tensor) -> tuple[Tensor, Tensor]:
        """The mean (n, h, w) and the scaled differences (n, brains, h, w) at relative heights (n,), as floats."""
        index = (height * (len(self.mean) - 1)).round().long()
        return self.mean[index].float() / MEAN_LEVELS, self.scale * self.differences[index].float()

    def combine(self, z: Tensor, mean: Tensor, differences: Tensor) -> Tensor:
        """Slices (n, 1, h, w) from latents (n, latent) and the two results of `at_height`."""
        parts = torch.einsum("nmk,nkhw->nmhw", z.unflatten(1, (2, -1)), differences)  # as they are, and to mirror
        return mean[:, None] + parts[:, :1] + parts[:, 1:].flip(-1)

    def components(self, differences: Tensor) -> Tensor:
        """S_k (n, latent, h, w) from the differences of `at_height`."""
        return torch.cat([differences, differences.flip(-1)], dim=1)
