"""`medinpaint train gan`: the generative adversarial network's losses."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..models.gan import GAN
from .augment import augment
from .slices.data import SliceData
from .trainer import Trainer, TrainingSettings

DECAY = 0.998  # a step, of the running average of the generator
PACE = 0.1  # of the generator, against the discriminator's
LEAD = 1.2  # nats: the generator learns where the discriminator's loss is below; that of knowing nothing is 1.39


@dataclass(frozen=True)
class GANSettings(TrainingSettings):
    """How a GAN is trained."""

    epochs: int = 8


class GANTrainer(Trainer):
    """A GAN in training. Only the refinement learns to deceive: the linear path is fixed, as in the VAE.

    Real and generated slices go through the same augmentation before they are judged, lest the discriminator learn
    48 brains by heart (Zhao et al., Differentiable Augmentation, NeurIPS 2020).
    """

    kind = "gan"
    settings: GANSettings

    def __init__(self, data: SliceData, settings: GANSettings, device: torch.device):
        super().__init__(data, settings, device)
        refinement, discriminator = self.network.decoder.refinement, self.network.discriminator
        self.average = AveragedModel(refinement, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
        self.deceiving = self.adam(refinement.parameters(), (0.5, 0.99), PACE)
        self.detecting = self.adam(discriminator.parameters(), (0.5, 0.99))
        self.parts = {
            "network": self.network,
            "average": self.average,
            "deceiving": self.deceiving,
            "detecting": self.detecting,
        }

    def untrained(self, mean: Tensor, differences: Tensor) -> GAN:
        """The network before its training."""
        return GAN(mean, differences, self.settings.kernel)

    def step(self, slices: Tensor, height: Tensor, own: Tensor) -> dict[str, float]:
        """One step of the discriminator, then one of the generator; returns their cross-entropies, nats a slice."""
        decoder = self.network.decoder
        generated = decoder(self.draw(len(slices), decoder.linear.latent, normal=True), height)
        real, false = self._odds(slices, height), self._odds(generated.detach(), height)
        discriminator = nnf.softplus(-real).mean() + nnf.softplus(false).mean()
        self._descend(self.detecting, discriminator)

        generator = nnf.softplus(-self._odds(generated, height)).mean()
        if discriminator.item() < LEAD:
            self._descend(self.deceiving, generator)
            self.average.update_parameters(decoder.refinement)
        return {"generator": generator.item(), "discriminator": discriminator.item()}

    def _odds(self, slices: Tensor, height: Tensor) -> Tensor:
        return self.network.discriminator(augment(slices, self.generator), height)

    def _descend(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    def trained(self) -> GAN:
        """The network with the running average of its generator, which wavers less from step to step."""
        network = copy.deepcopy(self.network)
        network.decoder.refinement.load_state_dict(self.average.module.state_dict())
        return network
