"""Charts: quality against the size of the hole, the training losses, and samples of the models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...models.folder import SAMPLES
from ..fills.models import STUDY, full_name
from ..holes.cases import BALL, ELLIPSOID, SQUARE, split_kind, variant_of
from ..measures.row import Row
from ..tables.statistics import by_fill
from .results import Results

DOTS = 100  # per inch
SIZES = {
    SQUARE: "side of the square, % of the slice's width",
    ELLIPSOID: "radius of the ellipsoid, mm",
    BALL: "radius of the ball in white matter, mm",
}
PANELS = {"psnr": "PSNR in the hole, dB", "ssim": "SSIM in the hole"}


def size_figures(run: Results, folder: Path) -> list[tuple[str, str]]:
    """Median quality against the size of the hole, a figure for each group of scans; in squares as the study fills.

    Returns file names and captions, as the other functions here.
    """
    from matplotlib.figure import Figure

    figures = []
    for group in dict.fromkeys(row.group for row in run.rows):
        rows = [row for row in run.rows if row.group == group and _is_shown(run, row)]
        shapes = [shape for shape in SIZES if len(_sizes(rows, shape)) > 1]
        if not shapes:
            continue
        figure = Figure(figsize=(4.5 * len(shapes) + 1, 6), layout="constrained")
        places = figure.subplots(len(PANELS), len(shapes), squeeze=False)
        for (measure, label), line in zip(PANELS.items(), places, strict=True):
            for shape, axes in zip(shapes, line, strict=True):
                for name, cases in by_fill(rows).items():
                    sizes = _sizes(list(cases.values()), shape)
                    medians = [np.median([getattr(row, measure) for row in of_size]) for of_size in sizes.values()]
                    label = name.removesuffix(f" {STUDY}")
                    style, width = ("o-", 1.6) if label in run.cards else (".--", 1)
                    axes.plot(list(sizes), medians, style, label=label, linewidth=width)
                axes.set_xlabel(SIZES[shape])
                axes.set_ylabel(label)
                axes.grid(alpha=0.3)
        figure.legend(*places[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
        name = f"experiment_sizes_{group}.png"
        figure.savefig(folder / name, dpi=DOTS)
        figures.append((name, f"Median quality against the size of the hole, {group}"))
    return figures


def _is_shown(run: Results, row: Row) -> bool:
    """Whether a fill is a peer or one of the models' fills that matter in its kind of hole."""
    is_models = full_name(row.fill).removesuffix(f" {STUDY}") in run.cards
    return not is_models or row.fill in run.model_fills(row.kind)


def _sizes(rows: Sequence[Row], shape: str) -> dict[int, list[Row]]:
    """The rows of each size of a shape of hole, by ascending size."""
    sizes: dict[int, list[Row]] = {}
    for row in rows:
        row_shape, size = split_kind(row.kind)
        if row_shape == shape and not variant_of(row.kind):
            sizes.setdefault(size, []).append(row)
    return dict(sorted(sizes.items()))


def training_figure(run: Results, folder: Path) -> list[tuple[str, str]]:
    """Every loss on the models' cards by epoch; no figure without trained models (the linear one has no epochs)."""
    from matplotlib.figure import Figure

    trained = {name: card for name, card in run.cards.items() if card["history"]}
    losses = {name: [key for key in card["history"][0] if key != "epoch"] for name, card in trained.items()}
    if not losses:
        return []
    figure = Figure(figsize=(2.8 * len(losses), 2.1 * max(map(len, losses.values())) + 0.4), layout="constrained")
    places = figure.subplots(max(map(len, losses.values())), len(losses), squeeze=False)
    for axes in places.ravel():
        axes.set_axis_off()
    for column, (name, keys) in zip(places.T, losses.items(), strict=True):
        card = trained[name]
        for axes, key in zip(column, keys, strict=False):
            axes.set_axis_on()
            axes.plot([each["epoch"] for each in card["history"]], [each[key] for each in card["history"]], ".-")
            axes.set_ylabel(key, fontsize=8)
            axes.tick_params(labelsize=7)
            axes.set_xlabel("epoch", fontsize=8)
        column[0].set_title(f"{name}: {card['epochs']} epochs, {card['training_minutes']:.0f} min", fontsize=9)
    figure.savefig(folder / "experiment_training.png", dpi=DOTS)
    return [("experiment_training.png", "Training: mean losses of each epoch, as on the models' cards")]


def samples_figure(run: Results, folder: Path) -> list[tuple[str, str]]:
    """The upper half, two brains, of each model's picture of samples; no figure without such pictures."""
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    pictures = {model.name: imread(model.folder / SAMPLES) for model in run.models if (model.folder / SAMPLES).exists()}
    if not pictures:
        return []
    rows = (len(pictures) + 1) // 2
    figure = Figure(figsize=(10, 2.5 * rows), layout="constrained")
    places = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes in places:
        axes.set_axis_off()
    for axes, (name, picture) in zip(places, pictures.items(), strict=False):
        axes.imshow(picture[: len(picture) // 2], cmap="gray", vmin=0, vmax=1)
        axes.set_title(name, fontsize=9)
    figure.savefig(folder / "experiment_samples.png", dpi=DOTS)
    return [("experiment_samples.png", "Slices from random draws of each model's prior: a row is one z")]
