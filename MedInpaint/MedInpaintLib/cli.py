"""The command `medinpaint`. Its help needs no SimpleITK, scipy or torch: they are imported when there is work."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from . import __version__
from .console import MODES, Console, table
from .errors import Cancelled, InputError
from .settings import BLENDINGS, DEVICES, Settings

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
        from .evaluation.compare import main_options

        main_options(evaluate)
    _downstream_options(command("downstream", "Measure what filling does for the tools that follow.", _downstream))
    _benchmark_options(command("benchmark", "Measure time, memory and quality on this computer.", _benchmark))
    return parser


def _run_options(parser: argparse.ArgumentParser) -> None:
    default = Settings()
    parser.add_argument("image", metavar="IMAGE", type=Path, help="T1w brain scan: NIfTI, NRRD, MHA or a DICOM folder")
    parser.add_argument("mask", metavar="MASK", type=Path, help="lesion mask, on any grid in the same space")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="the filled scan: .nii, .nii.gz, .nrrd or .mha")
    parser.add_argument("--model", metavar="NAME_OR_FOLDER", help=f"a model (default: {default.model})")
    parser.add_argument("--device", choices=DEVICES, help=f"where to compute (default: {default.device})")
    parser.add_argument("--label", metavar="N", type=int, help="the mask's label to fill (default: all)")
    parser.add_argument(
        "--grow",
        metavar="MM",
        type=float,
        help=f"also fill MM mm round the lesion: its rim is often partly lesion, try 1 (default: {default.grow:g})",
    )
    parser.add_argument("--iterations", metavar="N", type=int, help=f"most steps (default: {default.iterations})")
    parser.add_argument(
        "--restarts", metavar="N", type=int, help="starts, the best is kept (default: 1 for a VAE, 2 for a GAN)"
    )
    parser.add_argument("--average", metavar="N", type=int, help="take the mean of the N best starts (default: 1)")
    weighting, prior, blending = (parser.add_mutually_exclusive_group() for _ in range(3))
    weighting.add_argument(
        "--window", metavar="N", type=int, help=f"context window in pixels, odd (default: {default.window})"
    )
    weighting.add_argument(
        "--no-weighting", dest="weighting", action="store_const", const=False, help="weigh all known pixels alike"
    )
    prior.add_argument(
        "--prior-weight", metavar="X", type=float, help="lambda of the prior loss (default: the kind of model's own)"
    )
    prior.add_argument("--no-prior", dest="prior", action="store_const", const=False, help="leave the prior loss out")
    blending.add_argument(
        "--blending",
        choices=[b for b in BLENDINGS if b != "none"],
        help="how the fill is joined to the scan: with a smooth change near the border (matern), or by Poisson's "
        f"equation in the volume (3d) or slice by slice (2d) (default: {default.blending})",
    )
    blending.add_argument(
        "--no-blending", dest="blending", action="store_const", const="none", help="paste what was generated"
    )
    parser.add_argument(
        "--no-conditioning",
        dest="conditioning",
        action="store_const",
        const=False,
        help="do not continue what is left unexplained round the hole into it",
    )
    parser.add_argument(
        "--no-texture",
        dest="texture",
        action="store_const",
        const=False,
        help="fill in the plain mean estimate, without the scan's noise and sharpness",
    )
    parser.add_argument("--seed", metavar="N", type=int, help=f"of random draws (default: {default.seed})")
    parser.add_argument("--report", metavar="FILE.json", type=Path, help="write measurements of the run")
    parser.add_argument("--figure", metavar="FILE.png", type=Path, help="write a before-and-after picture")
    parser.add_argument("--generated", metavar="FILE", type=Path, help="write what was generated, before blending")
    parser.add_argument(
        "--uncertainty", metavar="FILE", type=Path, help="write the fill's standard deviation, in scan intensities"
    )
    parser.add_argument("--progress", choices=MODES, default="bar", help="(default: %(default)s)")


def _run(args: argparse.Namespace, console: Console) -> None:
    given = {field.name: getattr(args, field.name) for field in fields(Settings)}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    from .outputs import Outputs, run_files

    outputs = Outputs(args.output, args.report, args.figure, args.generated, args.uncertainty)
    result = run_files(args.image, args.mask, outputs, settings, console)
    with suppress(BrokenPipeError):  # it is done, whether anybody hears of it or not
        console.event("done", output=str(args.output))
        if args.progress == "bar":
            console.close()
            volume, count = (result.report["lesion"][key] for key in ("volume_ml", "count"))
            seconds = result.report["seconds"]["total"]
            print(f"{args.output.name}: {volume:.3g} ml in {count} lesions filled, {seconds:.0f} s")


def _demo(args: argparse.Namespace, console: Console) -> None:
    from .demo import demo

    demo(args.output, console)


def _models(args: argparse.Namespace, console: Console) -> None:
    from .models import BRAINS, WEIGHTS, models_folder, shipped_models

    rows = [("name", "kind", "kernel", "latent", "size", "epochs", "training", "PSNR of round holes in unseen scans")]
    for model in shipped_models():
        card = model.card
        psnr = card["validation"]["psnr_by_radius"]
        rows.append(
            (
                model.name,
                card["kind"],
                card["kernel"],
                card["latent"],
                f"{(model.folder / WEIGHTS).stat().st_size / 1e6:.1f} MB",
                card["epochs"],
                f"{card['training_minutes']:.0f} min, {card['device']}",
                ", ".join(f"{radius} mm: {value:.1f} dB" for radius, value in psnr.items()),
            )
        )
    print(table(rows))
    shared = models_folder() / BRAINS
    print(f"They share the {shared.stat().st_size / 1e6:.1f} MB of {shared.name}.")


def _prepare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--train", metavar="PATH", type=Path, nargs="+", required=True, help="scans, or their folders")
    parser.add_argument("--tune", metavar="PATH", type=Path, nargs="+", required=True, help="scans never trained on")
    parser.add_argument("--output", metavar="FILE.npz", type=Path, required=True, help="the slices, for the training")
    parser.add_argument("--name", default="not stated", help="of the data, for the cards of models trained on it")
    parser.add_argument("--licence", default="not stated", help="of the data")
    parser.add_argument("--citation", default="not stated", help="of the data")
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="processes (default: %(default)s)")


def _prepare(args: argparse.Namespace, console: Console) -> None:
    from .files import check_writable
    from .training.prepare import prepare

    if args.workers < 1:
        raise InputError(f"The number of workers must be 1 or more, not {args.workers}.")
    check_writable(args.output, (".npz",))
    train, tune = _scans(args.train), _scans(args.tune)
    both = {path.resolve() for path in train} & {path.resolve() for path in tune}
    if both:
        raise InputError(f"'{min(both).name}' is given to train and to tune: keep the two apart.")
    source = {"name": args.name, "licence": args.licence, "citation": args.citation}
    prepare(train, tune, args.output, source, args.workers)


def _scans(paths: Sequence[Path]) -> list[Path]:
    """The files given, and all *.nii.gz of the folders given."""
    scans = []
    for path in paths:
        found = sorted(path.glob("*.nii.gz")) if path.is_dir() else [path] if path.exists() else []
        if not found:
            raise InputError(f"'{path}' is no scan and no folder with .nii.gz files: check the path.")
        scans += found
    return scans


def _training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="FILE.npz", type=Path, required=True, help="made by `train prepare`")
    parser.add_argument("--output", metavar="FOLDER", type=Path, required=True, help="the model's folder")
    parser.add_argument("--kernel", type=int, choices=(3, 7), help="side of the convolution kernels")
    parser.add_argument("--epochs", metavar="N", type=int, help="passes over the slices")
    parser.add_argument("--batch", metavar="N", type=int, help="slices a step")
    parser.add_argument("--learning-rate", metavar="X", type=float, help="Adam's highest")
    parser.add_argument("--seed", metavar="N", type=int, help="of random draws")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where to compute (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")


def _train_vae(args: argparse.Namespace, console: Console) -> None:
    from .training.vae import VAESettings, VAETrainer

    _train(args, VAETrainer, VAESettings)


def _train_gan(args: argparse.Namespace, console: Console) -> None:
    from .training.gan import GANSettings, GANTrainer

    _train(args, GANTrainer, GANSettings)


def _train(args: argparse.Namespace, trainer: type, settings: type) -> None:
    from .training.trainer import train

    given = {field.name: getattr(args, field.name, None) for field in fields(settings)}
    chosen = settings(**{name: value for name, value in given.items() if value is not None})
    train(trainer, args.data, args.output, chosen, args.device, args.resume)


def _evaluate(args: argparse.Namespace, console: Console) -> None:
    from .evaluation.compare import run

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
    from .evaluation.downstream import run

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
    from .evaluation.benchmark import run

    run(args)
