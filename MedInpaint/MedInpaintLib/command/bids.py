"""The command `medinpaint bids`: a BIDS App."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..settings import Settings
from .console import MODES, Console
from .run import run_options

FAILED = 1  # exit code: some scans were not filled
SETTINGS = {field.name for field in fields(Settings)}


def settings_parser() -> argparse.ArgumentParser:
    """A parser of the settings of `medinpaint run`, without its files."""

    class SettingsAlone(argparse.ArgumentParser):
        def add_argument(self, *names: Any, **options: Any) -> Any:
            name = options.get("dest") or names[0].lstrip("-").replace("-", "_")
            return super().add_argument(*names, **options) if name in SETTINGS else None

    parser = SettingsAlone(add_help=False)
    run_options(parser)
    return parser


def bids_options(parser: argparse.ArgumentParser) -> None:
    """The options of `medinpaint bids` beside the settings: those of BIDS Apps, and those of the workers."""
    parser.add_argument("dataset", metavar="BIDS_DIR", type=Path, help="a BIDS dataset")
    parser.add_argument("output", metavar="OUTPUT_DIR", type=Path, help="folder of the results (BIDS derivatives)")
    parser.add_argument(
        "level",
        choices=("participant", "group"),
        help="participant: fill what is missing; group: a table and a page of all results",
    )
    parser.add_argument("--participant-label", metavar="LABEL", nargs="+", default=[], help="only these participants")
    parser.add_argument("--session-label", metavar="LABEL", nargs="+", default=[], help="only these sessions")
    parser.add_argument(
        "--bids-filter-file",
        metavar="FILE.json",
        type=Path,
        help='entities of the scans and masks, such as {"scan": {"run": 1}, "mask": {"desc": "manual"}}',
    )
    parser.add_argument(
        "--derivatives",
        metavar="NAME=DIR",
        nargs="+",
        default=[],
        help="datasets with the masks (default: BIDS_DIR and its derivatives)",
    )
    parser.add_argument("--suffix", default="T1w", help="the contrast to fill (default: %(default)s)")
    parser.add_argument(
        "--also",
        metavar="SUFFIX",
        nargs="+",
        default=[],
        help="further contrasts of a session, such as T2w FLAIR: filled with the same anatomy if they are there",
    )
    parser.add_argument(
        "--mask-label",
        metavar="LABEL",
        nargs="+",
        default=["lesion", "L", "tumor"],
        help="values of the entity label in the names of masks (default: lesion L tumor)",
    )
    parser.add_argument(
        "--one-mask", action="store_true", help="a participant has one mask for all sessions, in one space"
    )
    parser.add_argument("--uncertainty", action="store_true", help="also write the standard deviation of each fill")
    parser.add_argument("--skip-bids-validation", action="store_true", help="do not check BIDS_DIR first")
    parser.add_argument(
        "--workers", metavar="N", type=int, help="scans at a time (default: what cores and memory allow)"
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="join a running Dask cluster, such as tcp://host:8786")
    parser.add_argument("--slurm", metavar="PARTITION", help="run the workers as jobs of Slurm")
    parser.add_argument("--slurm-memory", metavar="SIZE", default="3GB", help="of a job (default: %(default)s)")
    parser.add_argument("--slurm-time", metavar="TIME", default="08:00:00", help="of a job (default: %(default)s)")
    parser.add_argument(
        "--slurm-option",
        metavar="OPTION",
        action="append",
        default=[],
        help="another option of sbatch, such as --slurm-option=--gres=gpu:1; can be repeated",
    )
    parser.add_argument("--progress", choices=MODES, default="bar", help="(default: %(default)s)")


def run_bids(args: argparse.Namespace, console: Console) -> int:
    """Run one level. Returns 1 if a scan was not filled, else 0."""
    from ..cohort.run import check_dataset, check_packages, run_participants

    check_packages()
    if args.level == "group":
        from ..cohort.report.group import write_group

        failed = write_group(args.output)
        _say(args, console, f"{args.output / 'group_report.html'} and group_lesions.tsv are written")
        return FAILED if failed else 0

    options = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    settings = Settings(**options)
    from ..cohort.find import Request, read_filters
    from ..cohort.workers.cluster import Plan, count_gpus

    request = Request(
        args.dataset,
        args.output,
        args.participant_label,
        args.session_label,
        read_filters(args.bids_filter_file, args.also) if args.bids_filter_file else {},
        dict(map(_named_folder, args.derivatives)),
        args.suffix,
        args.mask_label,
        args.one_mask,
        args.also,
    )
    plan = Plan(
        args.workers,
        args.scheduler,
        args.slurm,
        args.slurm_memory,
        args.slurm_time,
        tuple(args.slurm_option),
        0 if args.scheduler or args.slurm else count_gpus(settings.device),
    )
    if not args.dataset.is_dir():
        raise InputError(f"'{args.dataset}' is no folder: give the folder of a BIDS dataset.")
    if not args.skip_bids_validation and not check_dataset(args.dataset):
        console.warning("The dataset was not checked: run `pip install bids-validator-deno`.")
    counts = run_participants(request, settings, plan, console, args.uncertainty)
    _say(
        args,
        console,
        f"{counts['filled']} scans filled, {counts['present']} there already, {counts['failed']} failed: see the "
        f"pages sub-*.html in {args.output}",
    )
    return FAILED if counts["failed"] else 0


def _say(args: argparse.Namespace, console: Console, sentence: str) -> None:
    with suppress(BrokenPipeError):  # the results are written, whether or not anybody reads this
        console.event("done", output=str(args.output))
        if args.progress == "bar":
            console.close()
            print(sentence)


def _named_folder(text: str) -> tuple[str, Path]:
    """NAME=DIR as a name and a folder; DIR alone has the folder's name."""
    name, equals, folder = text.partition("=")
    path = Path(folder if equals else text)
    name = name if equals else path.resolve().name
    if not name or name == "raw":
        raise InputError(f"'{text}' gives the masks' dataset no name of its own: write NAME=DIR.")
    return name, path
