"""The generative adversarial network: its latents start at random, its prior is the discriminator's."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as nnf
from torch import Tensor, nn

from .generator import CHANNELS, HEIGHT_FEATURES, LATENT, LEAK, Generator, height_features
from .latent_model import LatentModel
from .linear import Brains

TYPICAL_MEAN, TYPICAL_DEVIATION = 0.4, 0.25  # of a slice's model intensities, roughly


class GAN(LatentModel):
    """A generative adversarial network of axial slices (Goodfellow et al. 2014).

    G(z, height) = mean + generator(z, height).

    Args:
        brains: the training brains, of which G uses the mean alone; h and w are multiples of 16.
        kernel: side of the convolution kernels, 3 or 7.
    """

    prior_weight = 0.1
    latent_bound = 2.5  # no ||u||^2 limits what the surroundings do not determine
    latent = LATENT

    def __init__(self, brains: Brains, kernel: int):
        super().__init__()
        self.brains = brains
        self.generator = Generator(brains.size, kernel)
        self.discriminator = Discriminator(kernel)

    def at_height(self, height: Tensor) -> tuple[Tensor, ...]:
        """The mean and the height's features."""
        return self.brains.mean_at(height), height_features(height)

    def decode(self, z: Tensor, *at_height: Tensor) -> Tensor:
        """The mean plus the convolutions."""
        mean, features = at_height
        return mean + self.generator(z, mean, features)

    def start(self, image: Tensor, unknown: Tensor, height: Tensor, noise: Tensor) -> Tensor:
        """A draw from the prior."""
        return noise

    def prior_loss(self, u: Tensor, slices: Tensor, height: Tensor) -> Tensor:
        """log(1 - D(G(z))) of each slice, (n,) (Yeh et al. 2017, eq. 7)."""
        return nnf.logsigmoid(-self.discriminator(slices, height))


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
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, LEAK)
        self.convs = nn.ModuleList(convs)
        self.out = nn.Conv2d(channels[-1], 1, 1)
        self.projection = nn.Linear(HEIGHT_FEATURES, channels[-1])
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, image: Tensor, height: Tensor) -> Tensor:
        """The log odds (n,) that slices (n, 1, h, w) at relative heights (n,) are real. D is their sigmoid."""
        x = nnf.pixel_unshuffle((image - TYPICAL_MEAN) / TYPICAL_DEVIATION, 2)
        for conv in self.convs:
            x = nnf.leaky_relu(conv(x), LEAK)
        match = (self.projection(height_features(height)) * x.mean(dim=(2, 3))).sum(1)
        return self.out(x).mean(dim=(1, 2, 3)) + match
