"""`medinpaint evaluate`: fill holes in healthy scans, compare with the truth, and make tables and pictures.

The folder it writes: cases.csv, one row per case and fill, appended as each is done, from which an interrupted run
goes on; summary.md, made from that table alone; pictures/, a row of pictures per case; fills/, every hole's new
voxels, in the scan's type and the order of array[hole]; experiment.json, what the rows were made with.
"""

from __future__ import annotations

import hashlib
import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..alignment import Template
from ..errors import InputError
from ..files import replacing
from ..image import like, scan_values, spacing_zyx, with_voxels
from ..models import WEIGHTS, find_model
from ..pipeline import Case
from ..settings import DEVICES, Settings
from ..training.prepare import load
from .cases import LESIONS, Hole, Lesions, Subject, check_kinds, cut_out, draw_hole, read_lesions, read_subject, stem
from .fills import Fill, all_fills
from .metrics import brain_range, measure
from .tables import Row, append_row, case_name, read_rows, summary

KINDS = "lesions,ellipsoid4,ellipsoid8,ellipsoid12,ellipsoid16,ellipsoid20"
MARGIN = 15.0  # mm of surroundings in a picture

Plan = Mapping[Path, Sequence[tuple[str, int]]]  # scan -> kinds and indices of its holes


def main_options(parser: ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--scans", nargs="+", type=Path, required=True, metavar="FILE", help="healthy scans")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.npz", help="from `medinpaint train prepare`")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="goes on where a run ended there")
    parser.add_argument("--model", nargs="+", default=[], metavar="NAME", help="names or folders of models")
    parser.add_argument("--holes", default=KINDS, help=f"kinds of holes, with radii in mm (default: {KINDS})")
    parser.add_argument("--lesion-masks", nargs="+", type=Path, default=[], metavar="FILE", help="real lesions")
    parser.add_argument("--lesion-scan", type=Path, metavar="FILE", help="the scan on whose grid these masks are")
    parser.add_argument("--cases-per-scan", type=int, default=1, metavar="N", help="holes of each kind (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the holes and the search (default: 0)")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--quick", action="store_true", help="the first two scans, one hole each: first and last kind")


def run(args: Namespace) -> int:
    """Run the command. Raises InputError if it cannot be done."""
    kinds = args.holes.split(",")
    check_kinds(kinds)
    if LESIONS in kinds and not (args.lesion_masks and args.lesion_scan):
        raise InputError("Lesion-shaped holes need --lesion-masks and --lesion-scan: give both, or other --holes.")
    if args.cases_per_scan < 1 or args.seed < 0:
        raise InputError("--cases-per-scan must be 1 or more, and --seed 0 or more.")
    if len({stem(path) for path in args.scans}) < len(args.scans):
        raise InputError("Two scans have the same file name: rename one of them.")
    plan: Plan = {path: list(product(kinds, range(args.cases_per_scan))) for path in args.scans}
    if args.quick:
        plan = {path: [(kind, 0)] for path, kind in zip(args.scans[:2], (kinds[0], kinds[-1]), strict=False)}

    data = load(args.data)
    settings = Settings(device=args.device, seed=args.seed)
    fills = all_fills(data, args.model, settings)
    _remember(args.output, args.data, args.model, settings)
    carried = any(kind == LESIONS for holes in plan.values() for kind, _ in holes)
    lesions = read_lesions(args.lesion_masks, args.lesion_scan, data.template) if carried else None
    compare(plan, fills, data.template, lesions, args.seed, args.output)
    print((args.output / "summary.md").read_text(encoding="utf-8"))
    return 0


def compare(
    plan: Plan, fills: Mapping[str, Fill], template: Template, lesions: Lesions | None, seed: int, folder: Path
) -> None:
    """Do every case and fill of the plan whose row the folder lacks, then write the summary."""
    from tqdm import tqdm

    table = folder / "cases.csv"
    done = {(row.case, row.fill): row for row in read_rows(table)}
    for name in ("fills", "pictures"):
        (folder / name).mkdir(exist_ok=True)
    with tqdm(total=len(fills) * sum(map(len, plan.values())), unit="fill") as bar:
        for path, holes in plan.items():
            subject = None
            for kind, index in holes:
                name = case_name(stem(path), kind, index)
                missing = [fill for fill in fills if (name, fill) not in done]
                bar.update(len(fills) - len(missing))
                if not missing:
                    continue
                bar.set_description(name)
                subject = subject or read_subject(path, template)
                hole = draw_hole(kind, index, subject, lesions, seed)
                started = time.perf_counter()
                case = cut_out(subject, hole, template)
                preparation = time.perf_counter() - started
                for fill in missing:
                    row, voxels = judge(subject, hole, case, fill, fills[fill], preparation)
                    np.save(_voxels(folder, name, fill), voxels)
                    append_row(table, row)
                    done[name, fill] = row
                    bar.update()
                captions = {fill: f"{fill} {done[name, fill].psnr:.1f} dB" for fill in fills}
                shown = {captions[fill]: np.load(_voxels(folder, name, fill)) for fill in fills}
                draw(folder / "pictures" / f"{name}.png", subject, hole, shown)
    with replacing(folder / "summary.md") as temporary:
        temporary.write_text(summary(read_rows(table)), encoding="utf-8")


def judge(
    subject: Subject, hole: Hole, case: Case, name: str, fill: Fill, preparation: float
) -> tuple[Row, NDArray[np.number]]:
    """Fill the hole, put the result into the scan as the product does, and measure it on the scan's own grid.

    Returns the row and the hole's new voxels, rounded to the scan's type.
    """
    started = time.perf_counter()
    values = fill(case)
    seconds = time.perf_counter() - started
    filled = with_voxels(case.scan, values, case.hole)
    before, after = (sitk.GetArrayFromImage(image) for image in (subject.scan, filled))
    spacing = spacing_zyx(subject.scan)
    truth, result = (scan_values(image, hole.voxels) for image in (subject.scan, filled))
    row = Row(
        scan=subject.name,
        kind=hole.kind,
        index=hole.index,
        shape=hole.shape,
        fill=name,
        hole_ml=float(np.count_nonzero(hole.voxels) * spacing.prod() / 1000),
        quality=case.alignment.quality,
        **measure(truth, result, hole.voxels, subject.brain, spacing),
        preparation=preparation,
        seconds=seconds,
        changed_outside=np.count_nonzero((before != after)[~hole.voxels]),
        same_geometry=int(_geometry(filled) == _geometry(subject.scan)),
        same_type=int(filled.GetPixelID() == subject.scan.GetPixelID()),
    )
    return row, after[hole.voxels]


def draw(path: Path, subject: Subject, hole: Hole, fills: Mapping[str, NDArray[np.number]]) -> None:
    """A row of pictures: the truth, the hole, each fill under its caption; the axial slice with most of the hole.

    Fills are given by their captions as the hole's voxels, in the order of array[hole].
    """
    from matplotlib.figure import Figure

    mask = _upright(like(subject.scan, hole.voxels.astype(np.uint8))) > 0
    plane = int(mask.sum(axis=(1, 2)).argmax())
    sides = sitk.DICOMOrient(subject.scan, "LPS").GetSpacing()[1::-1]  # mm along the picture's rows and columns
    reach = [np.flatnonzero(mask[plane].any(axis=axis)) for axis in (1, 0)]
    half = max(np.ptp(where) * side for where, side in zip(reach, sides, strict=True)) / 2 + MARGIN
    window = tuple(
        slice(max(0, round(where.mean() - half / side)), round(where.mean() + half / side) + 1)
        for where, side in zip(reach, sides, strict=True)
    )
    white = brain_range(scan_values(subject.scan, hole.voxels), subject.brain)
    truth = _upright(subject.scan)[plane]
    pictures = {"truth": truth, "hole": np.where(mask[plane], white, truth)}
    for caption, voxels in fills.items():
        pictures[caption] = _upright(with_voxels(subject.scan, voxels, hole.voxels))[plane]

    figure = Figure(figsize=(2.4 * len(pictures), 2.8), layout="constrained")
    figure.suptitle(f"{subject.name}, {hole.kind} {hole.shape}")
    for axes, (caption, picture) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
        axes.set_title(caption, fontsize=9)
        axes.set_axis_off()
        axes.imshow(picture[window], cmap="gray", vmin=0, vmax=white, aspect=sides[0] / sides[1])
    figure.savefig(path, dpi=110)


def _upright(image: sitk.Image) -> NDArray[np.number]:
    """The voxels with the front of the head at the top of each axial slice and its right at the left."""
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))


def _voxels(folder: Path, case: str, fill: str) -> Path:
    return folder / "fills" / f"{case}_{fill}.npy"


def _geometry(image: sitk.Image) -> tuple:
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


def _remember(folder: Path, data: Path, models: Sequence[str], settings: Settings) -> None:
    """Write down what the rows are made with. Raises InputError if the folder's rows were made with something else."""
    now = {"slices": hashlib.sha256(data.read_bytes()).hexdigest()}
    now |= {key: value for key, value in settings.to_dict().items() if key not in ("model", "device")}
    now |= {f"model {m.name}": m.card["sha256"][WEIGHTS] for m in map(find_model, models)}
    path = folder / "experiment.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    other = ", ".join(sorted(key for key in now.keys() & before.keys() if now[key] != before[key]))
    if other:
        raise InputError(f"'{folder}' has rows of another experiment ({other}): choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(before | now, indent=2) + "\n", encoding="utf-8")
