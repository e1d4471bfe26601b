"""Made-up BIDS datasets, an engine that takes no time, and subjects who do harm to their worker."""

import json
import os
import signal
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
import SimpleITK as sitk
from MedInpaintLib.cohort.fill import fill
from MedInpaintLib.models.folder import SHARED, WEIGHTS
from MedInpaintLib.pipeline import Result
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.case import check_input
from MedInpaintLib.volumes.image import like

SIZE = 20
QUICK = Settings(device="cpu", residual=False)
ABOUT = {"Name": "made up", "BIDSVersion": "1.10.0", "Authors": ["A", "B"], "License": "CC0"}


class Listener:
    """Remembers what a run tells."""

    def __init__(self):
        self.warnings, self.events, self.fractions = [], [], []

    def progress(self, fraction, stage, message):
        self.fractions.append(fraction)

    def warning(self, message):
        self.warnings.append(message)

    def event(self, event, **fields):
        self.events.append((event, fields))


def write(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def scan(seed=0):
    image = sitk.GetImageFromArray(np.random.default_rng(seed).integers(100, 900, (SIZE,) * 3).astype(np.int16))
    image.SetSpacing((3.0, 3.0, 3.0))
    return image


def lesion():
    mask = np.zeros((SIZE,) * 3, np.uint8)
    mask[8:11, 9:12, 7:12] = 1
    image = sitk.GetImageFromArray(mask)
    image.CopyInformation(scan())
    return image


def make_dataset(folder):
    """An empty dataset, with a derivative dataset "manual" for the masks."""
    manual = folder / "derivatives" / "manual"
    manual.mkdir(parents=True)
    (folder / "dataset_description.json").write_text(json.dumps(ABOUT), encoding="utf-8")
    about = {**ABOUT, "DatasetType": "derivative", "GeneratedBy": [{"Name": "by hand"}]}
    (manual / "dataset_description.json").write_text(json.dumps(about), encoding="utf-8")
    (folder / "README.md").write_text("A dataset that was made up for a test. " * 8, encoding="utf-8")
    return folder


def add_scan(dataset, stem, suffix="T1w", seed=0, expand=1):
    """A scan such as sub-01_ses-1_run-1, perhaps on a finer grid."""
    path = dataset.joinpath(*_place(stem), f"{stem}_{suffix}.nii.gz")
    write(sitk.Expand(scan(seed), [expand] * 3), path)
    return path


def add_mask(dataset, stem, end="space-orig_label-lesion_mask", pipeline="manual"):
    """A mask of a pipeline, or in the dataset itself if the pipeline is None."""
    root = dataset / "derivatives" / pipeline if pipeline else dataset
    path = root.joinpath(*_place(stem), f"{stem}_{end}.nii.gz")
    write(lesion(), path)
    return path


def add_subject(dataset, stem, seed=0):
    add_scan(dataset, stem, seed=seed)
    add_mask(dataset, stem)


def _place(stem):
    return [part for part in stem.split("_") if part.startswith(("sub-", "ses-"))] + ["anat"]


def engine(images, masks, settings, seconds=0.0):
    """As `inpaint_together`: adds 1000 and the seed to the voxels of the mask, and reports made-up numbers."""
    time.sleep(seconds)
    results = [fill_one(image, mask or masks[0], settings, seconds) for image, mask in zip(images, masks, strict=True)]
    if len(results) > 1:
        for number, result in enumerate(results, start=1):
            moved = {"moved_mm": number - 1.0, "shown_by_others": 0.0}
            result.report["together"] = {"scan": number, "of": len(results), **moved}
    return results


def fill_one(image, mask, settings, seconds=0.0):
    """The part of `engine` for one scan."""
    hole = check_input(image, mask, settings.label, settings.grow)[1]
    values = sitk.GetArrayFromImage(image)
    values[hole] += 1000 + settings.seed
    filled = sitk.GetImageFromArray(values)
    filled.CopyInformation(image)
    lesions = [_measured(image, hole, 10.0 if settings.residual else None)]
    numbers = {"median": 500.0, "mean": 500.0, "sd": 10.0, "percentile_99_5": 900.0}
    levels = [n / 10 for n in range(13)]
    report = {  # as a real one, see test_worker.py
        "lesion": {"volume_ml": lesions[0]["volume_ml"], "count": 1, "outside_brain": 0.0},
        "lesions": lesions,
        "slices": 3,
        "alignment": {"quality": 0.9, "poor": False, "brain_extracted": True, "brain_ml": 1200.0, "reused": False},
        "contrast": {
            "name": "T1",
            "explained": 0.8,
            "straight": True,
            "levels": levels,
            "curve": [900.0 * level for level in levels],
        },
        "search": {"iterations": 40, "loss": {"median": 1.0, "max": 2.0}, "scale": 900.0},
        "intensities": {"ring": numbers, "fill": numbers, "brain": numbers},
        "rim": {"tight": False, "deficit": 0.0, "error": 0.0, "width": 0.0, "lesions": None},
        "seam": 1.1,
        "model": {"name": "stub", "kind": "none", "sha256": dict.fromkeys((WEIGHTS, *SHARED), "0" * 64)},
        "settings": settings.to_dict(),
        "versions": dict.fromkeys(("medinpaint", "python", "torch", "numpy", "scipy", "SimpleITK"), "0"),
        "device": "cpu",
        "seconds": dict.fromkeys(("reading", "aligning", "optimising", "blending", "total"), seconds),
        "warnings": [],
    }
    unsure = like(image, hole.astype(np.float32) * 10) if settings.residual else None
    return Result(filled, unsure, report, hole, generate=lambda: sitk.Cast(image, sitk.sitkFloat32))


def _measured(image, hole, uncertainty):
    index = [int(n) for n in np.argwhere(hole)[0][::-1]]
    volume = np.count_nonzero(hole) * np.prod(image.GetSpacing()) / 1000
    position = list(image.TransformIndexToPhysicalPoint(index))
    means = {"ring": 500.0, "fill": 510.0, "uncertainty": uncertainty, "seam": 1.1}
    return {"volume_ml": float(volume), "index": index, "position_mm": position, **means}


def stub_fill(job, seconds=0.0):
    """A job with the stub of the engine."""
    return fill(job, partial(engine, seconds=seconds))


def harmful_fill(job):
    """As `stub_fill`, but some participants do harm, as their names say."""
    name = job.scan.participant
    if name == "killer":
        with (job.output / "logs" / "deaths").open("a", encoding="utf-8") as file:
            file.write("killed\n")
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "hungry":
        held = []
        for _ in range(60):  # until the nanny ends this process
            held.append(np.ones(50 * 2**20, np.uint8))
            time.sleep(0.05)
    if name == "raising":
        return fill(job, _raise)
    if name == "diskfull":
        import resource

        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # bytes of a file
        try:
            return stub_fill(job)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    return stub_fill(job)


def _raise(images, masks, settings):
    raise ZeroDivisionError("nothing to divide by")


def counted_fill(job, log, seconds=0.0):
    """As `stub_fill`, and each call of the engine leaves a line in a file."""

    def counted(*arguments):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{job.scan.name}\n")
        return engine(*arguments, seconds=seconds)

    return fill(job, counted)


def loading_fill(job, log):
    """A real fill, and each load of a network leaves a line in a file: the number of the process."""
    from MedInpaintLib.models.folder import Model

    real = Model.network

    def network(model, device):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        return real(model, device)

    with patch.object(Model, "network", network):
        return fill(job)


HOARD = []


def hoard(size):
    """Keep memory until this process has this many bytes, and for longer than Dask needs to see it."""
    while psutil.Process().memory_info().rss < size:
        HOARD.append(np.ones(10 * 2**20, np.uint8))
    time.sleep(1)
    return len(HOARD)


def files_under(folder):
    """The files of the results by their paths, without locks and logs."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "logs"
    }
