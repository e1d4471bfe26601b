"""A model on disk: a folder with weights, a template and a card that describes it.

A folder may come from anywhere. So it is read as data, never run as code, and files that are huge, packed or unpacked,
are refused.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..resources import resources_folder
from ..space.template import Template

if TYPE_CHECKING:
    import torch

    from .latent_model import LatentModel

CARD, WEIGHTS = "card.json", "weights.pt"
FORMAT = 2  # of a model's folder; the models of format 1 had no networks behind z
BRAINS = "brains.npz"  # their mean and their differences
TEMPLATE = "template.nii.gz"
SHARED = BRAINS, TEMPLATE  # the shipped models use one copy of these, beside their folders
SAMPLES = "samples.png"  # slices drawn from the prior, a row per brain
TEMPLATE_LEVELS = 200  # grey levels of model intensity 1 in the template's file
# Larger files are refused unread. The shipped models need a quarter of these limits at most.
LARGEST_CARD = 2**20  # bytes
LARGEST_FILE, LARGEST_CONTENT = 2**30, 2**31  # bytes, packed and unpacked
LARGEST_SIDE, LARGEST_COUNT = 512, 2048  # voxels along an axis of the grid; brains
PIECE = 2**20  # bytes unpacked at a time


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
        """The brain that defines model space. Raises InputError if the file is missing, altered or no template."""
        content = self._read(TEMPLATE)
        try:
            stored = _parse_template(content)
        except (OSError, EOFError, zlib.error, RuntimeError, ValueError) as error:
            raise InputError(f"The template of model '{self.name}' cannot be read: install it again.") from error
        image = sitk.Cast(stored / TEMPLATE_LEVELS, sitk.sitkFloat32)  # a division gives float64
        return Template(image, sitk.Cast(stored > 0, sitk.sitkUInt8))

    def network(self, device: torch.device) -> LatentModel:
        """The trained network in evaluation mode, on this device.

        Raises InputError if the weights are missing, were altered or do not fit the card, or if torch and numpy do not
        fit each other.
        """
        import torch

        _check_numpy_bridge()
        content, stored = self._read(BRAINS), self._read(WEIGHTS)
        try:
            mean, differences = _parse_brains(content)
            _check_archive(stored)
            state = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
            network = _new_network(self.card, torch.from_numpy(mean), torch.from_numpy(differences))
            network.load_state_dict(state)
            if network.latent != self.card["latent"]:
                raise ValueError("another latent")
        except Exception as error:  # torch raises many kinds of error; all mean the same to the user
            raise InputError(f"The weights of model '{self.name}' do not fit its card: install it again.") from error
        network.requires_grad_(False).eval()
        return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's omission

    def _find(self, name: str) -> Path:
        """The path of a file: in the model's folder, or the shared copy if the folder has none."""
        path = self.folder / name
        return models_folder() / name if name in SHARED and not path.exists() else path

    def _read(self, name: str) -> bytes:
        """The content of a file. Raises InputError if it is missing, too large or does not have the card's hash."""
        try:
            content = _read_bytes(self._find(name), LARGEST_FILE)
        except OSError as error:
            raise InputError(f"Model '{self.name}' lacks the file {name}: install it again.") from error
        except ValueError as error:
            raise InputError(f"The file {name} of model '{self.name}' is too large: install it again.") from error
        if hashlib.sha256(content).hexdigest() != self.card["sha256"].get(name):
            raise InputError(f"The file {name} of model '{self.name}' was altered or is broken: install it again.")
        return content


def models_folder() -> Path:
    """The folder of the shipped models."""
    return resources_folder() / "Models"


def read_model(folder: Path) -> Model:
    """The model in a folder. Only its card is read. Raises InputError if there is no valid card."""
    try:
        card = json.loads(_read_bytes(folder / CARD, LARGEST_CARD).decode("utf-8"))
        if not isinstance(card["sha256"], dict) or not card["sha256"].keys() <= {WEIGHTS, *SHARED}:
            raise TypeError
        for key in ("kind", "kernel", "latent"):
            card[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"The card of model '{folder.name}' cannot be read: install the model again.") from error
    if card.get("format") != FORMAT:
        raise InputError(f"Model '{folder.name}' was made by another version of MedInpaint: train it again.")
    return Model(folder, card)


def save_model(folder: Path, network: LatentModel, template: Template, card: dict) -> Model:
    """Write all files of a model into its folder. The weights are stored in half precision."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    torch.save({n: t.half().contiguous() if t.is_floating_point() else t for n, t in state.items()}, folder / WEIGHTS)
    brains = {name: getattr(network.brains, name).numpy(force=True) for name in ("mean", "differences")}
    np.savez_compressed(folder / BRAINS, **brains)
    levels = sitk.Round(sitk.Clamp(template.image * TEMPLATE_LEVELS, sitk.sitkFloat32, 1, 255))
    sitk.WriteImage(sitk.Cast(levels, sitk.sitkUInt8) * template.brain, str(folder / TEMPLATE), useCompression=True)
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (WEIGHTS, *SHARED)}
    card = {"format": FORMAT, **card, "sha256": hashes}
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return read_model(folder)


def _read_bytes(path: Path, most: int) -> bytes:
    """A file's content. Raises OSError for anything but an ordinary file (such as a pipe), ValueError if too large."""
    if not path.is_file():
        raise FileNotFoundError(path)
    if path.stat().st_size > most:
        raise ValueError(f"more than {most} bytes")
    return path.read_bytes()


def _check_numpy_bridge() -> None:
    """Raise InputError if torch cannot take arrays: torch before 2.3 was built for numpy 1."""
    import torch

    try:
        torch.from_numpy(np.zeros(1))
    except RuntimeError as error:
        raise InputError(
            f"PyTorch {torch.__version__} cannot work with numpy {np.__version__}: "
            "install PyTorch 2.3 or newer, or numpy before 2."
        ) from error


def _check_archive(content: bytes) -> None:
    """Raise an error unless this is a zip archive and its unpacked files together are small enough."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(part.file_size for part in archive.infolist()) > LARGEST_CONTENT:
            raise ValueError("too large, unpacked")


def _new_network(card: dict, mean: torch.Tensor, differences: torch.Tensor) -> LatentModel:
    """A network of the card's kind. Raises an error if there is no such kind or kernel."""
    from .gan import GAN
    from .linear import Brains, Linear
    from .vae import VAE

    brains = Brains(mean, differences)
    if card["kind"] == "linear":
        return Linear(brains)
    return {"vae": VAE, "gan": GAN}[card["kind"]](brains, card["kernel"])


def _parse_brains(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the differences of the brains. Raises an error if they do not fit each other or are too large."""
    _check_archive(content)
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        mean, differences = file["mean"], file["differences"]
    heights, height, width = mean.shape
    if (mean.dtype, differences.dtype) != (np.uint8, np.int8):
        raise ValueError("not the types of brains")
    if not 1 <= min(mean.shape) <= max(mean.shape) <= LARGEST_SIDE or not 1 <= differences.shape[1] <= LARGEST_COUNT:
        raise ValueError("too small or too large")
    if differences.shape != (heights, differences.shape[1], height, width):
        raise ValueError("mean and differences do not fit each other")
    return mean, differences


def _parse_template(content: bytes) -> sitk.Image:
    """The image in a template's file with this content. Raises an error if it is no template, or too large.

    ITK cannot read it from memory, and on Windows not from a path that is not ASCII. The fields are those of NIfTI-1.
    """
    unpacked = bytearray()
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        while piece := file.read(PIECE):
            unpacked += piece
            if len(unpacked) > LARGEST_CONTENT:
                raise ValueError("too large, unpacked")
    length, axes = np.frombuffer(unpacked, "<i4", 1), np.frombuffer(unpacked, "<i2", 4, 40)
    kind, uses_matrix = np.frombuffer(unpacked, "<i2", 1, 70), np.frombuffer(unpacked, "<i2", 1, 254)
    fits = axes.min() > 0 and axes.max() <= LARGEST_SIDE
    if [*length, axes[0], *kind] != [348, 3, 2] or uses_matrix <= 0 or not fits:
        raise ValueError("no volume of 8-bit grey levels")
    start = int(np.frombuffer(unpacked, "<f4", 1, 108)[0])
    voxels = np.frombuffer(unpacked, np.uint8, int(np.prod(axes[1:], dtype=np.int64)), start)
    spacing = np.frombuffer(unpacked, "<f4", 3, 80).astype(float)
    matrix = np.frombuffer(unpacked, "<f4", 12, 280).reshape(3, 4) * np.array([[-1.0], [-1.0], [1.0]])  # RAS to LPS
    image = sitk.GetImageFromArray(voxels.reshape(axes[:0:-1]))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:, 3].tolist())
    image.SetDirection((matrix[:, :3] / spacing).ravel().tolist())
    return image
