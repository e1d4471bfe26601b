"""The variational autoencoder: its encoder gives the latents to start from, its prior is ||u||^2."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .decoder import Decoder
from .layers import CHANNELS, Block, height_features

FEATURES = 32  # channels between the deepest convolutions and the latent


class VAE(nn.Module):
    """A variational autoencoder of axial slices (Kingma & Welling 2014). Its encoder sees a slice with a hole.

    Args:
        mean, differences: of the training brains, as for the linear path; h and w are multiples of 16.
        kernel: side of the convolution kernels, 3 or 7.
    """

    prior_weight = 0.3  # lambda, if Settings gives none
    restarts = 1
    latent_bound = math.inf  # of every |u| in the search
    prior_batch = None  # slices per step of the search whose prior is computed: all

    def __init__(self, mean: Tensor, differences: Tensor, kernel: int):
        super().__init__()
        self.decoder = Decoder(mean, differences, kernel)
        _, height, width = mean.shape
        self.encoder = Encoder((height, width), self.decoder.linear.latent, kernel)

    def start(self, image: Tensor, unknown: Tensor, height: Tensor, noise: Tensor) -> Tensor:
        """Latents (m, n, latent) to start from: first the encoder's mean, then samples around it.

        Args:
            image: (n, 1, h, w), slices.
            unknown: (n, 1, h, w), 1 where a slice is not known.
            height: (n,), relative.
            noise: (m, n, latent), standard normal.
        """
        mean, log_variance = self.encoder(image, unknown, height)
        return torch.cat([mean[None], mean + (0.5 * log_variance).exp() * noise[1:]])

    def prior_loss(self, u: Tensor, z: Tensor, height: Tensor) -> Tensor:
        """||u||^2 of each slice, (n,), from u (n, latent), the independent standard normal variables behind z."""
        return (u**2).sum(1)


class Encoder(nn.Module):
    """q(z | known part of a slice, mask, height): a Gaussian with diagonal covariance."""

    def __init__(self, size: tuple[int, int], latent: int, kernel: int):
        super().__init__()
        c1, c2, c3, c4 = CHANNELS[kernel]
        deeper = (Block(inputs, outputs, kernel, 2) for inputs, outputs in ((c1, c2), (c2, c3), (c3, c4)))
        self.blocks = nn.ModuleList([Block(8, c1, kernel), *deeper])
        self.squeeze = nn.Conv2d(c4, FEATURES, 1)
        self.out = nn.Linear(FEATURES * (size[0] // 16) * (size[1] // 16), 2 * latent)
        nn.init.normal_(self.out.weight, std=1e-3)
        nn.init.zeros_(self.out.bias)

    def forward(self, image: Tensor, hole: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, both (n, latent), of slices (n, 1, h, w) with a hole, 1 in (n, 1, h, w)."""
        features = height_features(height)
        x = nnf.pixel_unshuffle(torch.cat([image * (1 - hole), hole], dim=1), 2)
        for block in self.blocks:
            x = block(x, features)
        mean, log_variance = self.out(self.squeeze(x).flatten(1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 3)
