"""The decoder G of VAE and GAN: a linear path, then a refinement."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .layers import CHANNELS, Block, height_features, upsample
from .linear import LinearPath


class Decoder(nn.Module):
    """G(z, height): the slice of the linear path, refined.

    The refinement sees this slice and not z. A network that sees z learns the training brains by heart.
    """

    def __init__(self, mean: Tensor, differences: Tensor, kernel: int):
        super().__init__()
        self.linear = LinearPath(mean, differences)
        self.refinement = Refinement(kernel)

    def forward(self, z: Tensor, height: Tensor) -> Tensor:
        """Slices (n, 1, h, w) from latents (n, latent) at relative heights (n,)."""
        return self.refine(self.linear(z, height), height)

    def refine(self, linear: Tensor, height: Tensor) -> Tensor:
        """Refined slices (n, 1, h, w) from slices of the linear path at relative heights (n,)."""
        return linear + self.refinement(linear, height)


class Refinement(nn.Module):
    """A small U-Net (Ronneberger et al. 2015): what a slice of the linear path lacks to look real."""

    def __init__(self, kernel: int):
        super().__init__()
        c1, c2, c3, _ = CHANNELS[kernel]
        self.down = nn.ModuleList([Block(4, c1, kernel), Block(c1, c2, kernel, 2), Block(c2, c3, kernel, 2)])
        self.up = nn.ModuleList([Block(c3 + c2, c2, kernel), Block(c2 + c1, c1, kernel)])
        self.out = nn.Conv2d(c1, 4, kernel, padding=kernel // 2)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, linear: Tensor, height: Tensor) -> Tensor:
        """What to add, (n, 1, h, w), to slices (n, 1, h, w) at relative heights (n,)."""
        features = height_features(height)
        half = self.down[0](nnf.pixel_unshuffle(linear, 2), features)
        quarter = self.down[1](half, features)
        x = self.down[2](quarter, features)
        x = self.up[0](torch.cat([upsample(x), quarter], dim=1), features)
        x = self.up[1](torch.cat([upsample(x), half], dim=1), features)
        return nnf.pixel_shuffle(self.out(x), 2)
