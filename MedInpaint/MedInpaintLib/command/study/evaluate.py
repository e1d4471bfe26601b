"""The commands `medinpaint evaluate`, `downstream` and `benchmark`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...settings import DEVICES, Settings
from ..console import Console


def run_evaluate(args: argparse.Namespace, console: Console) -> None:
    """Compare fills with the known truth; the options are those of `evaluation.compare`."""
    from ...evaluation.compare import run

    run(args)


def downstream_options(parser: argparse.ArgumentParser) -> None:
    """The options of `medinpaint downstream`."""
    default = Settings()
    parser.add_argument("--scans", nargs="+", type=Path, required=True, metavar="FILE", help="patients' T1w scans")
    parser.add_argument("--lesion-masks", nargs="+", type=Path, required=True, metavar="FILE", help="one for each scan")
    parser.add_argument(
        "--healthy", nargs="+", type=Path, default=[], metavar="FILE", help="scans that get the patients' lesions"
    )
    parser.add_argument("--model", default=default.model, metavar="NAME_OR_FOLDER", help="(default: %(default)s)")
    parser.add_argument("--device", choices=DEVICES, default=default.device, help="(default: %(default)s)")
    parser.add_argument("--seed", metavar="N", type=int, default=default.seed, help="(default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("medinpaint-downstream"), help="folder (default: %(default)s)"
    )


def run_downstream(args: argparse.Namespace, console: Console) -> None:
    """Measure segmentation and registration with and without filling."""
    from ...evaluation.downstream import run

    run(args)


def benchmark_options(parser: argparse.ArgumentParser) -> None:
    """The options of `medinpaint benchmark`."""
    parser.add_argument("--output", metavar="FILE.json", type=Path, help="write the measurements")
    parser.add_argument(
        "--against", metavar="EARLIER.json", type=Path, help="compare with a file that --output wrote earlier"
    )
    parser.add_argument(
        "--models",
        metavar="NAME_OR_FOLDER",
        nargs="+",
        default=[],
        help="the first is compared with the reference (default: the shipped models, the default model first)",
    )
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="where to compute (default: auto, CPU and CUDA if there)"
    )
    parser.add_argument(
        "--holes",
        metavar="N",
        type=int,
        nargs="+",
        default=[1, 4, 16, 64],
        help="approximate numbers of model slices in the holes (default: 1 4 16 64)",
    )
    parser.add_argument(
        "--reference-slices",
        metavar="N",
        type=int,
        default=1,
        help="also measure the procedure of Yeh et al. 2017 (`run --preset study`) in a hole of about N slices; 0: do "
        "not (default: %(default)s)",
    )


def run_benchmark(args: argparse.Namespace, console: Console) -> None:
    """Measure time, memory and quality."""
    from ...evaluation.benchmark import run

    run(args)
