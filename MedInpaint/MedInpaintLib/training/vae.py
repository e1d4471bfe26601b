"""`medinpaint train vae`: the variational autoencoder's training, resumable, the same on CPU, CUDA and MPS."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..image import replacing
from ..networks import VAE
from .augment import augmented, random_holes
from .prepare import LEVELS, SliceData
from .principal import start_from_components

LINEAR_RATE = 0.1  # of the learning rate: the linear path starts from principal components, near its goal
LEAST_BRAIN = 0.02  # share of a slice; slices with less are not trained on


@dataclass(frozen=True)
class VAESettings:
    """How a VAE is trained.

    Attributes:
        kernel: side of the convolution kernels, 3 or 7.
        latent: size of z.
        epochs: passes over the training slices.
        batch: slices a step.
        learning_rate: Adam's highest rate; it rises over the first 500 steps and falls to 0 along a cosine.
        kl_weight: weight of the Kullback-Leibler term.
        noise: standard deviation of a pixel in the reconstruction term, model intensities.
        hole_weight: weight of a pixel in the hole; a known pixel weighs 1.
        seed: of every random draw.
    """

    kernel: int = 3
    latent: int = 128
    epochs: int = 60
    batch: int = 32
    learning_rate: float = 1e-3
    kl_weight: float = 1.0
    noise: float = 0.1
    hole_weight: float = 3.0
    seed: int = 0


class Trainer:
    """A VAE in training: its state is all that a checkpoint holds."""

    def __init__(self, data: SliceData, settings: VAESettings, device: torch.device):
        self.settings, self.device = settings, device
        torch.manual_seed(settings.seed)
        self.spacing = data.template.image.GetSpacing()[0]
        self.network = VAE(data.slices.shape[2:], settings.latent, settings.kernel)
        brains = data.brains(tuning=False)
        start_from_components(self.network.decoder.linear, brains, settings.noise)
        self.network.to(device, memory_format=torch.channels_last)
        self.slices, self.heights = usable_slices(data.slices[~data.tuning])
        linear = list(self.network.decoder.linear.parameters())
        others = [p for name, p in self.network.named_parameters() if not name.startswith("decoder.linear.")]
        self.optimiser = torch.optim.Adam([{"params": others}, {"params": linear}], betas=(0.9, 0.98))
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.epoch, self.seconds, self.history = 0, 0.0, []

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return len(self.slices) // self.settings.batch

    def run_epoch(self, progress: Callable[[float], None] = lambda fraction: None) -> dict:
        """One pass over the slices; returns its mean losses."""
        started, totals = time.perf_counter(), np.zeros(2)
        order = torch.randperm(len(self.slices), generator=self.generator)
        self.network.train()
        for step in range(self.steps):
            chosen = order[step * self.settings.batch : (step + 1) * self.settings.batch]
            self._set_learning_rate(self.epoch * self.steps + step)
            reconstruction, divergence = self._losses(chosen)
            self.optimiser.zero_grad(set_to_none=True)
            (reconstruction + self.settings.kl_weight * divergence).backward()
            self.optimiser.step()
            totals += [float(reconstruction), float(divergence)]
            progress((step + 1) / self.steps)
        self.epoch += 1
        self.seconds += time.perf_counter() - started
        losses = dict(zip(("reconstruction", "divergence"), (totals / self.steps).round(2).tolist(), strict=True))
        self.history.append({"epoch": self.epoch, **losses})
        return losses

    def _losses(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Negative evidence lower bound of a batch, nats a slice: reconstruction and divergence (eq. 10, Kingma)."""
        slices = torch.as_tensor(self.slices[chosen]).to(self.device)[:, None].float() / LEVELS
        slices = augmented(slices, self.generator)
        hole = random_holes(slices, self.spacing, self.generator)
        height = self.heights[chosen].to(self.device)
        mean, log_variance = self.network.encoder(slices, hole, height)
        noise = torch.randn(mean.shape, generator=self.generator).to(self.device)
        generated = self.network.decoder(mean + (0.5 * log_variance).exp() * noise, height)
        weight = 1 + (self.settings.hole_weight - 1) * hole
        squared = (weight * (generated - slices) ** 2).flatten(1).sum(1).mean()
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return squared / (2 * self.settings.noise**2), divergence

    def _set_learning_rate(self, step: int) -> None:
        done = step / (self.settings.epochs * self.steps)
        rate = self.settings.learning_rate * min(1.0, (step + 1) / 500) * 0.5 * (1 + np.cos(np.pi * done))
        network, linear = self.optimiser.param_groups
        network["lr"], linear["lr"] = float(rate), LINEAR_RATE * float(rate)

    def save(self, path: Path) -> None:
        """Write a checkpoint, complete or not at all."""
        with replacing(path) as temporary:
            torch.save(
                {
                    "settings": json.dumps(asdict(self.settings)),
                    "network": self.network.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "generator": self.generator.get_state(),
                    "epoch": self.epoch,
                    "seconds": self.seconds,
                    "history": self.history,
                },
                temporary,
            )

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint. Raises InputError if it was made with other settings."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        if json.loads(state["settings"]) != asdict(self.settings):
            raise InputError(f"{path.name} was made with other settings: give the same ones, or another output.")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.epoch, self.seconds, self.history = state["epoch"], state["seconds"], state["history"]


def usable_slices(brains: np.ndarray) -> tuple[Tensor, Tensor]:
    """Slices with brain, uint8 (n, h, w), and their relative heights (n,) from uint8 (subjects, z, h, w)."""
    enough = (brains > 0).mean(axis=(2, 3)) > LEAST_BRAIN
    heights = np.broadcast_to(np.linspace(0, 1, brains.shape[1], dtype=np.float32), enough.shape)
    return torch.from_numpy(brains[enough]), torch.from_numpy(heights[enough].copy())
