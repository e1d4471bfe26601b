"""Layers that all networks share: a block that depends on the slice's height, and the features of this height."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

CHANNELS = {  # by kernel, at 1/2, 1/4, 1/8 and 1/16 of the slice's side; a large kernel has fewer, for the same speed
    3: (24, 48, 96, 128),
    7: (16, 32, 64, 64),
}
HEIGHT_FEATURES = 16


class Block(nn.Module):
    """Convolution, group norm, modulation by the slice's height, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm = nn.GroupNorm(8, outputs)
        self.modulation = nn.Linear(HEIGHT_FEATURES, 2 * outputs)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Feature maps (n, outputs, h, w) from maps (n, inputs, h, w) and height features (n, 16)."""
        scale, shift = self.modulation(features)[:, :, None, None].chunk(2, dim=1)
        return nnf.silu(self.norm(self.conv(x)) * (1 + scale) + shift)


def height_features(height: Tensor) -> Tensor:
    """Sines and cosines of a relative height (0 to 1): (n,) -> (n, 16)."""
    octave = torch.arange(HEIGHT_FEATURES // 2, device=height.device)
    angle = height[:, None] * math.pi * 2.0**octave * 0.5
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def upsample(x: Tensor) -> Tensor:
    """Double the height and width, by nearest neighbour."""
    return nnf.interpolate(x, scale_factor=2.0, mode="nearest")
