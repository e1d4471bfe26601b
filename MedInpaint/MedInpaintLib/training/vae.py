"""`medinpaint train vae`: the losses of the variational autoencoder."""

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

EDGE_SHARE = 0.25  # share of slices in which the edge of the brain is unknown, as in scans of the whole head
RING = 7  # pixels: window of the context weights in the training of the refinement
FIT_NOISE = 0.03  # variance of a pixel in this training; it fits as closely as the search with its default prior


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
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimiser = self.adam(trained, (0.9, 0.98))
        self.parts = {"network": self.network, "optimiser": self.optimiser}

    def new_network(self, mean: Tensor, differences: Tensor) -> VAE:
        """The network before the training."""
        return VAE(mean, differences, self.settings.kernel)

    def step(self, slices: Tensor, height: Tensor, excluded: Tensor) -> dict[str, float]:
        """One step of Adam. Returns reconstruction and divergence, nats per slice."""
        reconstruction, divergence = self.losses(slices, height, excluded)
        self.optimiser.zero_grad(set_to_none=True)
        (reconstruction + self.settings.kl_weight * divergence).backward()
        self.optimiser.step()
        return {"reconstruction": reconstruction.item(), "divergence": divergence.item()}

    def losses(self, slices: Tensor, height: Tensor, excluded: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and divergence of a batch, nats per slice. Arguments as for `step`.

        Encoder and linear path give the negative evidence lower bound (eq. 10, Kingma & Welling). The refinement is
        trained on latents like those of the search, fitted to the surroundings of a hole.
        """
        edge = self.edge[(height * (len(self.edge) - 1)).round().long()]
        decoder, scale = self.network.decoder, 2 * self.settings.noise**2

        truth = augment(slices, self.generator)
        hole = random_holes(truth, self.spacing, self.generator)
        unknown = torch.maximum(hole, edge * self.draw(len(slices)).lt(EDGE_SHARE))
        noisy = truth + 0.05 * self.draw(len(slices)) * self.draw(*truth.shape, normal=True)
        mean, log_variance = self.network.encoder(noisy, unknown, height)
        z = mean + (0.5 * log_variance).exp() * self.draw(*mean.shape, normal=True)
        squared = (decoder.linear(remove_directions(z, excluded), height) - truth) ** 2
        weight = 1 + (self.settings.hole_weight - 1) * unknown
        reconstruction = (weight * squared).flatten(1).sum(1).mean() / scale
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()

        hole = random_holes(slices, self.spacing, self.generator)
        share = nnf.avg_pool2d(hole, RING, stride=1, padding=RING // 2)
        fitted = fit_latents(decoder.linear, slices, share * (1 - hole), height, excluded, FIT_NOISE)
        linear, truth, near = move_randomly(
            torch.cat([decoder.linear(fitted, height), slices, (share > 0).float()], dim=1), self.generator
        ).split(1, dim=1)
        squared = (decoder.refine(linear, height) - truth) ** 2
        refinement = (near * squared).flatten(1).sum(1).mean() / scale
        return reconstruction + refinement, divergence
