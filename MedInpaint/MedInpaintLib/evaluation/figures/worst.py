"""The cases in which the default model gains least over the harmonic fill, each with a sentence on why.

The mean squared error of a fill is the sum of three parts (Kobayashi & Salam 2000, Agronomy Journal 92:345-352):
brightness, the squared mean error; contrast, the squared difference of the standard deviations of fill and truth;
structure, 2 SD SD' (1 - r), where r is their correlation. The sentence names the part in which the fill does worst
against the harmonic fill.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...settings import Settings
from ..holes.cases import BALL, ELLIPSOID, GENEROUS, LESIONS, SQUARE, STROKE, TIGHT, split_kind, variant_of
from ..measures.row import Row
from .galleries import PEERS, draw_gallery
from .results import Results, case_of

WORST = 10  # number of cases
REFERENCE = "harmonic"
SHAPES = {LESIONS: "real lesion shapes", STROKE: "a real stroke"}
SIZED = {ELLIPSOID: "a lumpy ellipsoid of {} mm", BALL: "a ball of {} mm in white matter"}
MASKS = {
    TIGHT: ", whose mask leaves the dark border of the lesion outside",
    GENEROUS: ", whose mask is 1 mm too large",
}


def worst_figures(run: Results, folder: Path) -> list[tuple[str, str]]:
    """A figure for each of the worst cases, without squares, the worst first: file names, and captions with the reason.

    Args:
        run: the results.
        folder: of the figures.
    """
    model = Settings().model
    in_scans = [fills for fills in run.cases.values() if not case_of(fills).kind.startswith(SQUARE)]
    compared = [fills for fills in in_scans if model in fills and REFERENCE in fills]
    compared.sort(key=lambda fills: fills[model].psnr - fills[REFERENCE].psnr)
    figures = []
    for number, fills in enumerate(compared[:WORST], start=1):
        name = f"experiment_worst_{number}.png"
        draw_gallery(run, [(fills, [each for each in (*PEERS, model) if each in fills])], folder / name)
        row, reference = fills[model], fills[REFERENCE]
        truth, white = run.truth(row), run.view(row).white
        why = reason(*(error(run.voxels(each), truth, white) for each in (row, reference)))
        caption = f"{_hole(row)}: {_gain(row.psnr - reference.psnr)} the harmonic fill, because {why}"
        figures.append((name, f"Worst case {number} of {model}, {caption}"))
    return figures


@dataclass(frozen=True)
class Error:
    """The error of a fill, in percent of the brain's range.

    Attributes:
        bias: mean of the fill minus that of the truth.
        deviation, truth: standard deviations of the fill and of the truth.
        correlation: of both; 0 if one of them is constant.
    """

    bias: float
    deviation: float
    truth: float
    correlation: float

    @property
    def parts(self) -> tuple[float, float, float]:
        """Of the mean squared error: brightness, contrast and structure."""
        structure = 2 * self.deviation * self.truth * (1 - self.correlation)
        return self.bias**2, (self.deviation - self.truth) ** 2, structure


def error(fill: NDArray[np.number], truth: NDArray[np.number], white: float) -> Error:
    """The error of a fill, given as the voxels of the hole, (n,); white is the upper end of the range."""
    a, b = (100 * np.asarray(values, np.float64) / white for values in (fill, truth))
    covariance, product = ((a - a.mean()) * (b - b.mean())).mean(), a.std() * b.std()
    return Error(a.mean() - b.mean(), a.std(), b.std(), covariance / product if product else 0.0)


def reason(fill: Error, other: Error) -> str:
    """Why a fill gains little over the harmonic one, or is worse: the part of the error in which it does worst."""
    excess = np.subtract(fill.parts, other.parts)
    part = int(excess.argmax())
    if excess[part] <= 0:
        return f"the harmonic fill is close to the truth: its error is {np.sqrt(sum(other.parts)):.1f} % of the range"
    if part == 0:
        return f"on average it is too {_brightness(fill)} of the range, the harmonic fill too {_brightness(other)}"
    if part == 1:
        extent = "more" if fill.deviation > fill.truth else "less"
        return (
            f"it varies {extent} than the brain, by {fill.deviation:.1f} instead of {fill.truth:.1f} % of the range; "
            f"the harmonic fill varies by {other.deviation:.1f} %"
        )
    return (
        f"more of its structure is in the wrong place: it varies by {fill.deviation:.1f} % of the range, with a "
        f"correlation with the truth of {fill.correlation:.2f}; the harmonic fill varies by {other.deviation:.1f} %, "
        f"with {other.correlation:.2f}"
    )


def _hole(row: Row) -> str:
    shape, size = split_kind(row.kind)
    what = SHAPES[shape] if size is None else SIZED[shape].format(size)
    return f"{what} ({row.group} {row.scan.split('_')[0]}, {row.hole_ml:.2g} ml){MASKS.get(variant_of(row.kind), '')}"


def _gain(decibels: float) -> str:
    return f"only {decibels:.2f} dB above" if decibels >= 0 else f"{-decibels:.2f} dB below"


def _brightness(fill: Error) -> str:
    return f"{'bright' if fill.bias > 0 else 'dark'} by {abs(fill.bias):.1f} %"
