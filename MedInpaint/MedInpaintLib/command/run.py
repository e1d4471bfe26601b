"""The commands `medinpaint run`, `demo` and `models`."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from ..errors import InputError
from ..settings import BLENDINGS, DEVICES, PRESETS, Settings
from .console import MODES, Console


def run_options(parser: argparse.ArgumentParser) -> None:
    """The options of `medinpaint run`: the fields of Settings and the files."""
    default = Settings()
    parser.add_argument("image", metavar="IMAGE", type=Path, help="T1w brain scan: NIfTI, NRRD, MHA or a DICOM folder")
    parser.add_argument("mask", metavar="MASK", type=Path, help="lesion mask, on any grid in the same space")
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        type=Path,
        help="the filled scan: .nii, .nii.gz, .nrrd or .mha; of a DICOM folder also a new folder for a derived series",
    )
    parser.add_argument(
        "--also",
        metavar=("SCAN", "OUTPUT"),
        nargs="+",
        type=Path,
        action="append",
        default=[],
        help="fill a further scan of the same head with the same anatomy; a third path is its own mask, else MASK "
        "serves; can be repeated; the names of its report and other files end with its number, as in report_2.json",
    )
    parser.add_argument(
        "--series", metavar="UID", help="the series of the DICOM folder by its Series Instance UID, if it holds several"
    )
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        help="settings to begin with; study: slice by slice, Poisson blending, nothing else (Yeh et al. 2017)",
    )
    parser.add_argument("--model", metavar="NAME_OR_FOLDER", help=f"a model (default: {default.model})")
    parser.add_argument("--device", choices=DEVICES, help=f"where to compute (default: {default.device})")
    parser.add_argument("--label", metavar="N", type=int, help="the mask's label to fill (default: all)")
    parser.add_argument(
        "--grow",
        metavar="MM",
        type=float,
        help=f"also fill MM mm around the lesion: its rim is often partly lesion, try 1 (default: {default.grow:g})",
    )
    parser.add_argument(
        "--iterations", metavar="N", type=int, help=f"maximum number of steps (default: {default.iterations})"
    )
    weighting, prior, blending = (parser.add_mutually_exclusive_group() for _ in range(3))
    weighting.add_argument(
        "--window", metavar="N", type=int, help=f"context window in pixels, odd (default: {default.window})"
    )
    weighting.add_argument(
        "--no-weighting", dest="weighting", action="store_const", const=False, help="weight all known pixels equally"
    )
    prior.add_argument(
        "--prior-weight",
        metavar="X",
        type=float,
        help="lambda of the prior loss (default: depends on the kind of model)",
    )
    prior.add_argument("--no-prior", dest="prior", action="store_const", const=False, help="leave the prior loss out")
    blending.add_argument(
        "--blending",
        choices=[b for b in BLENDINGS if b != "none"],
        help="how the fill is joined to the scan: by a smooth correction near the border (matern), or by Poisson's "
        f"equation in the volume (3d) or slice by slice (2d) (default: {default.blending})",
    )
    blending.add_argument(
        "--no-blending", dest="blending", action="store_const", const="none", help="paste the generated slices"
    )
    parser.add_argument(
        "--slicewise",
        action="store_const",
        const=True,
        help="search each slice alone, without deformation and contrast curve",
    )
    parser.add_argument(
        "--no-residual",
        dest="residual",
        action="store_const",
        const=False,
        help="do not continue the residual (scan minus generated slices) from around the hole into it",
    )
    parser.add_argument(
        "--noise",
        action="store_const",
        const=True,
        help="add noise like the scan's to the fill: it looks more natural, and each voxel is less accurate",
    )
    parser.add_argument("--seed", metavar="N", type=int, help=f"seed of the random numbers (default: {default.seed})")
    parser.add_argument("--report", metavar="FILE.json", type=Path, help="write measurements of the run")
    parser.add_argument("--figure", metavar="FILE.png", type=Path, help="write a before-and-after picture")
    parser.add_argument("--generated", metavar="FILE", type=Path, help="write the generated slices, before blending")
    parser.add_argument(
        "--uncertainty", metavar="FILE", type=Path, help="write the fill's standard deviation, in scan intensities"
    )
    parser.add_argument("--progress", choices=MODES, default="bar", help="(default: %(default)s)")


def run_inpaint(args: argparse.Namespace, console: Console) -> None:
    """Fill the lesion of the scan and write the results."""
    options = {field.name: getattr(args, field.name) for field in fields(Settings)}
    given = {name: value for name, value in options.items() if value is not None}
    settings = Settings.preset(args.preset, **given) if args.preset else Settings(**given)
    from .outputs import Further, Outputs, run_files

    if any(len(paths) not in (2, 3) for paths in args.also):
        raise InputError("Each --also takes a scan, its output and perhaps its own mask: give two or three paths.")
    also = [Further(*paths) for paths in args.also]
    outputs = Outputs(args.output, args.report, args.figure, args.generated, args.uncertainty)
    results = run_files(args.image, args.mask, outputs, settings, console, args.series, also)
    with suppress(BrokenPipeError):  # the result is written, whether or not anybody reads this
        console.event("done", output=str(args.output))
        if args.progress == "bar":
            console.close()
            for path, result in zip((args.output, *(each.output for each in also)), results, strict=True):
                volume, count = (result.report["lesion"][key] for key in ("volume_ml", "count"))
                seconds = result.report["seconds"]["total"]
                print(f"{path.name}: {volume:.3g} ml in {count} lesions filled, {seconds:.0f} s")


def run_demo(args: argparse.Namespace, console: Console) -> None:
    """Run the demo."""
    from .demo import demo

    demo(args.output, console)


def list_models(args: argparse.Namespace, console: Console) -> None:
    """Print a table of the shipped models."""
    from ..evaluation.tables.text import table
    from ..models.folder import SHARED, WEIGHTS, models_folder
    from ..models.registry import shipped_models

    rows = [("name", "kind", "kernel", "latent", "size", "epochs", "training", "PSNR of round holes in unseen scans")]
    for model in shipped_models():
        card = model.card
        psnr = card["validation"]["psnr_by_radius"]
        rows.append(
            (
                model.name,
                card["kind"],
                card["kernel"] or "",
                card["latent"],
                f"{(model.folder / WEIGHTS).stat().st_size / 1e6:.1f} MB",
                card["epochs"],
                f"{card['training_minutes']:.0f} min, {card['device']}",
                ", ".join(f"{radius} mm: {value:.1f} dB" for radius, value in psnr.items()),
            )
        )
    print(table(rows))
    shared = [f"{name} ({(models_folder() / name).stat().st_size / 1e6:.1f} MB)" for name in SHARED]
    print(f"They share {' and '.join(shared)}.")
