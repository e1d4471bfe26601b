"""The report's figures, made from a finished run: its table, its stored fills and views, and the models' cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...models.folder import SAMPLES, Model
from ...settings import Settings
from ..fills.fills import ABLATIONS
from ..holes.cases import ELLIPSOID, SQUARE
from ..tables.rows import Row
from ..tables.statistics import by_fill, full_name
from .pictures import View, read_view, show, view_path, voxels_path

DOTS = 100  # an inch
PICTURE = 1.5  # inches: a picture's width
WORST = 10  # cases
SIZES = {SQUARE: "side of the square, % of the slice's width", ELLIPSOID: "radius of the ellipsoid, mm"}
PANELS = {"psnr": "PSNR in the hole, dB", "ssim": "SSIM in the hole"}


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where `compare` wrote it.
        rows: of its table.
        models: in the order of the report.
    """

    folder: Path
    rows: Sequence[Row]
    models: Sequence[Model]

    @property
    def cards(self) -> dict[str, Mapping]:
        """The models' cards by their names."""
        return {model.name: model.card for model in self.models}

    @property
    def kinds(self) -> list[str]:
        """The kinds of holes, in the order of the table."""
        return list(dict.fromkeys(row.kind for row in self.rows))

    @property
    def cases(self) -> dict[str, dict[str, Row]]:
        """case -> fill -> row, in the order of the table."""
        cases: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            cases.setdefault(row.case, {})[row.fill] = row
        return cases

    def typical(self, kind: str) -> dict[str, Row]:
        """fill -> row of the typical case of a kind: that with the median of the mean PSNR of the models.

        Of an even number of cases, the lower of the two in the middle; without models, the mean is of all fills.
        """
        cases = {case: fills for case, fills in self.cases.items() if case_of(fills).kind == kind}
        names = [name for name in self.cards if all(name in fills for fills in cases.values())]

        def mean(case: str) -> float:
            return float(np.mean([cases[case][name].psnr for name in names or cases[case]]))

        return cases[sorted(cases, key=mean)[(len(cases) - 1) // 2]]

    def view(self, row: Row) -> View:
        """The slice of a row's case."""
        return read_view(view_path(self.folder, row.case))

    def picture(self, row: Row) -> NDArray[np.float32]:
        """The slice with a row's fill."""
        return self.view(row).filled(np.load(voxels_path(self.folder, row.case, row.fill)))


def model_figures(run: Run, folder: Path) -> list[tuple[str, str]]:
    """Original, masked and each model's fill of the typical case of every kind; a figure a shape. Files, captions."""
    made = []
    for shape in dict.fromkeys(kind.rstrip("0123456789") for kind in run.kinds):
        lines = []
        for kind in (kind for kind in run.kinds if kind.rstrip("0123456789") == shape):
            case = run.typical(kind)
            lines.append((case, [name for name in run.cards if name in case]))
        made.append(_gallery(run, lines, folder / f"experiment_{shape}.png", whole=True))
    captions = {SQUARE: "Squares in one slice", ELLIPSOID: "Lumpy ellipsoids", "lesions": "Real lesion shapes"}
    return [(path.name, f"{captions[path.stem.split('_')[1]]}; below each slice its hole") for path in made]


def ablation_figures(run: Run, folder: Path) -> list[tuple[str, str]]:
    """Each model whole and without one of its parts, and the GANs with and without prior in every kind of hole."""
    kinds = [kind for kind in run.kinds if any(full_name(fill) != fill for fill in run.typical(kind))]
    if not kinds:
        return []
    case = run.typical(kinds[len(kinds) // 2])
    lines = [(case, [name, *(f"{name} {part}" for part in ABLATIONS)]) for name in run.cards]
    _gallery(run, lines, folder / "experiment_ablations.png")
    made = [("experiment_ablations.png", f"Each model whole and without one of its parts, in a {case_of(case).kind}")]
    gans = [name for name, card in run.cards.items() if card["kind"] == "gan"]
    if gans:
        fills = [fill for name in gans for fill in (name, f"{name} no prior")]
        _gallery(run, [(run.typical(kind), fills) for kind in kinds], folder / "experiment_prior.png")
        made.append(("experiment_prior.png", "GANs with and without their prior"))
    return made


def worst_figure(run: Run, folder: Path) -> list[tuple[str, str]]:
    """The cases in which the default model gains least over the harmonic fill, the worst first; squares left out."""
    model, smooth = Settings().model, "harmonic"
    whole = [fills for fills in run.cases.values() if not case_of(fills).kind.startswith(SQUARE)]
    compared = [fills for fills in whole if model in fills and smooth in fills]
    if not compared:
        return []
    compared.sort(key=lambda fills: fills[model].psnr - fills[smooth].psnr)
    shown = [(fills, [smooth, "linear", model]) for fills in compared[:WORST]]
    _gallery(run, shown, folder / "experiment_worst.png")
    return [("experiment_worst.png", f"Where {model} gains least over the harmonic fill, the worst first")]


def case_of(fills: Mapping[str, Row]) -> Row:
    """Any row of a case: what all its rows share."""
    return next(iter(fills.values()))


def _gallery(run: Run, lines: Sequence[tuple[Mapping[str, Row], Sequence[str]]], path: Path, whole: bool = False):
    """Lines of pictures: the truth, the hole and the named fills of a case, close up; whole: the slice above."""
    from matplotlib.figure import Figure

    columns = 2 + max(len(names) for _, names in lines)
    views = [run.view(case_of(case)) for case, _ in lines]
    windows = []
    for view in views:
        windows += [view.brain(), view.close_up()] if whole else [view.close_up()]
    heights = [_height(window, view) for window, view in zip(windows, np.repeat(views, 1 + whole), strict=True)]
    figure = Figure(figsize=(PICTURE * columns, sum(heights) + 0.25 * len(heights)), layout="constrained")
    places = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axes in places.ravel():
        axes.set_axis_off()
    for number, (case, names) in enumerate(lines):
        view, row = views[number], case_of(case)
        pictures = {"original": view.truth, "masked": view.masked()}
        titles = {"original": "original", "masked": f"{row.kind}\n{row.group} {row.scan.split('_')[0]}"}
        for name in names:
            if name in case:
                pictures[name] = run.picture(case[name])
                titles[name] = f"{name}\n{case[name].psnr:.1f} dB"
        for column, (name, picture) in enumerate(pictures.items()):
            top = places[number * (1 + whole), column]
            top.set_title(titles[name], fontsize=8)
            for below in range(1 + whole):
                show(places[number * (1 + whole) + below, column], picture[windows[number * (1 + whole) + below]], view)
    _save(figure, path)
    return path


def _height(window: tuple[slice, slice], view: View) -> float:
    """Inches, of a picture of the standard width."""
    rows, columns = ((part.stop - part.start) * side for part, side in zip(window, view.sides, strict=True))
    return PICTURE * rows / columns


def size_figures(run: Run, folder: Path) -> list[tuple[str, str]]:
    """Median quality against the size of the hole, a figure for each group of scans."""
    from matplotlib.figure import Figure

    made = []
    for group in dict.fromkeys(row.group for row in run.rows):
        rows = [row for row in run.rows if row.group == group and full_name(row.fill) == row.fill]
        shapes = [shape for shape in SIZES if len(_sizes(rows, shape)) > 1]
        if not shapes:
            continue
        figure = Figure(figsize=(4.5 * len(shapes) + 1, 6), layout="constrained")
        places = figure.subplots(len(PANELS), len(shapes), squeeze=False)
        for (measure, label), line in zip(PANELS.items(), places, strict=True):
            for shape, axes in zip(shapes, line, strict=True):
                for name, cases in by_fill(rows).items():
                    sizes = _sizes(list(cases.values()), shape)
                    middle = [np.median([getattr(row, measure) for row in of_size]) for of_size in sizes.values()]
                    model = name in run.cards
                    axes.plot(list(sizes), middle, "o-" if model else ".--", label=name, lw=1.6 if model else 1)
                axes.set_xlabel(SIZES[shape])
                axes.set_ylabel(label)
                axes.grid(alpha=0.3)
        figure.legend(*places[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
        name = f"experiment_sizes_{group}.png"
        _save(figure, folder / name)
        made.append((name, f"Median quality against the size of the hole, {group}"))
    return made


def _sizes(rows: Sequence[Row], shape: str) -> dict[int, list[Row]]:
    """The rows of each size of a shape, ascending."""
    sizes: dict[int, list[Row]] = {}
    for row in rows:
        if row.kind.rstrip("0123456789") == shape:
            sizes.setdefault(int(row.kind.removeprefix(shape)), []).append(row)
    return dict(sorted(sizes.items()))


def training_figure(run: Run, folder: Path) -> list[tuple[str, str]]:
    """Every loss on the models' cards by epoch; none without models."""
    from matplotlib.figure import Figure

    losses = {name: [key for key in card["history"][0] if key != "epoch"] for name, card in run.cards.items()}
    if not losses:
        return []
    figure = Figure(figsize=(2.8 * len(losses), 2.1 * max(map(len, losses.values())) + 0.4), layout="constrained")
    places = figure.subplots(max(map(len, losses.values())), len(losses), squeeze=False)
    for axes in places.ravel():
        axes.set_axis_off()
    for column, (name, keys) in zip(places.T, losses.items(), strict=True):
        card = run.cards[name]
        for axes, key in zip(column, keys, strict=False):
            axes.set_axis_on()
            axes.plot([each["epoch"] for each in card["history"]], [each[key] for each in card["history"]], ".-")
            axes.set_ylabel(key, fontsize=8)
            axes.tick_params(labelsize=7)
            axes.set_xlabel("epoch", fontsize=8)
        column[0].set_title(f"{name}: {card['epochs']} epochs, {card['training_minutes']:.0f} min", fontsize=9)
    _save(figure, folder / "experiment_training.png")
    return [("experiment_training.png", "Training: mean losses of each epoch, as on the models' cards")]


def samples_figure(run: Run, folder: Path) -> list[tuple[str, str]]:
    """The upper half of each model's picture of samples, two brains; none without such pictures."""
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
    _save(figure, folder / "experiment_samples.png")
    return [("experiment_samples.png", "Slices that each model draws from its prior: a row is one z")]


def _save(figure, path: Path) -> None:
    figure.savefig(path, dpi=DOTS)
