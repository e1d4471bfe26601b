"""`medinpaint benchmark`: time, memory and quality of runs on this computer, in holes where the truth is known.

The scan is the healthy sample. Every run is a new process, so the measurements include its start and its peak memory.
The reference is the procedure of the study, `medinpaint run --preset study`, in one of the holes.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from .. import __version__
from ..errors import InputError
from ..models.registry import find_model
from ..report.measures import brain_range, psnr
from ..resources import resources_folder
from ..settings import Settings
from ..space.resampling import to_matrix
from ..space.template import Template
from ..volumes.image import affine, like
from ..volumes.read import read_image
from ..volumes.write import check_writable, replacing, write_image
from .fills.models import STUDY, find_models
from .holes.cases import empty_hole
from .holes.subjects import Subject, read_subject
from .tables.benchmark import case_key, case_rows, change_rows
from .tables.text import table

SAMPLE = "HealthyHead_T1.nii.gz"
CENTRE, RADIUS = (38.0, 60.0, 48.0), 8.0  # of the holes, voxels of the model grid (x, y, z)
REACH = 0.8  # slices above and below a voxel of the hole that it touches, about
THINNEST = 0.1  # half the height of the thinnest hole, in slices
# Runs a command and prints its CPU seconds and its peak memory. It is a separate process, because Linux counts the
# memory of the parent at the start of a child in the peak of the child.
LAUNCHER = """
import subprocess, sys
code = subprocess.call(sys.argv[1:])
try:
    from resource import RUSAGE_CHILDREN, getrusage
    usage = getrusage(RUSAGE_CHILDREN)
    print([round(usage.ru_utime + usage.ru_stime, 3), usage.ru_maxrss])
except ImportError:
    print("[null, null]")
sys.exit(code)
"""


def run(args: Namespace) -> None:
    """Run the command. Raises InputError if it cannot be done."""
    if args.output:
        check_writable(args.output, (".json",))
    earlier = _read_earlier(args.against) if args.against else None
    models = find_models(args.models)
    template = models[0].template()
    largest = template.image.GetSize()[2]
    holes = sorted({*args.holes, *([args.reference_slices] if args.reference_slices else [])})
    if args.reference_slices < 0 or not 1 <= holes[0] <= holes[-1] <= largest:
        raise InputError(f"A hole can touch 1 to {largest} slices: change --holes or --reference-slices.")
    study = find_model(Settings.preset(STUDY).model) if args.reference_slices else None
    devices = _devices(args.device)
    subject = read_subject(resources_folder() / "SampleData" / SAMPLE, template)
    voxels = {count: cylinder(subject, template, count) for count in holes}
    runs = [(model.name, ["--model", str(model.folder)], count) for model in models for count in holes]
    if study:
        options = ["--preset", STUDY, "--model", str(study.folder)]
        runs.append((f"{study.name} {STUDY}", options, args.reference_slices))
    cases = []
    for device in devices:
        for name, options, count in runs:
            print(f"{name}, {device}, a hole of about {count} slices ...", flush=True)
            measured = measure(subject, voxels[count], [*options, "--device", device])
            cases.append({"model": name, "device": device, "hole": count, **measured})
    result = {"medinpaint": __version__, "machine": machine(), "cases": cases}
    print(f"\n{table(case_rows(cases))}")
    if study:
        procedure = [{**case, "model": models[0].name} for case in cases if case["model"] == f"{study.name} {STUDY}"]
        print(f"\nThe study's procedure -> now (study / now):\n{table(change_rows(procedure, cases))}")
    if earlier:
        print(f"\nEarlier -> now (earlier / now):\n{table(change_rows(earlier['cases'], cases))}")
    if args.output:
        with replacing(args.output) as temporary:
            temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def cylinder(subject: Subject, template: Template, count: int) -> NDArray[np.bool_]:
    """A connected hole, bool (z, y, x): a cylinder upright in model space that touches about `count` model slices.

    A hole of 1 slice is a row of voxels, because the slices of the sample are oblique to the slices of the model.
    """
    to_model = np.linalg.inv(to_matrix(subject.alignment.transform) @ affine(template.image)) @ affine(subject.scan)
    voxels = np.argwhere(subject.brain)
    centre = np.array(CENTRE) - (0, 0, 0.5 * (count % 2 == 0))  # for an odd count, the centre is a slice
    x, y, z = (voxels[:, ::-1] @ to_model[:3, :3].T + to_model[:3, 3] - centre).T
    half = max(0.5 * count - REACH, THINNEST)
    hole = np.zeros_like(subject.brain)
    hole[tuple(voxels[(np.hypot(x, y) < RADIUS) & (np.abs(z) < half)].T)] = True
    pieces, _ = ndimage.label(hole)
    return pieces == 1 + np.bincount(pieces[hole])[1:].argmax()


def measure(subject: Subject, hole: NDArray[np.bool_], options: Sequence[str]) -> dict:
    """Run `medinpaint run` with these options on the subject with an empty hole, bool (z, y, x), and measure it.

    Returns plain JSON types:
        slices: model slices that the hole touches.
        seconds: by stage; "starting" is the time before the work, "writing" the time after it.
        slices_per_second: of the whole run.
        steps_per_second: steps of the search times slices.
        core_seconds: of all cores together; None if the system does not report it.
        peak_mib: peak memory; None if the system does not report it.
        psnr: dB, in the hole.

    Raises InputError if the run fails.
    """
    with tempfile.TemporaryDirectory() as name:
        scan, mask, output, report = (Path(name) / file for file in ("t1.nii", "m.nii", "out.nii", "report.json"))
        write_image(empty_hole(subject.scan, hole), scan)
        write_image(like(subject.scan, hole.astype(np.uint8)), mask)
        command = [sys.executable, "-m", "MedInpaintLib", "run", *map(str, (scan, mask, output))]
        starting, wall, core_seconds, peak = _run_timed(
            [*command, *options, "--report", str(report), "--progress", "json"]
        )
        run_report = json.loads(report.read_text(encoding="utf-8"))
        quality = _psnr(subject, hole, read_image(output))
    stages = {stage: run_report["seconds"][stage] for stage in ("reading", "aligning", "optimising", "blending")}
    writing = wall - starting - run_report["seconds"]["total"]
    seconds = {"starting": starting, **stages, "writing": writing, "all": wall}
    return {
        "slices": run_report["slices"],
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "slices_per_second": round(run_report["slices"] / wall, 3),
        "steps_per_second": round(run_report["search"]["iterations"] * run_report["slices"] / stages["optimising"], 1),
        "core_seconds": core_seconds,
        "peak_mib": peak,
        "psnr": quality,
    }


def machine() -> dict:
    """What matters for the speed of this computer, without its name."""
    import torch

    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _run_timed(command: Sequence[str]) -> tuple[float, float, float | None, float | None]:
    """Run a command that reports its progress as JSON lines, and measure it.

    Returns the seconds before the first line, the seconds in total, the seconds of all cores together and the peak of
    resident memory (MiB). The last two are None if the system does not report them. Raises InputError if the command
    fails.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        started, starting, line = time.perf_counter(), 0.0, ""
        launcher = [sys.executable, "-c", LAUNCHER, *command]
        with subprocess.Popen(launcher, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            for line in process.stdout:
                if not starting and '"progress"' in line:
                    starting = time.perf_counter() - started
        wall = time.perf_counter() - started
        if process.returncode:
            errors.seek(0)
            messages = errors.read().strip().splitlines() or ["without a message"]
            raise InputError(f"A measured run failed: {messages[-1].removeprefix('medinpaint: ')}")
    core_seconds, peak = json.loads(line)
    if peak is not None:
        peak = round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)  # macOS reports bytes, others KiB
    return starting, wall, core_seconds, peak


def _psnr(subject: Subject, hole: NDArray[np.bool_], fill: sitk.Image) -> float:
    truth, filled = (sitk.GetArrayFromImage(image).astype(np.float32) for image in (subject.scan, fill))
    return round(psnr(truth, filled, hole, brain_range(truth, subject.brain)), 2)


def _devices(name: str) -> list[str]:
    """The devices to measure: the device of --device; for auto, the CPU and also CUDA if it is available."""
    import torch

    if name != "auto":
        from ..search.device import choose_device

        return [choose_device(name).type]
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def _read_earlier(path: Path) -> dict:
    """Read the results of an earlier benchmark. Raises InputError if the file is something else."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        case_rows(result["cases"])
        [case_key(case) for case in result["cases"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{path.name}' holds no measurements of `medinpaint benchmark`: choose another.") from error
    return result
