"""The commands `medinpaint train prepare`, `train linear`, `train vae` and `train gan`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ...errors import InputError
from ...settings import DEVICES
from ..console import Console


def prepare_options(parser: argparse.ArgumentParser) -> None:
    """The options of `medinpaint train prepare`."""
    parser.add_argument(
        "--train", metavar="PATH", type=Path, nargs="+", required=True, help="scans, or folders of scans"
    )
    parser.add_argument(
        "--tune", metavar="PATH", type=Path, nargs="+", required=True, help="scans that are not trained on"
    )
    parser.add_argument("--output", metavar="FILE.npz", type=Path, required=True, help="the slices, for the training")
    parser.add_argument("--name", default="not stated", help="name of the data, for the model cards")
    parser.add_argument("--licence", default="not stated", help="licence of the data")
    parser.add_argument("--citation", default="not stated", help="citation of the data")
    parser.add_argument(
        "--workers", metavar="N", type=int, default=2, help="number of processes (default: %(default)s)"
    )


def run_prepare(args: argparse.Namespace, console: Console) -> None:
    """Align and slice the scans. Raises InputError if a scan is given for both purposes."""
    from ...training.slices.prepare import prepare
    from ...volumes.write import check_writable

    if args.workers < 1:
        raise InputError(f"The number of workers must be 1 or more, not {args.workers}.")
    check_writable(args.output, (".npz",))
    train, tune = _scans(args.train), _scans(args.tune)
    both = {path.resolve() for path in train} & {path.resolve() for path in tune}
    if both:
        raise InputError(f"'{min(both).name}' is given to train and to tune: keep the two apart.")
    source = {"name": args.name, "licence": args.licence, "citation": args.citation}
    prepare(train, tune, args.output, source, args.workers)


def linear_options(parser: argparse.ArgumentParser) -> None:
    """The options of `medinpaint train linear`."""
    parser.add_argument("--data", metavar="FILE.npz", type=Path, required=True, help="the slices from `train prepare`")
    parser.add_argument("--output", metavar="FOLDER", type=Path, required=True, help="the model's folder")


def training_options(parser: argparse.ArgumentParser) -> None:
    """The options that `medinpaint train vae` and `train gan` share."""
    linear_options(parser)
    parser.add_argument("--kernel", type=int, choices=(3, 7), help="side of the convolution kernels")
    parser.add_argument("--epochs", metavar="N", type=int, help="passes over the slices")
    parser.add_argument("--batch", metavar="N", type=int, help="slices in each step")
    parser.add_argument("--learning-rate", metavar="X", type=float, help="highest learning rate of Adam")
    parser.add_argument("--seed", metavar="N", type=int, help="seed of the random numbers")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where to compute (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint")


def train_linear(args: argparse.Namespace, console: Console) -> None:
    """Write the linear model's folder."""
    from ...training.linear import train_linear

    train_linear(args.data, args.output)


def train_vae(args: argparse.Namespace, console: Console) -> None:
    """Train a VAE."""
    from ...training.vae import VAESettings, VAETrainer

    _train(args, VAETrainer, VAESettings)


def train_gan(args: argparse.Namespace, console: Console) -> None:
    """Train a GAN."""
    from ...training.gan import GANSettings, GANTrainer

    _train(args, GANTrainer, GANSettings)


def _train(args: argparse.Namespace, trainer: type, settings: type) -> None:
    from ...training.trainer import train

    options = {field.name: getattr(args, field.name, None) for field in fields(settings)}
    chosen = settings(**{name: value for name, value in options.items() if value is not None})
    train(trainer, args.data, args.output, chosen, args.device, args.resume)


def _scans(paths: Sequence[Path]) -> list[Path]:
    """The files, and all *.nii.gz files of the folders."""
    scans = []
    for path in paths:
        found = sorted(path.glob("*.nii.gz")) if path.is_dir() else [path] if path.exists() else []
        if not found:
            raise InputError(f"'{path}' is no scan and no folder with .nii.gz files: check the path.")
        scans += found
    return scans
