"""`medinpaint train vae`: the variational autoencoder's losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor

from ..models.vae import VAE
from .augment import augment, move_randomly, random_holes
from .fitting import fit_latents, remove_directions
from .slices.data import SliceData
from .trainer import Trainer, TrainingSettings

EDGE_SHARE = 0.25  # of the slices whose brain's edge is hidden, as it is in a whole head
RING = 7  # pixels: the window of the context weights in the refinement's training
FIT_NOISE = 0.03  # variance of a pixel there; fits as tightly as the search does with its default prior


@dataclass(frozen=True)
class VAESettings(TrainingSettings):
    """How a VAE is trained.

    Attributes:
        kl_weight: weight of the Kullback-Leibler term.
        noise: standard deviation of a pixel in the reconstruction term, model intensities.
        hole_weight: weight of a pixel in the hole; a known pixel weighs 1.
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
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimiser = self.adam(trained, (0.9, 0.98))
        self.parts = {"network": self.network, "optimiser": self.optimiser}

    def untrained(self, mean: Tensor, differences: Tensor) -> VAE:
        """The network before its training."""
        return VAE(mean, differences, self.settings.kernel)

    def step(self, slices: Tensor, height: Tensor, own: Tensor) -> dict[str, float]:
        """One step of Adam; returns reconstruction and divergence, nats a slice."""
        reconstruction, divergence = self.losses(slices, height, own)
        self.optimiser.zero_grad(set_to_none=True)
        (reconstruction + self.settings.kl_weight * divergence).backward()
        self.optimiser.step()
        return {"reconstruction": reconstruction.item(), "divergence": divergence.item()}

    def losses(self, slices: Tensor, height: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and divergence of a batch, nats a slice.

        The encoder and the linear path give the negative evidence lower bound (eq. 10, Kingma & Welling). The
        refinement is trained on latents as the search finds them, fitted to a hole's surroundings.
        """
        edge = self.edge[(height * (len(self.edge) - 1)).round().long()]
        decoder, scale = self.network.decoder, 2 * self.settings.noise**2

        shown = augment(slices, self.generator)
        hole = random_holes(shown, self.spacing, self.generator)
        unknown = torch.maximum(hole, edge * self.draw(len(slices)).lt(EDGE_SHARE))
        seen = shown + 0.05 * self.draw(len(slices)) * self.draw(*shown.shape, normal=True)
        mean, log_variance = self.network.encoder(seen, unknown, height)
        z = mean + (0.5 * log_variance).exp() * self.draw(*mean.shape, normal=True)
        squared = (decoder.linear(remove_directions(z, own), height) - shown) ** 2
        weight = 1 + (self.settings.hole_weight - 1) * unknown
        reconstruction = (weight * squared).flatten(1).sum(1).mean() / scale
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()

        hole = random_holes(slices, self.spacing, self.generator)
        share = nnf.avg_pool2d(hole, RING, stride=1, padding=RING // 2)
        fitted = fit_latents(decoder.linear, slices, share * (1 - hole), height, own, FIT_NOISE)
        linear, truth, near = move_randomly(
            torch.cat([decoder.linear(fitted, height), slices, (share > 0).float()], dim=1), self.generator
        ).split(1, dim=1)
        squared = (decoder.refined(linear, height) - truth) ** 2
        refinement = (near * squared).flatten(1).sum(1).mean() / scale
        return reconstruction + refinement, divergence
