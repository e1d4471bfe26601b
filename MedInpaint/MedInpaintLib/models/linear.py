"""The two kinds of model, VAE and GAN: they share the decoder, linear in z and then refined.

Each says where the latent search starts and what makes a latent plausible: for the VAE an encoder of masked slices
and ||u||^2, for the GAN a random start and a discriminator. All parts are told the slice's height.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEAN_LEVELS, DIFFERENCE_LEVELS = 200, 25  # grey levels of model intensity 1 in what the linear path holds


class LinearPath(nn.Module):
    """mean(height) + sum_k z_k S_k(height): probabilistic PCA of a brain, which has the same z at all heights.

    The S_k are what the training brains and their mirror images differ from their mean by, over the root of their
    number: with a standard normal z, the covariance of the slices is that of the brains. A brain or its mirror image
    may be the sum of others', but z is none the worse for it.

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
        """Slices (n, 1, h, w) of latents (n, latent) at relative heights (n,), 0 to 1: those of the nearest slice."""
        return self.combined(z, *self.held(height))

    def held(self, height: Tensor) -> tuple[Tensor, Tensor]:
        """The mean (n, h, w) and the differences (n, brains, h, w) at relative heights (n,), as floats."""
        index = (height * (len(self.mean) - 1)).round().long()
        return self.mean[index].float() / MEAN_LEVELS, self.scale * self.differences[index].float()

    def combined(self, z: Tensor, mean: Tensor, differences: Tensor) -> Tensor:
        """Slices (n, 1, h, w) of latents (n, latent) and what is held at their heights."""
        parts = torch.einsum("nmk,nkhw->nmhw", z.unflatten(1, (2, -1)), differences)  # brains, and those to mirror
        return mean[:, None] + parts[:, :1] + parts[:, 1:].flip(-1)

    def components(self, differences: Tensor) -> Tensor:
        """S_k (n, latent, h, w) from the differences that are held at their heights."""
        return torch.cat([differences, differences.flip(-1)], dim=1)
