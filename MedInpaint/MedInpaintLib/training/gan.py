"""`medinpaint train gan`: the losses of the generative adversarial network."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..models.gan import GAN
from ..models.linear import Brains
from .slices.augment import flip_and_shift
from .slices.data import SliceData
from .trainer import Trainer, TrainingSettings

DECAY = 0.998  # per step, of the running average of the generator
GENERATOR_RATE = 0.5  # learning rate of the generator, as a multiple of the discriminator's
SMOOTH_EVERY, SMOOTH_WEIGHT = 8, 0.05  # mean number of steps between two penalties of the discriminator's slope


@dataclass(frozen=True)
class GANSettings(TrainingSettings):
    """How a GAN is trained."""

    epochs: int = 8


class GANTrainer(Trainer):
    """A GAN in training, end to end: generator and discriminator start from random weights.

    Real and generated slices are flipped and shifted at random before the discriminator sees them. Otherwise it would
    memorise 48 brains (Zhao et al., Differentiable Augmentation, NeurIPS 2020). Stronger augmentation hides the
    difference between the two: with that of the VAE, the discriminator hardly learns.
    """

    kind = "gan"
    settings: GANSettings

    def __init__(self, data: SliceData, settings: GANSettings, device: torch.device):
        super().__init__(data, settings, device)
        generator, discriminator = self.network.generator, self.network.discriminator
        self.average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
        self.generator_optimiser = self.adam(generator.parameters(), (0.5, 0.99), GENERATOR_RATE)
        self.discriminator_optimiser = self.adam(discriminator.parameters(), (0.5, 0.99))
        self.parts = {
            "network": self.network,
            "average": self.average,
            "generator_optimiser": self.generator_optimiser,
            "discriminator_optimiser": self.discriminator_optimiser,
        }

    def new_network(self, brains: Brains) -> GAN:
        """The network before the training."""
        return GAN(brains, self.settings.kernel)

    def step(self, slices: Tensor, height: Tensor, subject: Tensor) -> dict[str, float]:
        """One step of the discriminator, then one of the generator. Returns their cross-entropies, nats per slice."""
        generated = self.network.generate(self.draw(len(slices), self.network.latent, normal=True), height)
        real, fake = self._log_odds(slices, height), self._log_odds(generated.detach(), height)
        discriminator = nnf.softplus(-real).mean() + nnf.softplus(fake).mean()
        smooth = self._slope(slices, height) if self.draw(1).item() < 1 / SMOOTH_EVERY else 0.0
        self._descend(self.discriminator_optimiser, discriminator + SMOOTH_EVERY * smooth)

        generator = nnf.softplus(-self._log_odds(generated, height)).mean()
        self._descend(self.generator_optimiser, generator)
        self.average.update_parameters(self.network.generator)
        return {"generator": generator.item(), "discriminator": discriminator.item()}

    def final_network(self) -> GAN:
        """The network with the running average of its generator, which changes less from step to step."""
        network = copy.deepcopy(self.network)
        network.generator.load_state_dict(self.average.module.state_dict())
        return network

    def _log_odds(self, slices: Tensor, height: Tensor) -> Tensor:
        """The discriminator's log odds (n,) that augmented slices are real."""
        return self.network.discriminator(flip_and_shift(slices, self.generator), height)

    def _slope(self, slices: Tensor, height: Tensor) -> Tensor:
        """The penalty R1 (Mescheder et al., ICML 2018): the squared slope of the discriminator at real slices."""
        real = flip_and_shift(slices, self.generator).detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.network.discriminator(real, height).sum(), real, create_graph=True)
        return SMOOTH_WEIGHT * slope.square().flatten(1).sum(1).mean()

    def _descend(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
