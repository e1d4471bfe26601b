"""The command `medinpaint`. Its help needs no SimpleITK, scipy or torch: they are imported when there is work."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..settings import DEVICES, Settings
from .console import Console


def _evaluate(args: argparse.Namespace, console: Console) -> None:
    from ..evaluation.compare import run

    run(args)


def _downstream_options(parser: argparse.ArgumentParser) -> None:
    default = Settings()
    parser.add_argument("--scans", nargs="+", type=Path, required=True, metavar="FILE", help="patients' T1w scans")
    parser.add_argument("--lesion-masks", nargs="+", type=Path, required=True, metavar="FILE", help="one for each scan")
    parser.add_argument(
        "--healthy", nargs="+", type=Path, default=[], metavar="FILE", help="scans that are given the patients' lesions"
    )
    parser.add_argument("--model", default=default.model, metavar="NAME_OR_FOLDER", help="(default: %(default)s)")
    parser.add_argument("--device", choices=DEVICES, default=default.device, help="(default: %(default)s)")
    parser.add_argument("--seed", metavar="N", type=int, default=default.seed, help="(default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("medinpaint-downstream"), help="folder (default: %(default)s)"
    )


def _downstream(args: argparse.Namespace, console: Console) -> None:
    from ..evaluation.downstream import run

    run(args)


def _benchmark_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE.json", type=Path, help="write the measurements")
    parser.add_argument("--against", metavar="EARLIER.json", type=Path, help="compare with what --output wrote earlier")
    parser.add_argument(
        "--models",
        metavar="NAME_OR_FOLDER",
        nargs="+",
        default=["vae3", "vae7", "gan3", "gan7"],
        help="the first is compared with the reference (default: the shipped models, vae3 first)",
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
        help="model slices that a hole touches, about (default: 1 4 16 64)",
    )
    parser.add_argument(
        "--reference-slices",
        metavar="N",
        type=int,
        default=1,
        help="compare with the procedure of Yeh et al. 2017 on a hole of about N slices, minutes each; 0: do not "
        "(default: %(default)s)",
    )


def _benchmark(args: argparse.Namespace, console: Console) -> None:
    from ..evaluation.benchmark import run

    run(args)
