"""`medinpaint evaluate`: fill holes in healthy scans, compare with the truth, and make tables and pictures.

It writes a folder with these files:
- cases.csv: one row per case and fill, appended when the fill is done. An interrupted run continues from this table.
- summary.md: medians and paired differences, from the table.
- pictures/: every case with its fills.
- fills/: the new voxels of every hole, in the scan's type and the order of array[hole], and the true ones.
- views/: for every case, the slice that the pictures show.
- experiment.json: the settings and the models of the rows.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import InputError
from ..models.folder import Model
from ..settings import DEVICES, Settings
from ..space.case import Case
from ..space.template import Template
from ..volumes.write import replacing
from .downstream_report import SECTION
from .experiment import write_report
from .figures.results import Results
from .figures.views import TRUTH, draw_case, view_of, view_path, voxels_path
from .fills.baselines import Fill, baselines
from .fills.models import STUDY, find_models, model_fills, takes_part
from .holes.cases import BALL, LESIONS, SQUARE, STROKE, Hole, check_kinds, cut_hole, draw_hole, split_kind
from .holes.lesions import Lesions, read_lesions
from .holes.squares import cut_square
from .holes.subjects import Subject, file_list, group, read_subject, stem
from .measures.brats import check_brats
from .measures.measure_fill import measure_fill
from .measures.row import Row, case_name
from .measures.tissue import white_matter
from .tables.rows import append_row, read_rows
from .tables.summary import summary

KINDS = (
    "lesions,lesions-tight,lesions-generous,ellipsoid4,ellipsoid8,ellipsoid12,ellipsoid20,ball5,ball7,ball10,stroke,"
    "square12,square25,square50"
)
Plan = Mapping[Path, Sequence[tuple[str, int]]]  # scan -> kinds and indices of its holes


def main_options(parser: ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--scans", nargs="+", type=Path, required=True, metavar="FILE", help="healthy scans")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="an interrupted run continues")
    parser.add_argument(
        "--model", nargs="+", default=[], metavar="NAME", help="names or folders of models (default: the shipped ones)"
    )
    parser.add_argument(
        "--holes",
        default=KINDS,
        metavar="KINDS",
        help="lesions, stroke, ellipsoids and balls in white matter with radii in mm, each perhaps with -tight, "
        f"-generous or -zero, squares in one slice with sides in percent of its width (default: {KINDS})",
    )
    parser.add_argument(
        "--ablations",
        metavar="KINDS",
        help="holes that each model also fills without one of its parts at a time, or none (default: squares)",
    )
    parser.add_argument("--lesion-masks", nargs="+", type=Path, default=[], metavar="FILE", help="real lesions")
    parser.add_argument("--stroke-masks", nargs="+", type=Path, default=[], metavar="FILE", help="real strokes")
    parser.add_argument("--lesion-scan", type=Path, metavar="FILE", help="a scan in the space of these masks")
    parser.add_argument("--cases-per-scan", type=int, default=1, metavar="N", help="holes of each kind (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the holes and the search (default: 0)")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--brats-metrics", action="store_true", help="add the BraTS inpainting challenge's figures")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write Experiment.md and its Figures there")
    parser.add_argument(
        "--downstream", type=Path, metavar="FOLDER", help="of `medinpaint downstream`: its section goes into the report"
    )
    parser.add_argument("--quick", action="store_true", help="the first two scans, one hole each: first and last kind")


def run(args: Namespace) -> int:
    """Run the command. Raises InputError if it cannot be done."""
    kinds = args.holes.split(",")
    check_kinds(kinds)
    ablated = _ablated(args.ablations, kinds)
    shapes = {split_kind(kind)[0] for kind in kinds}
    paths = {LESIONS: args.lesion_masks, STROKE: args.stroke_masks}
    for shape, files in paths.items():
        if shape in shapes and not (files and args.lesion_scan):
            raise InputError(f"Holes of the kind '{shape}' need masks and --lesion-scan: give both, or other --holes.")
    if args.downstream and not (args.downstream / SECTION).exists():
        raise InputError(f"'{args.downstream.name}' holds no {SECTION}: give the folder of `medinpaint downstream`.")
    if args.cases_per_scan < 1 or args.seed < 0:
        raise InputError("--cases-per-scan must be 1 or more, and --seed 0 or more.")
    if len({(group(path), stem(path)) for path in args.scans}) < len(args.scans):
        raise InputError("Two scans have the same file name and folder name: rename one of them.")
    if args.brats_metrics:
        check_brats()
    plan: Plan = {path: list(product(kinds, range(args.cases_per_scan))) for path in args.scans}
    if args.quick:
        plan = {path: [(kind, 0)] for path, kind in zip(args.scans[:2], (kinds[0], kinds[-1]), strict=False)}

    models = find_models(args.model)
    template = models[0].template()
    of_models = model_fills(models, template, args.device, args.seed)
    common = baselines()
    fills = {
        kind: common | {name: fill for name, fill in of_models.items() if takes_part(name, kind, kind in ablated)}
        for kind in kinds
    }
    commands = _save_inputs(args.output, models, args.seed, args.brats_metrics, command_line(args))
    masks = {shape: read_lesions(paths[shape], args.lesion_scan, template) for shape in paths if shape in shapes}
    compare(plan, fills, template, masks, args.seed, args.output, args.brats_metrics)

    models.sort(key=lambda model: (model.card["kind"] == "linear", model.card["kind"], model.card["kernel"] or 0))
    results = Results(args.output, read_rows(args.output / "cases.csv"), models)
    if args.report:
        write_report(results, commands, args.report, args.downstream)
    text = summary(results.rows, results.cards)
    with replacing(args.output / "summary.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    return 0


def command_line(args: Namespace) -> str:
    """The command without the paths of this computer, for the report."""
    options = {
        "scans": file_list(args.scans),
        "model": " ".join(Path(name).name for name in args.model),
        "holes": args.holes if args.holes != KINDS else "",
        "ablations": args.ablations,
        "lesion-masks": file_list(args.lesion_masks),
        "stroke-masks": file_list(args.stroke_masks),
        "lesion-scan": file_list([args.lesion_scan] if args.lesion_scan else []),
        "cases-per-scan": args.cases_per_scan if args.cases_per_scan > 1 else "",
        "seed": args.seed or "",
        "output": args.output.name,
        "report": args.report.name if args.report else "",
        "downstream": args.downstream.name if args.downstream else "",
    }
    words = [f"--{name} {value}" for name, value in options.items() if value]
    words += [f"--{name}" for name in ("brats-metrics", "quick") if vars(args)[name.replace("-", "_")]]
    return " \\\n    ".join(("medinpaint evaluate", *words))


def compare(
    plan: Plan,
    fills: Mapping[str, Mapping[str, Fill]],
    template: Template,
    masks: Mapping[str, Lesions],
    seed: int,
    folder: Path,
    brats: bool = False,
) -> None:
    """Make and measure the fills of the plan that have no row in the folder's table yet.

    Args:
        plan: the kinds and indices of the holes in each scan.
        fills: by the kind of hole, then by the name of the fill.
        template: of the model space.
        masks: the real lesions of the kinds "lesions" and "stroke".
        seed: of the holes.
        folder: the output folder.
        brats: also take the measurements of the BraTS challenge.
    """
    from tqdm import tqdm

    table = folder / "cases.csv"
    done = {(row.case, row.fill): row for row in read_rows(table)}
    for name in ("fills", "pictures", "views"):
        (folder / name).mkdir(exist_ok=True)
    with tqdm(total=sum(len(fills[kind]) for holes in plan.values() for kind, _ in holes), unit="fill") as bar:
        for path, holes in plan.items():
            subject = tissue = None
            for kind, index in holes:
                name = case_name(group(path), stem(path), kind, index)
                missing = [fill for fill in fills[kind] if (name, fill) not in done]
                bar.update(len(fills[kind]) - len(missing))
                if not missing:
                    continue
                bar.set_description(name)
                if subject is None:
                    subject = read_subject(path, template)
                    balls = any(split_kind(other)[0] == BALL for other, _ in holes)
                    tissue = white_matter(subject.scan, subject.brain) if balls else subject.brain
                started = time.perf_counter()
                part, hole, case = set_up(kind, index, subject, masks, tissue, template, seed)
                preparation = time.perf_counter() - started
                for fill in missing:
                    row, voxels = measure_fill(part, hole, case, fill, fills[kind][fill], preparation, brats)
                    np.save(voxels_path(folder, name, fill), voxels)
                    append_row(table, row)
                    done[name, fill] = row
                    bar.update()
                _save_case(folder, part, hole, {fill: done[name, fill] for fill in fills[kind]})


def set_up(
    kind: str,
    index: int,
    subject: Subject,
    masks: Mapping[str, Lesions],
    white_matter: NDArray[np.bool_],
    template: Template,
    seed: int,
) -> tuple[Subject, Hole, Case]:
    """The scan that is the truth (one slice of it for a square), the hole in it, and the case that a fill sees."""
    if kind.startswith(SQUARE):
        return cut_square(kind, index, subject, template, seed)
    hole = draw_hole(kind, index, subject, masks, white_matter, seed)
    return subject, hole, cut_hole(subject, hole, template, seed)


def _save_case(folder: Path, part: Subject, hole: Hole, rows: Mapping[str, Row]) -> None:
    """Write the truth and the view of a case, and a picture of its fills, given as the rows by the fills' names."""
    name = next(iter(rows.values())).case
    np.save(voxels_path(folder, name, TRUTH), sitk.GetArrayViewFromImage(part.scan)[hole.voxels])
    view = view_of(part, hole)
    view.save(view_path(folder, name))
    pictures = {f"{fill}  {row.psnr:.1f} dB": np.load(voxels_path(folder, name, fill)) for fill, row in rows.items()}
    title = " ".join((part.group, part.name, hole.kind, hole.shape))
    draw_case(folder / "pictures" / f"{name}.png", view, title, pictures)


def _ablated(given: str | None, kinds: Sequence[str]) -> list[str]:
    """The kinds of holes that the ablations fill."""
    if given is None:
        return [kind for kind in kinds if kind.startswith(SQUARE)]
    ablated = [] if given == "none" else given.split(",")
    unknown = [kind for kind in ablated if kind not in kinds]
    if unknown:
        raise InputError(f"--ablations names '{unknown[0]}', which is not among --holes: give some of those, or none.")
    return ablated


def _save_inputs(folder: Path, models: Sequence[Model], seed: int, brats: bool, command: str) -> list[str]:
    """Write experiment.json, and return the commands that the folder has seen, this one the last.

    Raises InputError if the rows in the folder are of other settings or models.
    """
    now: dict = {"seed": seed, "brats_metrics": brats}
    for name, settings in (("default", Settings()), (STUDY, Settings.preset(STUDY))):
        of_each_fill = ("model", "device", "seed")
        now[f"{name} settings"] = {k: value for k, value in settings.to_dict().items() if k not in of_each_fill}
    now |= {f"model {model.name}": model.card["sha256"] for model in models}
    path = folder / "experiment.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    changed = ", ".join(sorted(key for key in now.keys() & before.keys() if now[key] != before[key]))
    if changed:
        raise InputError(f"'{folder}' has rows of another experiment ({changed}): choose another folder.")
    commands = [*(other for other in before.get("commands", []) if other != command), command]
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(before | now | {"commands": commands}, indent=2) + "\n", encoding="utf-8")
    return commands
