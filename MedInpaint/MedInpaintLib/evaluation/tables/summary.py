"""The summary in Markdown: medians with quartiles and paired differences, by group of scans and kind of hole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..measures.row import Row
from .statistics import by_fill, comparisons, measured, paired
from .text import markdown

COLUMNS = {  # attribute of Row: heading, decimals
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "mae": ("MAE", 3),
    "sharpness": ("sharpness", 2),
    "noise": ("noise", 2),
    "seam": ("seam", 2),
    "slice_psnr": ("slice PSNR, dB", 2),
    "brats_mse": ("BraTS MSE", 4),
    "brats_psnr": ("BraTS PSNR, dB", 2),
    "brats_ssim": ("BraTS SSIM", 3),
    "seconds": ("seconds", 1),
    "memory": ("memory, MB", 0),
}
PAIRED_HEADING = ("fill", "against", "subjects", "cases", "median dB", "p", "median SSIM", "p", "worse in", "worst, dB")


def summary(rows: Sequence[Row], cards: Mapping[str, Mapping]) -> str:
    """The whole summary. The cards of the models decide which models are compared."""
    changed = sum(row.changed_outside for row in rows)
    same = sum(row.same_geometry and row.same_type for row in rows)
    parts = [
        "# Evaluation",
        f"{len({row.case for row in rows})} cases in {len({(row.group, row.scan) for row in rows})} scans, "
        f"{len(rows)} fills. Voxels changed outside the holes: {changed}. Geometry and type identical: {same} of "
        f"{len(rows)}. Figures are in the hole: median [quartiles]; differences and p: two-sided Wilcoxon signed-rank "
        "test over subjects.",
    ]
    for (group, kind), part in by_group_and_kind(rows):
        volumes = {row.case: row.hole_ml for row in part}
        parts += [f"## {group}, {kind}", f"Hole: {quartiles([*volumes.values()], 1)} ml.", full_table(part)]
        pairs = paired_table(part, cards)
        if pairs:
            parts.append(pairs)
    return "\n\n".join(parts) + "\n"


def by_group_and_kind(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str], list[Row]]]:
    """The rows of each group and kind of hole, in the order of the table."""
    for key in dict.fromkeys((row.group, row.kind) for row in rows):
        yield key, [row for row in rows if (row.group, row.kind) == key]


def full_table(rows: Sequence[Row]) -> str:
    """All measurements of each fill, without the columns that have no number."""
    shown = {key: look for key, look in COLUMNS.items() if not all(np.isnan(getattr(row, key)) for row in rows)}
    lines = []
    for name, cases in by_fill(rows).items():
        columns = (([getattr(row, key) for row in cases.values()], n) for key, (_, n) in shown.items())
        lines.append([name, str(len(cases)), *(quartiles(values, n) for values, n in columns)])
    return markdown(("fill", "n", *(heading for heading, _ in shown.values())), lines)


def paired_table(rows: Sequence[Row], cards: Mapping[str, Mapping]) -> str:
    """The paired differences; "" if nothing can be compared."""
    fills = by_fill(rows)
    lines = []
    for name, reference in comparisons(list(fills), cards):
        psnr, ssim = (paired(measured(fills[name], key), measured(fills[reference], key)) for key in ("psnr", "ssim"))
        if psnr and ssim:
            decibels = [f"{psnr.median:+.2f}", p_value(psnr.p)]
            similarity = [f"{ssim.median:+.3f}", p_value(ssim.p)]
            counts, worst = (str(psnr.subjects), str(psnr.cases)), (str(psnr.worse), f"{psnr.lowest:+.2f}")
            lines.append([name, reference, *counts, *decibels, *similarity, *worst])
    return markdown(PAIRED_HEADING, lines) if lines else ""


def quartiles(values: Sequence[float], decimals: int) -> str:
    """Median [quartiles] of the values that are not NaN."""
    numbers = [value for value in values if not np.isnan(value)]
    if not numbers:
        return "-"
    low, middle, high = np.percentile(numbers, [25, 50, 75])
    return f"{middle:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def p_value(p: float) -> str:
    """A p value with two significant digits at most."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.01 else f"{p:.2f}"
