"""The parser and the exit codes of `medinpaint`.

Its help needs no numpy, SimpleITK, scipy or torch: each command imports them when its work starts.
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from .. import __version__
from ..errors import Cancelled, InputError
from .bids import bids_options, run_bids, settings_parser
from .console import Console
from .run import list_models, run_demo, run_inpaint, run_options
from .study.evaluate import benchmark_options, downstream_options, run_benchmark, run_downstream, run_evaluate
from .study.train import (
    linear_options,
    prepare_options,
    run_prepare,
    train_gan,
    train_linear,
    train_vae,
    training_options,
)

DONE, WRONG_INPUT, CANCELLED = 0, 2, 130
END_SIGNALS = signal.SIGINT, signal.SIGTERM


def program() -> int:
    """`main` in a process with few garbage collections, which saves half a second.

    Loading torch creates 160,000 objects that stay. Python would search them for garbage again and again.
    """
    gc.set_threshold(100_000)
    code = main()
    gc.freeze()
    return code


def bids_app() -> int:
    """`medinpaint-bids`: `medinpaint bids` under a name of its own, as containers of BIDS Apps want it."""
    return main(["bids", *sys.argv[1:]])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 some scans failed, 2 wrong usage or input, 130 cancelled."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    console = Console()
    try:
        with _interruptible():
            args = _parser(arguments).parse_args(arguments)
            console = Console(getattr(args, "progress", "none"))
            return args.command(args, console) or DONE
    except InputError as error:
        console.error(str(error))
        return WRONG_INPUT
    except (Cancelled, KeyboardInterrupt, BrokenPipeError):  # BrokenPipeError: the reader of the progress is gone
        return CANCELLED
    finally:
        console.close()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT (Ctrl-C) and SIGTERM raise KeyboardInterrupt once.

    Further signals are ignored, so that they do not disturb the removal of temporary files.
    """

    def interrupt(number: int, frame: object) -> NoReturn:
        for each in END_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    earlier = {number: signal.signal(number, interrupt) for number in END_SIGNALS}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class _Parser(argparse.ArgumentParser):
    """An argument parser that reports wrong usage like other wrong input: in one sentence."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:]}: see `{self.prog} --help`.")


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="medinpaint",
        description="Fill lesions in T1-weighted brain MRI with healthy-looking tissue. For research use.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, text: str, run: Callable[[argparse.Namespace, Console], int | None], group=commands, parents=()
    ) -> argparse.ArgumentParser:
        added = group.add_parser(name, help=text, description=text, allow_abbrev=False, parents=parents)
        added.set_defaults(command=run)
        return added

    run_options(command("run", "Fill the lesion of one scan.", run_inpaint))
    bids = command("bids", "Fill the lesions of a BIDS dataset.", run_bids, parents=[settings_parser()])
    bids_options(bids)
    demo = command("demo", "Fill the lesions of a real scan, and a hole of known content in a healthy one.", run_demo)
    demo.add_argument("--output", type=Path, default=Path("medinpaint-demo"), help="folder (default: %(default)s)")
    demo.set_defaults(progress="bar")
    command("models", "List the shipped models.", list_models)

    train = commands.add_parser("train", help="Train a model.", description="Train a model.", allow_abbrev=False)
    steps = train.add_subparsers(metavar="STEP", required=True)
    prepare_options(command("prepare", "Align and slice brain-extracted scans.", run_prepare, steps))
    linear_options(command("linear", "Write the linear model, which needs no training.", train_linear, steps))
    vae = command("vae", "Train a variational autoencoder.", train_vae, steps)
    training_options(vae)
    vae.add_argument("--kl-weight", metavar="X", type=float, help="weight of the Kullback-Leibler term")
    training_options(command("gan", "Train a generative adversarial network.", train_gan, steps))

    evaluate = command("evaluate", "Measure fills against known truth.", run_evaluate)
    if arguments[:1] == ["evaluate"]:  # the options need imports that would slow down the other commands
        from ..evaluation.compare import main_options

        main_options(evaluate)
    downstream_options(command("downstream", "Measure what filling does for the tools that follow.", run_downstream))
    benchmark_options(command("benchmark", "Measure time, memory and quality on this computer.", run_benchmark))
    return parser
