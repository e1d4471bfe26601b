"""The two kinds of model, VAE and GAN: they share the decoder, linear in z and then refined.

Each says where the latent search starts and what makes a latent plausible: for the VAE an encoder of masked slices
and ||u||^2, for the GAN a random start and a discriminator. All parts are told the slice's height.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .decoder import Decoder
from .layers import CHANNELS, Block, height_features

FEATURES = 32  # channels between the deepest convolutions and the latent


class Encoder(nn.Module):
    """q(z | known part of a slice, mask, height): a Gaussian with diagonal covariance."""

    def __init__(self, size: tuple[int, int], latent: int, kernel: int):
        super().__init__()
        c1, c2, c3, c4 = CHANNELS[kernel]
        self.blocks = nn.ModuleList(
            [
                Block(8, c1, kernel),
                Block(c1, c2, kernel, 2),
                Block(c2, c3, kernel, 2),
                Block(c3, c4, kernel, 2),
            ]
        )
        self.squeeze = nn.Conv2d(c4, FEATURES, 1)
        self.out = nn.Linear(FEATURES * (size[0] // 16) * (size[1] // 16), 2 * latent)
        nn.init.normal_(self.out.weight, std=1e-3)
        nn.init.zeros_(self.out.bias)

    def forward(self, image: Tensor, hole: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (n, latent) each, of slices (n, 1, h, w) whose hole (n, 1, h, w) is 1."""
        features = height_features(height)
        x = nnf.pixel_unshuffle(torch.cat([image * (1 - hole), hole], dim=1), 2)
        for block in self.blocks:
            x = block(x, features)
        mean, log_variance = self.out(self.squeeze(x).flatten(1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 3)


class VAE(nn.Module):
    """A variational autoencoder of axial slices whose encoder sees the slice with a hole (Kingma & Welling 2014).

    Args:
        mean, differences: of the training brains, as for the linear path; h and w are multiples of 16.
        kernel: side of the convolution kernels, 3 or 7.
    """

    prior_weight = 0.3  # lambda, unless the user says otherwise
    restarts = 1
    bound = math.inf  # of every |u| in the search
    judged = None  # slices whose prior is computed in a step: all

    def __init__(self, mean: Tensor, differences: Tensor, kernel: int):
        super().__init__()
        self.decoder = Decoder(mean, differences, kernel)
        _, height, width = mean.shape
        self.encoder = Encoder((height, width), self.decoder.linear.latent, kernel)

    def start(self, image: Tensor, unknown: Tensor, height: Tensor, noise: Tensor) -> Tensor:
        """Latents (m, n, latent) to start from: the encoder's mean, then samples round it.

        Args:
            image, unknown: (n, 1, h, w), slices and where they are not known.
            height: (n,).
            noise: (m, n, latent), standard normal.
        """
        mean, log_variance = self.encoder(image, unknown, height)
        return torch.cat([mean[None], mean + (0.5 * log_variance).exp() * noise[1:]])

    def prior_loss(self, u: Tensor, z: Tensor, height: Tensor) -> Tensor:
        """||u||^2 of each slice, (n,), from u (n, latent), the independent standard normal variables behind z."""
        return (u**2).sum(1)
