"""The two kinds of model, VAE and GAN: they share the decoder, linear in z and then refined.

Each says where the latent search starts and what makes a latent plausible: for the VAE an encoder of masked slices
and ||u||^2, for the GAN a random start and a discriminator. All parts are told the slice's height.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as nnf
from torch import Tensor, nn

from .decoder import Decoder
from .layers import CHANNELS, HEIGHT_FEATURES, height_features

LEAK = 0.2  # of the discriminator's rectifiers
GREY, SPREAD = 0.4, 0.25  # of a slice's model intensities, about


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
