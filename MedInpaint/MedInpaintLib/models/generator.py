"""The convolutional generator of GAN and VAE, and the layers that all networks share."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

CHANNELS = {  # by kernel, at 1/2, 1/4, 1/8 and 1/16 of the slice's side; a large kernel has fewer, for the same speed
    3: (24, 32, 64, 96),
    7: (12, 16, 32, 48),
}
LATENT = 100  # numbers in z
HEIGHT_FEATURES = 16
LEAK = 0.2  # slope of the rectifiers below 0


class Generator(nn.Module):
    """From z, convolutions up to the whole slice: a DCGAN (Radford, Metz & Chintala, ICLR 2016) that knows its height.

    The height enters as the mean brain's slice, beside the feature maps of each size, and with z as a modulation of
    each block. All that depends on z is learned. The last doubling of the size rearranges channels to pixels (Shi et
    al., CVPR 2016), which costs less than convolutions of the whole slice.

    Args:
        size: (h, w) of a slice, multiples of 16.
        kernel: side of the convolution kernels, 3 or 7.
    """

    def __init__(self, size: tuple[int, int], kernel: int):
        super().__init__()
        *finer, deepest = CHANNELS[kernel]
        self.first = nn.Unflatten(1, (deepest, size[0] // 16, size[1] // 16))
        inputs = LATENT + HEIGHT_FEATURES
        self.project = nn.Linear(inputs, deepest * (size[0] // 16) * (size[1] // 16))
        widths = [deepest, *reversed(finer)]
        self.blocks = nn.ModuleList(Block(a + 1, b, kernel, inputs) for a, b in pairwise(widths))
        self.out = nn.Conv2d(widths[-1] // 4 + 1, 1, kernel, padding=kernel // 2)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, z: Tensor, mean: Tensor, features: Tensor) -> Tensor:
        """What to add, (n, 1, h, w), to mean slices (n, 1, h, w), from z (n, latent) and height features (n, 16)."""
        condition = torch.cat([z, features], dim=1)
        x = self.first(self.project(condition))
        for block in self.blocks:
            x = nnf.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, nnf.adaptive_avg_pool2d(mean, (x.shape[2], x.shape[3]))], dim=1), condition)
        return self.out(torch.cat([nnf.pixel_shuffle(x, 2), mean], dim=1))


class Block(nn.Module):
    """Convolution, batch norm, modulation by a vector (features of the height, and z), leaky rectifier."""

    def __init__(self, inputs: int, outputs: int, kernel: int, condition: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.modulation = nn.Linear(condition, 2 * outputs)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Feature maps (n, outputs, h, w) from maps (n, inputs, h, w) and vectors (n, condition)."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        return nnf.leaky_relu(self.norm(self.conv(x)) * (1 + scale) + shift, LEAK)


def height_features(height: Tensor) -> Tensor:
    """Sines and cosines of a relative height (0 to 1): (n,) -> (n, 16)."""
    octave = torch.arange(HEIGHT_FEATURES // 2, device=height.device)
    angle = height[:, None] * math.pi * 2.0**octave * 0.5
    return torch.cat([angle.sin(), angle.cos()], dim=1)
