"""The common part of all trainings: slices, fixed linear path, epochs, checkpoint and model card."""

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
from ..models.folder import Model, save_model
from ..models.gan import GAN
from ..models.vae import VAE
from ..search.device import choose_device
from ..space.intensities import INTENSITY_RULE
from ..volumes.write import replacing
from .samples import save_samples
from .slices.data import LEVELS, SliceData, load
from .slices.shape import mean_and_differences, to_common_shape
from .validation import validate

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
    epochs: int = 6
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
    trainer = kind(data, settings, choose_device(device))
    if checkpoint.exists():
        trainer.resume(checkpoint)
    with tqdm(total=settings.epochs, initial=trainer.epoch, unit="epoch") as bar:
        while trainer.epoch < settings.epochs:
            bar.set_postfix(trainer.run_epoch())
            trainer.save(checkpoint)
            bar.update()
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
        brains = to_common_shape(data.brains(tuning=False), device)
        self.network = self.new_network(*mean_and_differences(brains))
        self.excluded = brain_directions(len(brains))
        self.network.to(device, memory_format=torch.channels_last)
        self.slices, self.heights, self.subjects = usable_slices((brains * LEVELS).round().astype(np.uint8))
        self.edge = torch.as_tensor(data.template.edge, dtype=torch.float32, device=device)[:, None]
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.epoch, self.seconds, self.history = 0, 0.0, []

    @abstractmethod
    def new_network(self, mean: Tensor, differences: Tensor) -> VAE | GAN:
        """The network before the training, from the results of `mean_and_differences`."""

    @abstractmethod
    def step(self, slices: Tensor, height: Tensor, excluded: Tensor) -> dict[str, float]:
        """One step of the optimisers. Returns the losses by name.

        Args:
            slices: (n, 1, h, w), model intensities, deformed to the common shape.
            height: (n,), relative.
            excluded: (n, latent, 2), the directions in z of the slice's brain and its mirror image. The slice must be
                explained by the other brains.
        """

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return len(self.slices) // self.settings.batch

    def run_epoch(self, progress: Callable[[float], None] = lambda fraction: None) -> dict[str, float]:
        """One pass over the slices. Returns the mean losses."""
        started, sums = time.perf_counter(), {}
        order = self._order()
        self.network.train()
        for step in range(self.steps):
            chosen = order[step * self.settings.batch : (step + 1) * self.settings.batch]
            slices = self.slices[chosen].to(self.device)[:, None].float() / LEVELS
            excluded = self.excluded[self.subjects[chosen]].to(self.device)
            self._set_learning_rate(self.epoch * self.steps + step)
            for name, loss in self.step(slices, self.heights[chosen].to(self.device), excluded).items():
                sums[name] = sums.get(name, 0.0) + loss
            progress((step + 1) / self.steps)
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
        """Write the model's folder, with samples from the prior and the validation on the tuning subjects."""
        network = self.final_network()
        network.load_state_dict({name: tensor.half().float() for name, tensor in network.state_dict().items()})
        network.requires_grad_(False).eval()
        started = time.perf_counter()
        validation = validate(network, data)
        training = data.names(tuning=False)
        card = {
            "kind": self.kind,
            "kernel": self.settings.kernel,
            "latent": network.decoder.linear.latent,
            "grid": {"size": data.template.image.GetSize(), "spacing_mm": data.template.image.GetSpacing()},
            "intensity": INTENSITY_RULE,
            "template": f"average of {len(training)} aligned training brains, left-right symmetric",
            "data": data.source,
            "training_subjects": training,
            "command": f"medinpaint train {self.kind} --kernel {self.settings.kernel}",
            "settings": asdict(self.settings),
            "epochs": self.epoch,
            "training_minutes": round(self.seconds / 60, 1),
            "device": self.device.type,
            "history": self.history,
            "validation": {**validation, "seconds": round(time.perf_counter() - started, 1)},
        }
        model = save_model(folder, network, data.template, card)
        save_samples(network, model.folder)
        return model

    def _order(self) -> Tensor:
        """A random order of the slices, in groups of four with the same height, because these share a linear basis."""
        by_height = torch.argsort(self.heights + 1e-4 * torch.rand(len(self.heights), generator=self.generator))
        groups = by_height[: len(by_height) // 4 * 4].view(-1, 4)
        return groups[torch.randperm(len(groups), generator=self.generator)].flatten()

    def _set_learning_rate(self, step: int) -> None:
        done = step / (self.settings.epochs * self.steps)
        rate = self.settings.learning_rate * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + np.cos(np.pi * done))
        for part in self.parts.values():
            if isinstance(part, Adam):
                part.param_groups[0]["lr"] = float(rate) * part.param_groups[0]["rate"]


def brain_directions(brains: int) -> Tensor:
    """The directions in z of each brain and of its mirror image, (brains, 2 * brains, 2)."""
    unit = torch.eye(2 * brains)
    return torch.stack([unit[:brains], unit[brains:]], dim=2)


def usable_slices(brains: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """The slices with enough brain, uint8 (n, h, w), their relative heights (n,) and their subjects (n,).

    Args:
        brains: uint8 (subjects, z, h, w).
    """
    enough = (brains > 0).mean(axis=(2, 3)) > LEAST_BRAIN
    heights = np.broadcast_to(np.linspace(0, 1, brains.shape[1], dtype=np.float32), enough.shape)
    return torch.from_numpy(brains[enough]), torch.from_numpy(heights[enough].copy()), torch.tensor(enough.nonzero()[0])
