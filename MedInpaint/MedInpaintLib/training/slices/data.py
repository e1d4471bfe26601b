"""The slice file: model-space slices of all subjects, for training and evaluation."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ...space.template import Template
from ...volumes.write import replacing

LEVELS = 200  # grey levels of model intensity 1 in the file


@dataclass(frozen=True)
class SliceData:
    """Model-space brains of training and tuning subjects.

    Attributes:
        slices: uint8 (subjects, z, h, w); divide by LEVELS for model intensities.
        subjects: names of the scans, in the order of the slices.
        tuning: bool (subjects,), True for subjects that are never used in training.
        template: of the model space.
        source: name, licence and citation of the data.
    """

    slices: np.ndarray
    subjects: list[str]
    tuning: np.ndarray
    template: Template
    source: dict[str, str]

    def brains(self, tuning: bool) -> np.ndarray:
        """The training or the tuning subjects: float32 (subjects, z, h, w), model intensities."""
        return self.slices[self.tuning == tuning].astype(np.float32) / LEVELS

    def names(self, tuning: bool) -> list[str]:
        """The names of the training or the tuning subjects."""
        return [name for name, is_tuning in zip(self.subjects, self.tuning, strict=True) if is_tuning == tuning]


def save(data: SliceData, path: Path) -> None:
    """Write a slice file (.npz)."""
    image = data.template.image
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            slices=data.slices,
            tuning=data.tuning,
            template=sitk.GetArrayViewFromImage(image),
            brain=sitk.GetArrayViewFromImage(data.template.brain),
            about=json.dumps(
                {
                    "subjects": data.subjects,
                    "source": data.source,
                    "spacing": image.GetSpacing(),
                    "origin": image.GetOrigin(),
                }
            ),
        )


def load(path: Path) -> SliceData:
    """Read a slice file. Raises InputError if the file is something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            images = [sitk.GetImageFromArray(file[name]) for name in ("template", "brain")]
            for image in images:
                image.SetSpacing(about["spacing"])
                image.SetOrigin(about["origin"])
            return SliceData(file["slices"], about["subjects"], file["tuning"], Template(*images), about["source"])
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not a slice file: make one with `medinpaint train prepare`.") from error
