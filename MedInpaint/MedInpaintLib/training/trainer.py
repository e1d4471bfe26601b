"""The common part of all trainings: slices, epochs and checkpoint."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam

from ..errors import InputError
from ..models.folder import Model
from ..models.gan import GAN
from ..models.linear import Brains
from ..models.vae import VAE
from ..search.device import choose_device
from ..volumes.write import replacing
from .export import export
from .slices.augment import Shapes
from .slices.data import LEVELS, SliceData, load
from .slices.shape import mean_and_differences

LEAST_BRAIN = 0.02  # share of a slice; slices with less brain are not used
WARM_UP = 200  # steps over which the learning rate rises


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Attributes:
        kernel: side of the convolution kernels, 3 or 7.
        epochs: passes over the training slices.
        batch: slices per step.
        learning_rate: highest rate of Adam; it rises over the first 200 steps and falls to 0 along a cosine.
        seed: of all random draws.
    """

    kernel: int = 3
    epochs: int = 16
    batch: int = 16
    learning_rate: float = 1e-3
    seed: int = 0


def train(
    kind: type[Trainer], data_file: Path, output: Path, settings: TrainingSettings, device: str, resume: bool
) -> Model:
    """Train a model and write its folder.

    Args:
        kind: VAETrainer or GANTrainer.
        data_file: slice file of `medinpaint train prepare`.
        output: folder of the model. The checkpoint is beside it (output + ".checkpoint").
        settings: of the training.
        device: "auto", "cpu", "cuda" or "mps".
        resume: continue from the checkpoint if there is one. Without it, an existing checkpoint is an error.

    Raises InputError if there is a checkpoint without `resume`, or if a file cannot be used.
    """
    from tqdm import tqdm

    data = load(data_file)
    checkpoint = output.with_name(output.name + ".checkpoint")
    if checkpoint.exists() and not resume:
        raise InputError(f"There is a checkpoint {checkpoint.name}: add --resume to continue from it, or delete it.")
    output.parent.mkdir(parents=True, exist_ok=True)
    trainer = kind(data, settings, choose_device(device))
    if checkpoint.exists():
        trainer.resume(checkpoint)
    with tqdm(total=settings.epochs * trainer.steps, initial=trainer.epoch * trainer.steps, unit="step") as bar:
        while trainer.epoch < settings.epochs:
            bar.set_description(f"epoch {trainer.epoch + 1} of {settings.epochs}")
            bar.set_postfix(trainer.run_epoch(bar.update))
            trainer.save(checkpoint)
    return trainer.export(output, data)


class Trainer(ABC):
    """A model in training. A subclass for each kind of model defines the losses in `step`."""

    kind: str  # of the model, on its card and in the command
    network: VAE | GAN
    parts: dict[str, nn.Module | Adam]  # the networks and optimisers that a checkpoint stores

    def __init__(self, data: SliceData, settings: TrainingSettings, device: torch.device):
        self.settings, self.device = settings, device
        torch.manual_seed(settings.seed)
        self.spacing = data.template.image.GetSpacing()[0]
        brains = data.training.astype(np.float32) / LEVELS
        self.network = self.new_network(Brains(*mean_and_differences(brains)))
        self.network.to(device, memory_format=torch.channels_last)
        self.slices, self.heights, self.subjects = usable_slices(data.training)
        self.shapes = Shapes(data.shapes, data.training.shape[1:], device)
        self.edge = torch.as_tensor(data.template.edge, dtype=torch.float32, device=device)[:, None]
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.epoch, self.seconds, self.history = 0, 0.0, []

    @abstractmethod
    def new_network(self, brains: Brains) -> VAE | GAN:
        """The network before the training."""

    @abstractmethod
    def step(self, slices: Tensor, height: Tensor, subject: Tensor) -> dict[str, float]:
        """One step of the optimisers. Returns the losses by name.

        Args:
            slices: (n, 1, h, w), model intensities: each a brain's appearance in a shape between brains.
            height: (n,), relative.
            subject: (n,), the index of the slice's brain.
        """

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return len(self.slices) // self.settings.batch

    def run_epoch(self, progress: Callable[[], object] = lambda: None) -> dict[str, float]:
        """One pass over the slices; `progress` is called after each step. Returns the mean losses."""
        started, sums = time.perf_counter(), {}
        order = torch.randperm(len(self.slices), generator=self.generator)
        self.network.train()
        for step in range(self.steps):
            chosen = order[step * self.settings.batch : (step + 1) * self.settings.batch]
            slices = self.slices[chosen].to(self.device)[:, None].float() / LEVELS
            height = self.heights[chosen].to(self.device)
            self._set_learning_rate(self.epoch * self.steps + step)
            losses = self.step(
                self.shapes.reshape(slices, height, self.generator), height, self.subjects[chosen].to(self.device)
            )
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss
            progress()
        self.epoch += 1
        self.seconds += time.perf_counter() - started
        losses = {name: float(f"{total / self.steps:.4g}") for name, total in sums.items()}
        self.history.append({"epoch": self.epoch, **losses})
        return losses

    def draw(self, *shape: int, normal: bool = False) -> Tensor:
        """Random numbers, the same on every device: normal with this shape, or uniform with the shape (n, 1, 1, 1)."""
        if normal:
            return torch.randn(shape, generator=self.generator).to(self.device)
        return torch.rand(*shape, 1, 1, 1, generator=self.generator).to(self.device)

    def adam(self, parameters: Iterable[nn.Parameter], momentum: tuple[float, float], rate: float = 1.0) -> Adam:
        """An optimiser with its learning rate as a multiple of the scheduled rate."""
        return Adam([{"params": list(parameters), "rate": rate}], betas=momentum)

    def save(self, path: Path) -> None:
        """Write a checkpoint. The file appears only when it is complete."""
        with replacing(path) as temporary:
            torch.save(
                {
                    "settings": json.dumps(asdict(self.settings)),
                    "parts": {name: part.state_dict() for name, part in self.parts.items()},
                    "generator": self.generator.get_state(),
                    "epoch": self.epoch,
                    "seconds": self.seconds,
                    "history": self.history,
                },
                temporary,
            )

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint. Raises InputError if it is damaged or has other settings."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds of error; all mean the same to the user
            raise InputError(f"The checkpoint {path.name} cannot be read: delete it and train again.") from error
        if json.loads(state["settings"]) != asdict(self.settings) or state["parts"].keys() != self.parts.keys():
            raise InputError(f"{path.name} was made with other settings: give the same ones, or another output.")
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self.generator.set_state(state["generator"])
        self.epoch, self.seconds, self.history = state["epoch"], state["seconds"], state["history"]

    def final_network(self) -> VAE | GAN:
        """The network for the model's folder."""
        return self.network

    def export(self, folder: Path, data: SliceData) -> Model:
        """Write the model's folder, with the losses and the settings of the training on its card."""
        training = {
            "kernel": self.settings.kernel,
            "command": f"medinpaint train {self.kind} --kernel {self.settings.kernel}",
            "settings": asdict(self.settings),
            "epochs": self.epoch,
            "training_minutes": round(self.seconds / 60, 1),
            "device": self.device.type,
            "history": self.history,
        }
        return export(self.final_network(), folder, data, {"kind": self.kind, **training})

    def _set_learning_rate(self, step: int) -> None:
        done = step / (self.settings.epochs * self.steps)
        rate = self.settings.learning_rate * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + np.cos(np.pi * done))
        for part in self.parts.values():
            if isinstance(part, Adam):
                part.param_groups[0]["lr"] = float(rate) * part.param_groups[0]["rate"]


def usable_slices(brains: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """The slices with enough brain, uint8 (n, h, w), their relative heights (n,) and their subjects (n,).

    Args:
        brains: uint8 (subjects, z, h, w).
    """
    enough = (brains > 0).mean(axis=(2, 3)) > LEAST_BRAIN
    heights = np.broadcast_to(np.linspace(0, 1, brains.shape[1], dtype=np.float32), enough.shape)
    return torch.from_numpy(brains[enough]), torch.from_numpy(heights[enough].copy()), torch.tensor(enough.nonzero()[0])
