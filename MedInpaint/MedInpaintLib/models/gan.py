"""The generative adversarial network: its latents start at random, its prior is the discriminator's."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as nnf
from torch import Tensor, nn

from .decoder import Decoder
from .layers import CHANNELS, HEIGHT_FEATURES, height_features

LEAK = 0.2  # slope of the discriminator's rectifiers below 0
TYPICAL_MEAN, TYPICAL_DEVIATION = 0.4, 0.25  # of a slice's model intensities, roughly


class GAN(nn.Module):
    """A generative adversarial network of axial slices (Goodfellow et al. 2014). Its generator is the decoder.

    Args:
        mean, differences, kernel: as for the VAE.
    """

    prior_weight = 0.1
    restarts = 2
    latent_bound = 0.5  # small: no ||u||^2 limits what the surroundings do not determine
    prior_batch = 8  # the discriminator needs the refined slice, which costs ten times as much as the linear path

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


class Discriminator(nn.Module):
    """D(slice, height) of a DCGAN (Radford et al. 2016): the mean score of overlapping parts of the slice.

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
        """The log odds (n,) that slices (n, 1, h, w) at relative heights (n,) are real. D is their sigmoid."""
        standardised = (image - TYPICAL_MEAN) / TYPICAL_DEVIATION
        x = nnf.leaky_relu(self.convs[0](nnf.pixel_unshuffle(standardised, 2)), LEAK)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = nnf.leaky_relu(norm(conv(x)), LEAK)
        match = (self.projection(height_features(height)) * x.mean(dim=(2, 3))).sum(1)
        return self.out(x).mean(dim=(1, 2, 3)) + match
