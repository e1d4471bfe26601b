"""What the latent search needs to know of a model: its generator, where to start, and its prior."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from .linear import Brains


class LatentModel(nn.Module, ABC):
    """A generator G(z, height) of axial slices, with a prior for z.

    A search decodes the same slices many times. So the generator has two parts: `at_height` computes once what depends
    on the height alone, and `decode` computes the slices from z and from this.

    Attributes:
        brains: the training brains. Their covariance is the prior of what the generator leaves unexplained (kriging).
        latent: numbers in z, which are standard normal under the prior.
    """

    prior_weight: float  # lambda, if Settings gives none
    latent_bound: float = math.inf  # of every |u| in the search
    brains: Brains
    latent: int

    def generate(self, z: Tensor, height: Tensor) -> Tensor:
        """Slices (n, 1, h, w) in model intensities from latents (n, latent) at relative heights (n,), 0 to 1."""
        return self.decode(z, *self.at_height(height))

    @abstractmethod
    def at_height(self, height: Tensor) -> tuple[Tensor, ...]:
        """What the generator needs to know of relative heights (n,); the first axis of each tensor has the length n."""

    @abstractmethod
    def decode(self, z: Tensor, *at_height: Tensor) -> Tensor:
        """Slices (n, 1, h, w) from latents (n, latent) and the result of `at_height`."""

    @abstractmethod
    def start(self, image: Tensor, unknown: Tensor, height: Tensor, noise: Tensor) -> Tensor:
        """Latents (n, latent) where the search starts.

        Args:
            image: (n, 1, h, w), slices.
            unknown: (n, 1, h, w), 1 where a slice is not known.
            height: (n,), relative.
            noise: (n, latent), a draw from the prior, for a model that starts at random.
        """

    def prior_loss(self, u: Tensor, slices: Tensor, height: Tensor) -> Tensor:
        """||u||^2 of each slice, (n,): the prior of a VAE.

        Args:
            u: (n, latent), the independent standard normal variables behind z.
            slices: (n, 1, h, w), G(z).
            height: (n,), relative.
        """
        return (u**2).sum(1)
