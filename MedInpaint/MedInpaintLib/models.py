"""A model on disk: a folder with its weights, its template and a card that says what it is."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .alignment import Template
from .errors import InputError
from .resources import resources_folder

if TYPE_CHECKING:
    import torch

    from .networks import GAN, VAE

CARD, WEIGHTS, TEMPLATE = "card.json", "weights.pt", "template.nii.gz"
BRAINS = "brains.npz"  # what the linear path holds; the shipped models share one, beside their folders
SAMPLES = "samples.png"  # slices drawn from the prior, a row per brain
TEMPLATE_LEVELS = 200  # grey levels of model intensity 1 in the template's file


@dataclass(frozen=True)
class Model:
    """A model's folder and its card (kind, kernel, latent, grid, data, training, validation, hashes)."""

    folder: Path
    card: dict

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def template(self) -> Template:
        """The brain that defines the model's space. Raises InputError if the file was altered."""
        self._checked(TEMPLATE)
        stored = sitk.ReadImage(str(self.folder / TEMPLATE))
        image = sitk.Cast(stored / TEMPLATE_LEVELS, sitk.sitkFloat32)  # a division gives float64
        return Template(image, sitk.Cast(stored > 0, sitk.sitkUInt8))

    def network(self, device: torch.device) -> VAE | GAN:
        """The trained network in evaluation mode, on this device.

        Raises InputError if the weights were altered or do not fit.
        """
        import torch

        from .networks import GAN, VAE

        content, brains = self._checked(WEIGHTS), self._checked(BRAINS)
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            with np.load(io.BytesIO(brains), allow_pickle=False) as file:
                held = [torch.from_numpy(file[name]) for name in ("mean", "differences")]
            network = {"vae": VAE, "gan": GAN}[self.card["kind"]](*held, self.card["kernel"])
            network.load_state_dict(state)
            if network.decoder.linear.latent != self.card["latent"]:
                raise ValueError
        except Exception as error:  # torch raises many kinds; every one means the same to the user
            raise InputError(f"The weights of model '{self.name}' do not fit its card: install it again.") from error
        return network.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)

    def _path(self, name: str) -> Path:
        here = self.folder / name
        return models_folder() / name if name == BRAINS and not here.exists() else here

    def _checked(self, name: str) -> bytes:
        try:
            content = self._path(name).read_bytes()
        except OSError as error:
            raise InputError(f"Model '{self.name}' lacks the file {name}: install it again.") from error
        if hashlib.sha256(content).hexdigest() != self.card["sha256"].get(name):
            raise InputError(f"The file {name} of model '{self.name}' was altered or is broken: install it again.")
        return content


def models_folder() -> Path:
    """Where the shipped models are."""
    return resources_folder() / "Models"


def shipped_models() -> list[Model]:
    """All shipped models, by name."""
    return [_read(card.parent) for card in sorted(models_folder().glob(f"*/{CARD}"))]


def find_model(name: str) -> Model:
    """A shipped model by its name, or any model by its folder. Raises InputError if there is none."""
    names = [card.parent.name for card in sorted(models_folder().glob(f"*/{CARD}"))]
    if name in names:
        return _read(models_folder() / name)
    if (Path(name) / CARD).is_file():
        return _read(Path(name).resolve())
    raise InputError(f"There is no model '{name}': choose one of {', '.join(names)}, or give a model's folder.")


def save_model(folder: Path, network: VAE | GAN, template: Template, card: dict) -> Model:
    """Write a model's folder; the weights are stored in half precision."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    torch.save({n: t.half().contiguous() if t.is_floating_point() else t for n, t in state.items()}, folder / WEIGHTS)
    linear = network.decoder.linear
    np.savez_compressed(folder / BRAINS, mean=linear.mean.cpu(), differences=linear.differences.cpu())
    levels = sitk.Cast(
        sitk.Round(sitk.Clamp(template.image * TEMPLATE_LEVELS, sitk.sitkFloat32, 1, 255)), sitk.sitkUInt8
    )
    sitk.WriteImage(levels * template.brain, str(folder / TEMPLATE), useCompression=True)
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (WEIGHTS, BRAINS, TEMPLATE)}
    (folder / CARD).write_text(json.dumps({**card, "sha256": hashes}, indent=2) + "\n", encoding="utf-8")
    return _read(folder)


def _read(folder: Path) -> Model:
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if not isinstance(card["sha256"], dict):
            raise TypeError
        for key in ("kind", "kernel", "latent"):
            card[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"The card of model '{folder.name}' cannot be read: install the model again.") from error
    return Model(folder, card)
