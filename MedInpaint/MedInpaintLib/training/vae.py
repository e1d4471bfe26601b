"""`medinpaint train vae`: the variational autoencoder's training, resumable, the same on CPU, CUDA and MPS."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from ..errors import InputError
from ..files import replacing
from ..latent import choose_device
from ..models import Model, save_model
from ..networks import VAE
from ..slices import INTENSITY_RULE
from .augment import augmented, moved, random_holes
from .prepare import LEVELS, SliceData, load
from .principal import fit_components, fitted_latents, without
from .shape import in_one_shape
from .validation import validate

EDGE_SHARE = 0.25  # of the slices whose brain's edge is hidden, as it is in a whole head
RING = 7  # pixels: the window of the context weights in the refinement's training
FIT_NOISE = 0.03  # variance of a pixel there; fits as tightly as the search does with its default prior
LEAST_BRAIN = 0.02  # share of a slice; slices with less are not trained on


@dataclass(frozen=True)
class VAESettings:
    """How a VAE is trained.

    Attributes:
        kernel: side of the convolution kernels, 3 or 7.
        latent: size of z.
        epochs: passes over the training slices.
        batch: slices a step.
        learning_rate: Adam's highest rate; it rises over the first 200 steps and falls to 0 along a cosine.
        kl_weight: weight of the Kullback-Leibler term.
        noise: standard deviation of a pixel in the reconstruction term, model intensities.
        hole_weight: weight of a pixel in the hole; a known pixel weighs 1.
        seed: of every random draw.
    """

    kernel: int = 3
    latent: int = 100
    epochs: int = 6
    batch: int = 16
    learning_rate: float = 1e-3
    kl_weight: float = 3.0
    noise: float = 0.1
    hole_weight: float = 3.0
    seed: int = 0


def train_vae(data_file: Path, output: Path, settings: VAESettings, device: str, resume: bool) -> Model:
    """Train a VAE and write its model folder.

    Args:
        data_file: slice file of `medinpaint train prepare`.
        output: the model's folder; a checkpoint lies beside it (output + ".checkpoint") until the end of training.
        settings: of the training.
        device: "auto", "cpu", "cuda" or "mps".
        resume: go on from the checkpoint if there is one; else a checkpoint that is there is an error.
    """
    from tqdm import tqdm

    data = load(data_file)
    checkpoint = output.with_name(output.name + ".checkpoint")
    if checkpoint.exists() and not resume:
        raise InputError(f"There is a checkpoint {checkpoint.name}: add --resume to go on from it, or delete it.")
    trainer = Trainer(data, settings, choose_device(device))
    if checkpoint.exists():
        trainer.resume(checkpoint)
    with tqdm(total=settings.epochs, initial=trainer.epoch, unit="epoch") as bar:
        while trainer.epoch < settings.epochs:
            bar.set_postfix(trainer.run_epoch())
            trainer.save(checkpoint)
            bar.update()
    return trainer.export(output, data)


class Trainer:
    """A VAE in training: its state is all that a checkpoint holds."""

    def __init__(self, data: SliceData, settings: VAESettings, device: torch.device):
        self.settings, self.device = settings, device
        torch.manual_seed(settings.seed)
        self.spacing = data.template.image.GetSpacing()[0]
        support = torch.from_numpy(data.template.support)
        self.network = VAE(support, settings.latent, settings.kernel)
        brains = in_one_shape(data.brains(tuning=False), device)
        self.own = fit_components(self.network.decoder.linear, brains)
        self.network.decoder.linear.requires_grad_(False)
        self.network.to(device, memory_format=torch.channels_last)
        self.slices, self.heights, self.subjects = usable_slices((brains * LEVELS).round().astype(np.uint8))
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(trained, betas=(0.9, 0.98))
        self.edge = torch.as_tensor(data.template.edge, dtype=torch.float32, device=device)[:, None]
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.epoch, self.seconds, self.history = 0, 0.0, []

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return len(self.slices) // self.settings.batch

    def run_epoch(self, progress: Callable[[float], None] = lambda fraction: None) -> dict:
        """One pass over the slices; returns its mean losses."""
        started, totals = time.perf_counter(), np.zeros(2)
        order = self._order()
        self.network.train()
        for step in range(self.steps):
            chosen = order[step * self.settings.batch : (step + 1) * self.settings.batch]
            self._set_learning_rate(self.epoch * self.steps + step)
            reconstruction, divergence = self._losses(chosen)
            self.optimiser.zero_grad(set_to_none=True)
            (reconstruction + self.settings.kl_weight * divergence).backward()
            self.optimiser.step()
            totals += [reconstruction.item(), divergence.item()]
            progress((step + 1) / self.steps)
        self.epoch += 1
        self.seconds += time.perf_counter() - started
        losses = dict(zip(("reconstruction", "divergence"), (totals / self.steps).round(2).tolist(), strict=True))
        self.history.append({"epoch": self.epoch, **losses})
        return losses

    def _order(self) -> Tensor:
        """A random order of the slices in which four of one height follow each other: they share a linear basis."""
        by_height = torch.argsort(self.heights + 1e-4 * torch.rand(len(self.heights), generator=self.generator))
        groups = by_height[: len(by_height) // 4 * 4].view(-1, 4)
        return groups[torch.randperm(len(groups), generator=self.generator)].flatten()

    def _losses(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and divergence of a batch, nats a slice.

        The encoder and the linear path give the negative evidence lower bound (eq. 10, Kingma & Welling). The
        refinement is trained on latents as the search finds them, fitted to a hole's surroundings.
        """
        slices = self.slices[chosen].to(self.device)[:, None].float() / LEVELS
        height, own = self.heights[chosen].to(self.device), self.own[self.subjects[chosen]].to(self.device)
        edge = self.edge[(height * (len(self.edge) - 1)).round().long()]
        decoder, scale = self.network.decoder, 2 * self.settings.noise**2

        shown = augmented(slices, self.generator)
        hole = random_holes(shown, self.spacing, self.generator)
        unknown = torch.maximum(hole, edge * self._draw(len(chosen)).lt(EDGE_SHARE))
        seen = shown + 0.05 * self._draw(len(chosen)) * self._draw(*shown.shape, normal=True)
        mean, log_variance = self.network.encoder(seen, unknown, height)
        z = mean + (0.5 * log_variance).exp() * self._draw(*mean.shape, normal=True)
        squared = (decoder.linear(without(z, own), height) - shown) ** 2
        weight = 1 + (self.settings.hole_weight - 1) * unknown
        reconstruction = (weight * squared).flatten(1).sum(1).mean() / scale
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()

        hole = random_holes(slices, self.spacing, self.generator)
        share = nnf.avg_pool2d(hole, RING, stride=1, padding=RING // 2)
        fitted = fitted_latents(decoder.linear, slices, share * (1 - hole), height, own, FIT_NOISE)
        linear, truth, near = moved(
            torch.cat([decoder.linear(fitted, height), slices, (share > 0).float()], dim=1), self.generator
        ).split(1, dim=1)
        squared = (linear + decoder.refinement(linear, height) - truth) ** 2
        refinement = (near * squared).flatten(1).sum(1).mean() / scale
        return reconstruction + refinement, divergence

    def _draw(self, *shape: int, normal: bool = False) -> Tensor:
        """Random numbers, the same on every device: normal of this shape, or uniform (n, 1, 1, 1)."""
        if normal:
            return torch.randn(shape, generator=self.generator).to(self.device)
        return torch.rand(*shape, 1, 1, 1, generator=self.generator).to(self.device)

    def _set_learning_rate(self, step: int) -> None:
        done = step / (self.settings.epochs * self.steps)
        rate = self.settings.learning_rate * min(1.0, (step + 1) / 200) * 0.5 * (1 + np.cos(np.pi * done))
        self.optimiser.param_groups[0]["lr"] = float(rate)

    def save(self, path: Path) -> None:
        """Write a checkpoint, complete or not at all."""
        with replacing(path) as temporary:
            torch.save(
                {
                    "settings": json.dumps(asdict(self.settings)),
                    "network": self.network.state_dict(),
                    "own": self.own,
                    "optimiser": self.optimiser.state_dict(),
                    "generator": self.generator.get_state(),
                    "epoch": self.epoch,
                    "seconds": self.seconds,
                    "history": self.history,
                },
                temporary,
            )

    def export(self, folder: Path, data: SliceData) -> Model:
        """Write the model's folder, with its figures on the tuning subjects."""
        state = {name: tensor.half().float() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(state)
        self.network.eval()
        started = time.perf_counter()
        validation = validate(self.network, data)
        card = {
            "kind": "vae",
            "kernel": self.settings.kernel,
            "latent": self.settings.latent,
            "grid": {"size": data.template.image.GetSize(), "spacing_mm": data.template.image.GetSpacing()},
            "intensity": INTENSITY_RULE,
            "template": f"average of {len(data.names(tuning=False))} aligned training brains, left-right symmetric",
            "data": data.source,
            "training_subjects": data.names(tuning=False),
            "command": "medinpaint train vae",
            "settings": asdict(self.settings),
            "epochs": self.epoch,
            "training_minutes": round(self.seconds / 60, 1),
            "device": self.device.type,
            "history": self.history,
            "validation": {**validation, "seconds": round(time.perf_counter() - started, 1)},
        }
        return save_model(folder, state, data.template, card)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint. Raises InputError if it is damaged or was made with other settings."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds; every one means the same to the user
            raise InputError(f"The checkpoint {path.name} cannot be read: delete it and train anew.") from error
        if json.loads(state["settings"]) != asdict(self.settings):
            raise InputError(f"{path.name} was made with other settings: give the same ones, or another output.")
        self.network.load_state_dict(state["network"])
        self.own = state["own"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.epoch, self.seconds, self.history = state["epoch"], state["seconds"], state["history"]


def usable_slices(brains: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Slices with brain, uint8 (n, h, w), their relative heights (n,) and subjects (n,) from (subjects, z, h, w)."""
    enough = (brains > 0).mean(axis=(2, 3)) > LEAST_BRAIN
    heights = np.broadcast_to(np.linspace(0, 1, brains.shape[1], dtype=np.float32), enough.shape)
    return torch.from_numpy(brains[enough]), torch.from_numpy(heights[enough].copy()), torch.tensor(enough.nonzero()[0])
