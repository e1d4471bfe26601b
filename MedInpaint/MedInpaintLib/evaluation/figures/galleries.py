"""Pictures of fills beside each other: typical cases and ablations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..fills.models import ABLATIONS, full_name
from ..holes.cases import BALL, ELLIPSOID, LESIONS, SQUARE, STROKE, split_kind
from ..measures.row import Row
from .results import Results, case_of
from .views import View, show

DOTS = 100  # per inch
PICTURE = 1.5  # inches: width of a picture
CAPTIONS = {
    SQUARE: "Squares in one slice, filled as in the study",
    ELLIPSOID: "Lumpy ellipsoids",
    LESIONS: "Real lesion shapes",
    STROKE: "Real strokes",
    BALL: "Balls in white matter",
}
PEERS = ("harmonic", "niftyseg")  # shown beside the models, but not in squares

Line = tuple[Mapping[str, Row], Sequence[str]]  # a case (fill -> row), and the names of the fills to show


def model_figures(run: Results, folder: Path) -> list[tuple[str, str]]:
    """A figure for each shape of hole: original, hole, and the fills of peers and models in typical cases.

    In squares the models fill as in the study, and the row is that of the study: no peers.

    Returns file names and captions, as the other functions here.
    """
    figures = []
    for shape in dict.fromkeys(split_kind(kind)[0] for kind in run.kinds):
        typical = [run.typical(kind) for kind in run.kinds if split_kind(kind)[0] == shape]
        peers = () if shape == SQUARE else PEERS
        fills = [(*peers, *run.model_fills(case_of(case).kind)) for case in typical]
        lines = [(case, [name for name in names if name in case]) for case, names in zip(typical, fills, strict=True)]
        name = f"experiment_{shape}.png"
        draw_gallery(run, lines, folder / name, whole_brain=True)
        figures.append((name, f"{CAPTIONS[shape]}; below each slice its hole"))
    return figures


def ablation_figures(run: Results, folder: Path) -> list[tuple[str, str]]:
    """Each model with and without one of its parts, in squares and in volumes, as far as there are such fills."""
    kinds = [kind for kind in run.kinds if any(full_name(fill) != fill for fill in run.typical(kind))]
    squares = [kind for kind in kinds if kind.startswith(SQUARE)]
    figures = []
    for place, some in (("squares", squares), ("volumes", [kind for kind in kinds if kind not in squares])):
        if some:
            kind = some[len(some) // 2]
            case = run.typical(kind)
            fills = ([name, *(f"{name} {part}" for part in ABLATIONS)] for name in run.model_fills(kind))
            lines = [(case, [name for name in names if name in case]) for names in fills]
            file = f"experiment_ablations_{place}.png"
            draw_gallery(run, lines, folder / file)
            figures.append((file, f"Each model with and without one of its parts, {kind}"))
    return figures


def draw_gallery(run: Results, lines: Sequence[Line], path: Path, whole_brain: bool = False) -> None:
    """Draw a row of close-ups for each line: the truth, the hole and the fills; whole_brain: above it the slice."""
    from matplotlib.figure import Figure

    columns = 2 + max(len(names) for _, names in lines)
    rows = []  # of the figure: a view, a window of it, the pictures and their titles
    for case, names in lines:
        view, row = run.view(case_of(case)), case_of(case)
        pictures = {"original": view.truth, f"{row.kind}\n{row.group} {row.scan.split('_')[0]}": view.masked()}
        pictures |= {f"{name}\n{case[name].psnr:.1f} dB": run.picture(case[name]) for name in names if name in case}
        if whole_brain:
            rows.append((view, view.brain(), pictures, True))
        rows.append((view, view.close_up(), pictures, not whole_brain))
    heights = [_height(window, view) for view, window, _, _ in rows]
    figure = Figure(figsize=(PICTURE * columns, sum(heights) + 0.25 * len(heights)), layout="constrained")
    places = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axes in places.ravel():
        axes.set_axis_off()
    for line, (view, window, pictures, titled) in zip(places, rows, strict=True):
        for axes, (title, picture) in zip(line, pictures.items(), strict=False):
            show(axes, picture[window], view)
            if titled:
                axes.set_title(title, fontsize=8)
    figure.savefig(path, dpi=DOTS)


def _height(window: tuple[slice, slice], view: View) -> float:
    """Height (inches) of a picture with the standard width."""
    rows, columns = ((part.stop - part.start) * side for part, side in zip(window, view.sides, strict=True))
    return PICTURE * rows / columns
