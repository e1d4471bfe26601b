"""The two kinds of model, VAE and GAN: they share the decoder, linear in z and then refined.

Each says where the latent search starts and what makes a latent plausible: for the VAE an encoder of masked slices
and ||u||^2, for the GAN a random start and a discriminator. All parts are told the slice's height.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

CHANNELS = {  # by kernel, at 1/2, 1/4, 1/8 and 1/16 of the slice's side; a large kernel has fewer to be as quick
    3: (24, 48, 96, 128),
    7: (16, 32, 64, 64),
}
FEATURES = 32  # channels between the deepest convolutions and the latent
HEIGHT_FEATURES = 16
MEAN_LEVELS, DIFFERENCE_LEVELS = 200, 25  # grey levels of model intensity 1 in what the linear path holds
LEAK = 0.2  # of the discriminator's rectifiers
GREY, SPREAD = 0.4, 0.25  # of a slice's model intensities, about


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


def double(x: Tensor) -> Tensor:
    """Twice the side, nearest neighbour."""
    return nnf.interpolate(x, scale_factor=2.0, mode="nearest")


class Discriminator(nn.Module):
    """D(slice, height), a DCGAN's (Radford et al. 2016): the mean of its verdicts on overlapping parts of the slice.

    The height enters as a projection (Miyato & Koyama 2018).
    """

    def __init__(self, kernel: int):
        super().__init__()
        channels = (4, *CHANNELS[kernel])
        convs = [
            nn.Conv2d(inputs, outputs, kernel, 1 if inputs == 4 else 2, kernel // 2)
            for inputs, outputs in pairwise(channels)
        ]
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for outputs in channels[2:])
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, LEAK)
        self.out = nn.Conv2d(channels[-1], 1, 1)
        self.projection = nn.Linear(HEIGHT_FEATURES, channels[-1])
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, image: Tensor, height: Tensor) -> Tensor:
        """The log odds (n,) that slices (n, 1, h, w) at relative heights (n,) are real; a sigmoid makes them D."""
        x = nnf.leaky_relu(self.convs[0](nnf.pixel_unshuffle((image - GREY) / SPREAD, 2)), LEAK)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = nnf.leaky_relu(norm(conv(x)), LEAK)
        match = (self.projection(height_features(height)) * x.mean(dim=(2, 3))).sum(1)
        return self.out(x).mean(dim=(1, 2, 3)) + match


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


class GAN(nn.Module):
    """A generative adversarial network of axial slices (Goodfellow et al. 2014); its generator is the decoder.

    Args:
        mean, differences, kernel: as for the VAE.
    """

    prior_weight = 0.1
    restarts = 2
    bound = 0.5  # little, as no ||u||^2 keeps what the surroundings do not tell from running wild
    judged = 8  # the discriminator sees the refined slice, at ten times the cost of the linear path

    def __init__(self, mean: Tensor, differences: Tensor, kernel: int):
        super().__init__()
        self.decoder = Decoder(mean, differences, kernel)
        self.discriminator = Discriminator(kernel)

    def start(self, image: Tensor, unknown: Tensor, height: Tensor, noise: Tensor) -> Tensor:
        """Latents (m, n, latent) to start from: draws from the prior. Arguments as for the VAE."""
        return noise

    def prior_loss(self, u: Tensor, z: Tensor, height: Tensor) -> Tensor:
        """log(1 - D(G(z))) of each slice, (n,) (Yeh et al. 2017, eq. 7), from z (n, latent)."""
        return nnf.logsigmoid(-self.discriminator(self.decoder(z, height), height))
