"""The slice file: model-space slices of all subjects, for training."""

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
        training: uint8 (subjects, z, h, w), deformed to one shape; divide by LEVELS for model intensities.
        shapes: float16 (subjects, 2, kz, ky, kx), the knots of these deformations, see `to_common_shape`.
        tuning: uint8 (subjects, z, h, w), not deformed. These subjects are never used in training.
        training_subjects, tuning_subjects: names of the scans.
        template: of the model space.
        source: name, licence and citation of the data.
    """

    training: np.ndarray
    shapes: np.ndarray
    tuning: np.ndarray
    training_subjects: list[str]
    tuning_subjects: list[str]
    template: Template
    source: dict[str, str]


def save(data: SliceData, path: Path) -> None:
    """Write a slice file (.npz)."""
    image = data.template.image
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            training=data.training,
            shapes=data.shapes,
            tuning=data.tuning,
            template=sitk.GetArrayViewFromImage(image),
            brain=sitk.GetArrayViewFromImage(data.template.brain),
            about=json.dumps(
                {
                    "training_subjects": data.training_subjects,
                    "tuning_subjects": data.tuning_subjects,
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
            return SliceData(
                file["training"],
                file["shapes"],
                file["tuning"],
                about["training_subjects"],
                about["tuning_subjects"],
                Template(*images),
                about["source"],
            )
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not a slice file: make one with `medinpaint train prepare`.") from error
