"""The experiment's table, one row per case and fill, and its summary.

The table is a CSV file to which rows are appended as they are made; the summary is made from the table alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from ..files import replacing

REFERENCES = ("harmonic", "linear")  # what the fills after them are compared with, case by case
DECIMALS = {"psnr": 2, "ssim": 3, "mae": 3, "sharpness": 2, "seam": 2, "seconds": 1}
HEADINGS = ("PSNR, dB", "SSIM", "MAE", "sharpness", "seam", "seconds")


@dataclass(frozen=True)
class Row:
    """One fill of one case.

    Attributes:
        scan, kind, index, shape: the case, as in `Hole`.
        fill: the fill's name.
        hole_ml: the hole's volume.
        quality: of the case's alignment.
        psnr, ssim, mae, sharpness, seam: as in `metrics.measure`.
        preparation, seconds: time of the case's alignment and slicing, and of this fill.
        changed_outside: voxels outside the hole that differ from the truth.
        same_geometry, same_type: 1 if the result's are the scan's.
    """

    scan: str
    kind: str
    index: int
    shape: str
    fill: str
    hole_ml: float
    quality: float
    psnr: float
    ssim: float
    mae: float
    sharpness: float
    seam: float
    preparation: float
    seconds: float
    changed_outside: int
    same_geometry: int
    same_type: int

    @property
    def case(self) -> str:
        """The case's name, also of its files."""
        return case_name(self.scan, self.kind, self.index)


def case_name(scan: str, kind: str, index: int) -> str:
    """The name of a case, also of its files."""
    return f"{scan}_{kind}_{index}"


def read_rows(path: Path) -> list[Row]:
    """The table's rows; none if there is no table yet. A line that an interruption cut off is taken out of the file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        with replacing(path) as temporary:
            temporary.write_text(whole, encoding="utf-8")
    types = {"str": str, "int": int, "float": float}
    convert = {field.name: types[field.type] for field in fields(Row)}
    lines = csv.DictReader(io.StringIO(whole))
    return [Row(**{key: convert[key](value) for key, value in line.items()}) for line in lines]


def append_row(path: Path, row: Row) -> None:
    """Add a row to the table, in one write, so that an interruption leaves whole rows."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    if not path.exists() or not path.stat().st_size:
        writer.writerow([field.name for field in fields(Row)])
    writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in astuple(row)])
    with path.open("a", encoding="utf-8") as file:
        file.write(line.getvalue())


def summary(rows: Sequence[Row]) -> str:
    """The summary in Markdown: per kind of hole and fill, medians with quartiles, then paired differences."""
    changed = sum(row.changed_outside for row in rows)
    same = sum(row.same_geometry and row.same_type for row in rows)
    parts = [
        "# Evaluation",
        f"{len({row.case for row in rows})} cases in {len({row.scan for row in rows})} scans, {len(rows)} fills. "
        f"Voxels changed outside the holes: {changed}. Geometry and type identical: {same} of {len(rows)}. "
        "Figures are in the hole: median [quartiles].",
    ]
    for kind in dict.fromkeys(row.kind for row in rows):
        parts += _kind_summary(kind, [row for row in rows if row.kind == kind])
    return "\n\n".join(parts) + "\n"


def _kind_summary(kind: str, rows: Sequence[Row]) -> list[str]:
    volumes = {row.case: row.hole_ml for row in rows}
    fills: dict[str, dict[str, Row]] = {}
    for row in rows:
        fills.setdefault(row.fill, {})[row.case] = row
    figures = []
    for name, cases in fills.items():
        columns = ((np.array([getattr(row, key) for row in cases.values()]), n) for key, n in DECIMALS.items())
        figures.append([name, str(len(cases)), *(_quartiles(values, n) for values, n in columns)])
    parts = [f"## {kind}", f"Hole: {_quartiles([*volumes.values()], 1)} ml.", _table(("fill", "n", *HEADINGS), figures)]
    pairs = [
        [name, reference, *_paired(cases, fills[reference])]
        for rank, reference in enumerate(REFERENCES)
        for name, cases in fills.items()
        if name not in REFERENCES[: rank + 1] and cases.keys() & fills.get(reference, {}).keys()
    ]
    if pairs:
        parts.append(_table(("fill", "against", "n", "median dB", "median SSIM", "worse in", "worst, dB"), pairs))
    return parts


def _paired(cases: dict[str, Row], reference: dict[str, Row]) -> list[str]:
    """n, the median differences over the cases both have filled, in how many PSNR is lower, the lowest difference."""
    common = [case for case in cases if case in reference]
    psnr = np.array([cases[case].psnr - reference[case].psnr for case in common])
    ssim = np.array([cases[case].ssim - reference[case].ssim for case in common])
    middle = [f"{np.median(psnr):+.2f}", f"{np.median(ssim):+.3f}"]
    return [str(len(common)), *middle, str(np.count_nonzero(psnr < 0)), f"{psnr.min():+.2f}"]


def _quartiles(values: Sequence[float], decimals: int) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def _table(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *lines))
