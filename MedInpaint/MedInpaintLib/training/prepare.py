"""`medinpaint train prepare`: a folder of brain-extracted scans -> one compact file of model-space slices."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import SimpleITK as sitk

from ..alignment import Template, align
from ..errors import InputError
from ..files import read_image, replacing
from ..slices import intensity_scale, to_model_grid
from .template import build_template

LEVELS = 200  # grey levels of model intensity 1 in the file
MIN_QUALITY = 0.6


@dataclass(frozen=True)
class SliceData:
    """Model-space brains, split by subject.

    Attributes:
        slices: uint8 (subjects, z, h, w); divide by LEVELS for model intensities.
        subjects: names of the scans, in the order of the slices.
        tuning: bool (subjects,), True for those never trained on.
        template: of the model space.
        source: the data's name, licence and citation.
    """

    slices: np.ndarray
    subjects: list[str]
    tuning: np.ndarray
    template: Template
    source: dict[str, str]

    def brains(self, tuning: bool) -> np.ndarray:
        """float32 (subjects, z, h, w), model intensities of the training or the tuning subjects."""
        return self.slices[self.tuning == tuning].astype(np.float32) / LEVELS

    def names(self, tuning: bool) -> list[str]:
        """Their names."""
        return [name for name, held in zip(self.subjects, self.tuning, strict=True) if held == tuning]


def prepare(
    train: Sequence[Path],
    tune: Sequence[Path],
    output: Path,
    source: dict[str, str],
    workers: int = 2,
    report: Callable[[str], None] = print,
) -> None:
    """Build the template from the training scans, align all scans to it, slice them and save one file.

    Args:
        train, tune: brain-extracted T1w scans, one a subject; models are never trained on the second.
        output: the slice file (.npz).
        source: name, licence and citation of the data, for the cards of the models trained on it.
        workers: processes.
        report: is told what happens.
    """
    with get_context("spawn").Pool(workers, initializer=_single_thread) as pool:
        report("building the template")
        template = build_template(train, pool.imap)
        results = []
        paths = [*train, *tune]
        for path, (brain, quality) in zip(paths, pool.imap(_brain, [(p, template) for p in paths]), strict=True):
            report(f"{path.name}: alignment quality {quality:.2f}")
            results.append((brain, quality))
    kept = [i for i, (_, quality) in enumerate(results) if quality >= MIN_QUALITY]
    save(
        SliceData(
            np.stack([results[i][0] for i in kept]),
            [paths[i].name.split(".")[0] for i in kept],
            np.array([i >= len(train) for i in kept]),
            template,
            source,
        ),
        output,
    )
    report(f"{len(kept)} of {len(paths)} scans saved to {output}")


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
    """Read a slice file. Raises InputError if it is none."""
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


def _single_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _brain(task: tuple[Path, Template]) -> tuple[np.ndarray, float]:
    """One scan on the model grid (uint8) and its alignment quality."""
    path, template = task
    scan = read_image(path)
    values = sitk.GetArrayFromImage(scan).astype(np.float32)
    nothing = np.zeros(values.shape, bool)
    alignment = align(scan, values, nothing, template)
    if not alignment.extracted:
        raise InputError(f"{path.name} shows the whole head: train on brain-extracted scans.")
    image, _ = to_model_grid(scan, values, ~nothing, template, alignment.transform)
    image /= intensity_scale(values, alignment.brain)
    return np.clip(np.round(image * LEVELS), 0, 255).astype(np.uint8), alignment.quality
