"""`medinpaint train prepare`: from brain-extracted scans to one slice file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ...space.alignment import align
from ...space.intensities import intensity_scale
from ...space.slices import to_model_grid
from ...space.template import Template
from ...volumes.read import read_image
from .data import LEVELS, SliceData, save
from .shape import to_common_shape
from .template import build_template

MIN_QUALITY = 0.6  # of the alignment; scans with less are not saved


def prepare(
    train: Sequence[Path],
    tune: Sequence[Path],
    output: Path,
    source: dict[str, str],
    workers: int = 2,
    report: Callable[[str], None] = print,
) -> None:
    """Build the template from the training scans, align all scans to it, and save their slices in one file.

    Args:
        train, tune: brain-extracted T1w scans, one per subject. The scans to tune on are never used in training.
        output: the slice file (.npz).
        source: name, licence and citation of the data, for the cards of the models.
        workers: number of processes.
        report: called with progress messages.

    Raises InputError if a scan shows the whole head, or if too few of them can be aligned.
    """
    with get_context("spawn").Pool(workers, initializer=_use_single_thread) as pool:
        report("building the template")
        template = build_template(train, pool.imap)
        results = []
        paths = [*train, *tune]
        for path, (brain, quality) in zip(paths, pool.imap(_read_brain, [(p, template) for p in paths]), strict=True):
            report(f"{path.name}: alignment quality {quality:.2f}")
            results.append((brain, quality))
    kept = [i for i, (_, quality) in enumerate(results) if quality >= MIN_QUALITY]
    brains = {i: results[i][0] for i in kept}
    names = {i: paths[i].name.split(".")[0] for i in kept}
    trained, tuned = ([i for i in kept if (i < len(train)) == training] for training in (True, False))
    if not (trained and tuned):
        raise InputError("No scan to train or to tune on was aligned well: check that they are T1w brains.")
    report(f"deforming {len(trained)} brains to one shape")
    shaped, shapes = to_common_shape(np.stack([brains[i] for i in trained]).astype(np.float32) / LEVELS)
    save(
        SliceData(
            (shaped * LEVELS).round().astype(np.uint8),
            shapes,
            np.stack([brains[i] for i in tuned]),
            [names[i] for i in trained],
            [names[i] for i in tuned],
            template,
            source,
        ),
        output,
    )
    report(f"{len(kept)} of {len(paths)} scans saved to {output}")


def _use_single_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _read_brain(task: tuple[Path, Template]) -> tuple[np.ndarray, float]:
    """One scan on the model grid, uint8 (z, h, w), and the quality of its alignment."""
    path, template = task
    scan = read_image(path)
    values = sitk.GetArrayFromImage(scan).astype(np.float32)
    no_hole = np.zeros(values.shape, bool)
    alignment = align(scan, values, no_hole, template)
    if not alignment.extracted:
        raise InputError(f"{path.name} shows the whole head: train on brain-extracted scans.")
    image, _ = to_model_grid(scan, values, ~no_hole, template.image, alignment.transform)
    image /= intensity_scale(values, alignment.brain)
    return np.clip(np.round(image * LEVELS), 0, 255).astype(np.uint8), alignment.quality
