"""The two kinds of model, VAE and GAN: they share the decoder, linear in z and then refined.

Each says where the latent search starts and what makes a latent plausible: for the VAE an encoder of masked slices
and ||u||^2, for the GAN a random start and a discriminator. All parts are told the slice's height.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .layers import CHANNELS, Block, double, height_features
from .linear import LinearPath


class Refinement(nn.Module):
    """A small U-Net (Ronneberger et al. 2015): what to add to a slice of the linear path to make it a real one's."""

    def __init__(self, kernel: int):
        super().__init__()
        c1, c2, c3, _ = CHANNELS[kernel]
        self.down = nn.ModuleList([Block(4, c1, kernel), Block(c1, c2, kernel, 2), Block(c2, c3, kernel, 2)])
        self.up = nn.ModuleList([Block(c3 + c2, c2, kernel), Block(c2 + c1, c1, kernel)])
        self.out = nn.Conv2d(c1, 4, kernel, padding=kernel // 2)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, linear: Tensor, height: Tensor) -> Tensor:
        """(n, 1, h, w) of slices (n, 1, h, w) at relative heights (n,)."""
        features = height_features(height)
        half = self.down[0](nnf.pixel_unshuffle(linear, 2), features)
        quarter = self.down[1](half, features)
        x = self.down[2](quarter, features)
        x = self.up[0](torch.cat([double(x), quarter], dim=1), features)
        x = self.up[1](torch.cat([double(x), half], dim=1), features)
        return nnf.pixel_shuffle(self.out(x), 2)


class Decoder(nn.Module):
    """G(z, height): the linear path, refined.

    The refinement sees the linear path's slice and not z, from which a network learns the training brains by heart.
    """

    def __init__(self, mean: Tensor, differences: Tensor, kernel: int):
        super().__init__()
        self.linear = LinearPath(mean, differences)
        self.refinement = Refinement(kernel)

    def forward(self, z: Tensor, height: Tensor) -> Tensor:
        """Slices (n, 1, h, w) of latents (n, latent) at relative heights (n,)."""
        return self.refined(self.linear(z, height), height)

    def refined(self, linear: Tensor, height: Tensor) -> Tensor:
        """Slices (n, 1, h, w) of the linear path at relative heights (n,), refined."""
        return linear + self.refinement(linear, height)
