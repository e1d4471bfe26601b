"""The variational autoencoder: its encoder gives the latents to start from, its prior is ||u||^2."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .generator import CHANNELS, HEIGHT_FEATURES, LATENT, Block, Generator, height_features
from .latent_model import LatentModel
from .linear import Brains, combine

FEATURES = 32  # channels between the deepest convolutions and the latent


class VAE(LatentModel):
    """A variational autoencoder of axial slices (Kingma & Welling 2014). Its encoder sees a slice with a hole.

    G(z, height) = mean + sum_k (A z)_k S_k + generator(z, height). The second term is a linear skip; its matrix A
    starts at the principal axes of the brains and is trained. The third term is the same network as the GAN's.

    Args:
        brains: the training brains; h and w are multiples of 16.
        kernel: side of the convolution kernels, 3 or 7.
    """

    prior_weight = 0.3
    latent = LATENT

    def __init__(self, brains: Brains, kernel: int):
        super().__init__()
        self.brains = brains
        self.skip = nn.Linear(LATENT, brains.count, bias=False)
        self.generator = Generator(brains.size, kernel)
        self.encoder = Encoder(brains.size, kernel)

    def at_height(self, height: Tensor) -> tuple[Tensor, ...]:
        """The mean, the height's features and the differences."""
        return self.brains.mean_at(height), height_features(height), self.brains.differences_at(height)

    def decode(self, z: Tensor, *at_height: Tensor) -> Tensor:
        """The mean, plus the linear skip, plus the convolutions."""
        mean, features, differences = at_height
        return mean + combine(self.skip(z), differences) + self.generator(z, mean, features)

    def start(self, image: Tensor, unknown: Tensor, height: Tensor, noise: Tensor) -> Tensor:
        """The encoder's mean."""
        return self.encoder(image, unknown, height)[0]

    def initialise_skip(self) -> None:
        """Let the skip begin at the principal components: z_1 weighs the first one. Latents beyond them begin at 0."""
        axes = self.brains.principal_axes()[:, :LATENT]
        with torch.no_grad():
            self.skip.weight.zero_()[:, : axes.shape[1]] = axes


class Encoder(nn.Module):
    """q(z | known part of a slice, mask, height): a Gaussian with diagonal covariance."""

    def __init__(self, size: tuple[int, int], kernel: int):
        super().__init__()
        widths = CHANNELS[kernel]
        deeper = (Block(inputs, outputs, kernel, HEIGHT_FEATURES, 2) for inputs, outputs in pairwise(widths))
        self.blocks = nn.ModuleList([Block(8, widths[0], kernel, HEIGHT_FEATURES), *deeper])
        self.squeeze = nn.Conv2d(widths[-1], FEATURES, 1)
        self.out = nn.Linear(FEATURES * (size[0] // 16) * (size[1] // 16), 2 * LATENT)
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
