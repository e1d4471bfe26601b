"""`medinpaint train vae`: the evidence lower bound of the variational autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.linear import Brains, combine
from ..models.vae import VAE
from .slices.augment import augment, random_holes
from .slices.data import SliceData
from .trainer import Trainer, TrainingSettings

EDGE_SHARE = 0.25  # share of slices in which the edge of the brain is unknown, as in scans of the whole head


@dataclass(frozen=True)
class VAESettings(TrainingSettings):
    """How a VAE is trained.

    Attributes:
        kl_weight: weight of the Kullback-Leibler term.
        noise: standard deviation of a pixel in the reconstruction term, model intensities.
        hole_weight: weight of a pixel in the hole; a known pixel has the weight 1.
    """

    kl_weight: float = 3.0
    noise: float = 0.1
    hole_weight: float = 3.0


class VAETrainer(Trainer):
    """A VAE in training."""

    kind = "vae"
    settings: VAESettings

    def __init__(self, data: SliceData, settings: VAESettings, device: torch.device):
        super().__init__(data, settings, device)
        self.optimiser = self.adam(self.network.parameters(), (0.9, 0.98))
        self.parts = {"network": self.network, "optimiser": self.optimiser}

    def new_network(self, brains: Brains) -> VAE:
        """The network before the training."""
        network = VAE(brains, self.settings.kernel)
        network.initialise_skip()
        return network

    def step(self, slices: Tensor, height: Tensor, subject: Tensor) -> dict[str, float]:
        """One step of Adam. Returns reconstruction and divergence, nats per slice."""
        reconstruction, divergence = self.losses(slices, height, subject)
        self.optimiser.zero_grad(set_to_none=True)
        (reconstruction + self.settings.kl_weight * divergence).backward()
        self.optimiser.step()
        return {"reconstruction": reconstruction.item(), "divergence": divergence.item()}

    def losses(self, slices: Tensor, height: Tensor, subject: Tensor) -> tuple[Tensor, Tensor]:
        """The negative evidence lower bound (eq. 10, Kingma & Welling), in two parts: nats per slice.

        Arguments as for `step`. The encoder sees the slice with holes and noise; the decoder has to give all of it. The
        linear skip would only have to name the slice's own brain. So the brain and its mirror image are left out of it.
        """
        edge = self.edge[(height * (len(self.edge) - 1)).round().long()]
        truth = augment(slices, self.generator)
        hole = random_holes(truth, self.spacing, self.generator)
        unknown = torch.maximum(hole, edge * self.draw(len(slices)).lt(EDGE_SHARE))
        noisy = truth + 0.05 * self.draw(len(slices)) * self.draw(*truth.shape, normal=True)
        mean, log_variance = self.network.encoder(noisy, unknown, height)
        z = mean + (0.5 * log_variance).exp() * self.draw(*mean.shape, normal=True)

        squared = (self._decode_without(subject, z, height) - truth) ** 2
        weight = 1 + (self.settings.hole_weight - 1) * unknown
        reconstruction = (weight * squared).flatten(1).sum(1).mean() / (2 * self.settings.noise**2)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return reconstruction, divergence

    def _decode_without(self, subject: Tensor, z: Tensor, height: Tensor) -> Tensor:
        """G(z), whose linear skip leaves out one brain for each slice, and the mirror image of this brain."""
        network = self.network
        mean, features, differences = network.at_height(height)
        differences[torch.arange(len(z)), subject] = 0
        return mean + combine(network.skip(z), differences) + network.generator(z, mean, features)
