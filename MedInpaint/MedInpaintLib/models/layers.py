"""The two kinds of model, VAE and GAN: they share the decoder, linear in z and then refined.

Each says where the latent search starts and what makes a latent plausible: for the VAE an encoder of masked slices
and ||u||^2, for the GAN a random start and a discriminator. All parts are told the slice's height.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

CHANNELS = {  # by kernel, at 1/2, 1/4, 1/8 and 1/16 of the slice's side; a large kernel has fewer to be as quick
    3: (24, 48, 96, 128),
    7: (16, 32, 64, 64),
}
HEIGHT_FEATURES = 16


def height_features(height: Tensor) -> Tensor:
    """Sines and cosines of a relative height (0 to 1): (n,) -> (n, 16)."""
    octave = torch.arange(HEIGHT_FEATURES // 2, device=height.device)
    angle = height[:, None] * math.pi * 2.0**octave * 0.5
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Block(nn.Module):
    """Convolution, group norm, modulation by the slice's height, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm = nn.GroupNorm(8, outputs)
        self.modulation = nn.Linear(HEIGHT_FEATURES, 2 * outputs)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, height: Tensor) -> Tensor:
        scale, shift = self.modulation(height)[:, :, None, None].chunk(2, dim=1)
        return nnf.silu(self.norm(self.conv(x)) * (1 + scale) + shift)


def double(x: Tensor) -> Tensor:
    """Twice the side, nearest neighbour."""
    return nnf.interpolate(x, scale_factor=2.0, mode="nearest")
