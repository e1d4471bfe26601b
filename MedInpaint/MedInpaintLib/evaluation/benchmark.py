"""`medinpaint benchmark`: seconds, memory and quality of runs on this computer, with holes of known content.

The scan is the shipped healthy head. Every run is a process of its own, so that its start and its peak of memory count.
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
from ..space.case import prepare_case
from ..space.resampling import to_matrix
from ..space.template import Template
from ..volumes.image import affine, like, with_voxels
from ..volumes.read import read_image
from ..volumes.write import check_writable, replacing, write_image
from .holes.cases import Subject, read_subject
from .tables.text import table

SAMPLE = "HealthyHead_T1.nii.gz"
CENTRE, RADIUS = (38.0, 60.0, 48.0), 8.0  # of the holes: voxels of the model's grid (x, y, z), and voxels
REACH = 0.8  # slices above and below a voxel of the hole that it touches, about
THINNEST = 0.1  # half the height of the thinnest hole, in slices
# Runs a command and prints its seconds of all cores and its peak of memory. The benchmark does not run it itself: Linux
# counts what a process held when it started another towards the other's peak.
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
STAGES = ("starting", "reading", "aligning", "optimising", "blending", "writing", "all")


def run(args: Namespace) -> None:
    """Do what the command line says, print tables and write the measurements. Raises InputError."""
    if args.output:
        check_writable(args.output, (".json",))
    earlier = _earlier(args.against) if args.against else None
    models = [find_model(name) for name in args.models]
    template = models[0].template()
    largest = template.image.GetSize()[2]
    holes = sorted({*args.holes, *([args.reference_slices] if args.reference_slices else [])})
    if args.reference_slices < 0 or not 1 <= holes[0] <= holes[-1] <= largest:
        raise InputError(f"A hole can touch 1 to {largest} slices: change --holes or --reference-slices.")
    devices = _devices(args.device)
    subject = read_subject(resources_folder() / "SampleData" / SAMPLE, template)
    voxels = {count: cylinder(subject, template, count) for count in holes}
    cases, references = [], []
    for device in devices:
        for model in models:
            for count in holes:
                print(f"{model.name}, {device}, a hole of about {count} slices ...", flush=True)
                measured = measure(subject, voxels[count], str(model.folder), device)
                cases.append({"model": model.name, "device": device, "hole": count, **measured})
    for device in devices if args.reference_slices else []:
        print(f"The study's procedure, {models[0].name}, {device}: minutes a slice ...", flush=True)
        wanted = (models[0].name, device, args.reference_slices)
        product = next(case for case in cases if _key(case) == wanted)
        references.append(compare(subject, voxels[args.reference_slices], product, models[0].folder))
    result = {"medinpaint": __version__, "machine": machine(), "cases": cases, "references": references}
    print(f"\n{table(rows(cases))}")
    if references:
        print(f"\n{table(reference_rows(references))}")
    if earlier:
        print(f"\nEarlier -> now, and how many times less it is now:\n{table(against(earlier['cases'], cases))}")
    if args.output:
        with replacing(args.output) as temporary:
            temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def cylinder(subject: Subject, template: Template, count: int) -> NDArray[np.bool_]:
    """A hole, bool (z, y, x), upright in the model's space, in one piece, that touches about this many of its slices.

    A hole of 1 slice is a row of voxels: the sample's own slices are at an angle to the model's.
    """
    to_model = np.linalg.inv(to_matrix(subject.alignment.transform) @ affine(template.image)) @ affine(subject.scan)
    voxels = np.argwhere(subject.brain)
    centre = np.array(CENTRE) - (0, 0, 0.5 * (count % 2 == 0))  # an odd number lies about a slice
    x, y, z = (voxels[:, ::-1] @ to_model[:3, :3].T + to_model[:3, 3] - centre).T
    half = max(0.5 * count - REACH, THINNEST)
    hole = np.zeros_like(subject.brain)
    hole[tuple(voxels[(np.hypot(x, y) < RADIUS) & (np.abs(z) < half)].T)] = True
    pieces, _ = ndimage.label(hole)
    return pieces == 1 + np.bincount(pieces[hole])[1:].argmax()


def measure(subject: Subject, hole: NDArray[np.bool_], model: str, device: str) -> dict:
    """Run the command on the subject without what is in the hole, bool (z, y, x), and measure, plain JSON types.

    Returns slices (that the hole touches), seconds (by stage: starting is until the work begins, writing is what comes
    after it), slices_a_second, steps_a_second (of the search, times slices), core_seconds (of all cores together) and
    peak_mib (both None where the system does not tell) and psnr (dB, in the hole). Raises InputError if the run fails.
    """
    with tempfile.TemporaryDirectory() as name:
        scan, mask, output, report = (Path(name) / file for file in ("t1.nii", "m.nii", "out.nii", "report.json"))
        write_image(_emptied(subject, hole), scan)
        write_image(like(subject.scan, hole.astype(np.uint8)), mask)
        command = [sys.executable, "-m", "MedInpaintLib", "run", *map(str, (scan, mask, output))]
        starting, wall, spent, peak = _timed(
            [*command, "--model", model, "--device", device, "--report", str(report), "--progress", "json"]
        )
        told = json.loads(report.read_text(encoding="utf-8"))
        quality = _psnr(subject, hole, read_image(output))
    stages = {stage: told["seconds"][stage] for stage in ("reading", "aligning", "optimising", "blending")}
    writing = wall - starting - told["seconds"]["total"]
    seconds = {"starting": starting, **stages, "writing": writing, "all": wall}
    return {
        "slices": told["slices"],
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "slices_a_second": round(told["slices"] / wall, 3),
        "steps_a_second": round(told["search"]["iterations"] * told["slices"] / stages["optimising"], 1),
        "core_seconds": spent,
        "peak_mib": peak,
        "psnr": quality,
    }


def compare(subject: Subject, hole: NDArray[np.bool_], product: dict, model: Path) -> dict:
    """Fill the hole, bool (z, y, x), by the study's procedure and set it beside the product's measured run.

    Returns model, device, hole, slices; seconds_a_slice and psnr of either; and how many times as long the procedure
    takes for a slice as the product with all (`times_all`) and as its search and blending alone (`times_core`).
    """
    from ..search.device import choose_device
    from .fills.reference import reference_fill

    found = find_model(str(model))
    case = prepare_case(_emptied(subject, hole), like(subject.scan, hole.astype(np.uint8)), found.template())
    fill = reference_fill(found.network(choose_device(product["device"])), case)
    each, seconds = float(np.mean(fill.seconds)), product["seconds"]
    total = seconds["all"] / product["slices"]
    core = (seconds["optimising"] + seconds["blending"]) / product["slices"]
    return {
        **{key: product[key] for key in ("model", "device", "hole", "slices")},
        "reference": {"seconds_a_slice": round(each, 3), "psnr": _psnr(subject, hole, fill.image)},
        "product": {
            "seconds_a_slice": {"all": round(total, 3), "core": round(core, 3)},
            "psnr": product["psnr"],
        },
        "times_all": round(each / total, 2),
        "times_core": round(each / core, 2),
    }


def machine() -> dict:
    """What of this computer matters for speed; nothing that names it."""
    import torch

    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def rows(cases: Sequence[dict]) -> list[tuple]:
    """The measurements of `measure` as rows of a table, with a heading."""
    heading = ("model", "device", "slices", *(f"{stage} (s)" for stage in STAGES))
    return [(*heading, "slices/s", "steps/s", "cores (s)", "peak (MiB)", "PSNR (dB)")] + [
        (
            _shown(case["model"]),
            case["device"],
            case["slices"],
            *(f"{case['seconds'][stage]:.1f}" for stage in STAGES),
            f"{case['slices_a_second']:.2f}",
            f"{case['steps_a_second']:.0f}",
            *("" if case[key] is None else f"{case[key]:.0f}" for key in ("core_seconds", "peak_mib")),
            f"{case['psnr']:.1f}",
        )
        for case in cases
    ]


def reference_rows(references: Sequence[dict]) -> list[tuple]:
    """The comparisons of `compare` as rows of a table, with a heading."""
    table_rows: list[tuple] = [("model", "device", "slices", "", "s a slice", "times as quick", "PSNR (dB)")]
    for entry in references:
        about, product = (_shown(entry["model"]), entry["device"], entry["slices"]), entry["product"]
        study, each, quality = entry["reference"], product["seconds_a_slice"], f"{product['psnr']:.1f}"
        table_rows += [
            (*about, "the study's procedure", f"{study['seconds_a_slice']:.2f}", "", f"{study['psnr']:.1f}"),
            (*about, "MedInpaint, all", f"{each['all']:.2f}", f"{entry['times_all']:.1f}", quality),
            (*about, "MedInpaint, search and blending", f"{each['core']:.2f}", f"{entry['times_core']:.1f}", quality),
        ]
    return table_rows


def against(earlier: Sequence[dict], cases: Sequence[dict]) -> list[tuple]:
    """Rows of a table, with a heading: the cases that both have, side by side, and the ratio earlier / now."""
    before = {_key(case): case for case in earlier}
    heading = ("model", "device", "slices", *(f"{stage} (s)" for stage in STAGES))
    table_rows: list[tuple] = [(*heading, "cores (s)", "peak (MiB)", "PSNR (dB)")]
    for case in cases:
        if other := before.get(_key(case)):
            pairs = [(other["seconds"][stage], case["seconds"][stage], ".1f") for stage in STAGES]
            pairs += [(other[key], case[key], ".0f") for key in ("core_seconds", "peak_mib")]
            quality = f"{other['psnr']:.1f} -> {case['psnr']:.1f}"
            about = (_shown(case["model"]), case["device"], case["slices"])
            table_rows.append((*about, *(_side_by_side(*pair) for pair in pairs), quality))
    return table_rows


def _side_by_side(before: float | None, now: float | None, form: str) -> str:
    if before is None or now is None:
        return ""
    return f"{before:{form}} -> {now:{form}}" + (f" ({before / now:.2f}x)" if now > 0 else "")


def _timed(command: Sequence[str]) -> tuple[float, float, float | None, float | None]:
    """Run a command that tells its progress as JSON lines, and measure it.

    Returns seconds until the first of them, seconds in all, seconds of all cores together and peak MiB of resident
    memory; the last two None where the system does not tell. Raises InputError if the command fails.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        began, starting, line = time.perf_counter(), 0.0, ""
        launcher = [sys.executable, "-c", LAUNCHER, *command]
        with subprocess.Popen(launcher, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            for line in process.stdout:
                if not starting and '"progress"' in line:
                    starting = time.perf_counter() - began
        wall = time.perf_counter() - began
        if process.returncode:
            errors.seek(0)
            said = errors.read().strip().splitlines() or ["it said nothing"]
            raise InputError(f"A measured run failed: {said[-1].removeprefix('medinpaint: ')}")
    spent, peak = json.loads(line)
    if peak is not None:
        peak = round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)  # macOS tells bytes, others KiB
    return starting, wall, spent, peak


def _emptied(subject: Subject, hole: NDArray[np.bool_]) -> sitk.Image:
    """The scan with zeros in the hole: the truth is not given away."""
    return with_voxels(subject.scan, np.zeros(np.count_nonzero(hole)), hole)


def _psnr(subject: Subject, hole: NDArray[np.bool_], fill: sitk.Image) -> float:
    truth, filled = (sitk.GetArrayFromImage(image).astype(np.float32) for image in (subject.scan, fill))
    return round(psnr(truth, filled, hole, brain_range(truth, subject.brain)), 2)


def _devices(name: str) -> list[str]:
    """The devices to measure on: that of --device; for auto the CPU, and CUDA if it is there."""
    import torch

    if name != "auto":
        from ..search.device import choose_device

        return [choose_device(name).type]
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def _earlier(path: Path) -> dict:
    """What an earlier benchmark wrote. Raises InputError if this is none."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        rows(result["cases"])
        [_key(case) for case in result["cases"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{path.name}' holds no measurements of `medinpaint benchmark`: choose another.") from error
    return result


def _key(case: dict) -> tuple:
    return case["model"], case["device"], case["hole"]


def _shown(model: str) -> str:
    return f"{model} (default)" if model == Settings().model else model
