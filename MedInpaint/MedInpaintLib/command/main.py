"""The command `medinpaint`. Its help needs no SimpleITK, scipy or torch: they are imported when there is work."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from .. import __version__
from ..errors import Cancelled, InputError
from .console import Console
from .evaluate import _benchmark, _benchmark_options, _downstream, _downstream_options, _evaluate
from .run import _demo, _models, _run, _run_options
from .train import _prepare, _prepare_options, _train_gan, _train_vae, _training_options

DONE, WRONG_INPUT, CANCELLED = 0, 2, 130
ENDS = signal.SIGINT, signal.SIGTERM


def program() -> int:
    """`main` in a process of its own, which starts and ends half a second sooner for not looking for garbage in torch.

    Loading torch makes 160,000 objects, all there to stay, which Python would go through again and again.
    """
    gc.set_threshold(100_000)
    code = main()
    gc.freeze()
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 wrong usage or input, 130 cancelled."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    console = Console()
    try:
        with _interruptible():
            args = _parser(arguments).parse_args(arguments)
            console = Console(getattr(args, "progress", "none"))
            args.command(args, console)
            return DONE
    except InputError as error:
        console.error(str(error))
        return WRONG_INPUT
    except (Cancelled, KeyboardInterrupt, BrokenPipeError):  # the last: whoever read the progress is gone
        return CANCELLED
    finally:
        console.close()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C and a polite request to end raise KeyboardInterrupt, once, so that temporary files go in peace."""

    def interrupt(number: int, frame: object) -> NoReturn:
        for each in ENDS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    earlier = {number: signal.signal(number, interrupt) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class _Parser(argparse.ArgumentParser):
    """An argument parser that reports wrong usage as any wrong input is: in one sentence."""

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

    def command(name: str, text: str, run, group=commands) -> argparse.ArgumentParser:
        added = group.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(command=run)
        return added

    _run_options(command("run", "Fill the lesion of one scan.", _run))
    demo = command("demo", "Fill the lesions of a real scan, and a hole of known content in a healthy one.", _demo)
    demo.add_argument("--output", type=Path, default=Path("medinpaint-demo"), help="folder (default: %(default)s)")
    demo.set_defaults(progress="bar")
    command("models", "List the shipped models.", _models)

    train = commands.add_parser("train", help="Train a model.", description="Train a model.", allow_abbrev=False)
    steps = train.add_subparsers(metavar="STEP", required=True)
    _prepare_options(command("prepare", "Align and slice brain-extracted scans.", _prepare, steps))
    vae = command("vae", "Train a variational autoencoder.", _train_vae, steps)
    _training_options(vae)
    vae.add_argument("--kl-weight", metavar="X", type=float, help="weight of the Kullback-Leibler term")
    _training_options(command("gan", "Train a generative adversarial network.", _train_gan, steps))

    evaluate = command("evaluate", "Measure fills against known truth.", _evaluate)
    if arguments[:1] == ["evaluate"]:  # its options come with imports that other commands need not wait for
        from ..evaluation.compare import main_options

        main_options(evaluate)
    _downstream_options(command("downstream", "Measure what filling does for the tools that follow.", _downstream))
    _benchmark_options(command("benchmark", "Measure time, memory and quality on this computer.", _benchmark))
    return parser
