"""The experiment's table: a CSV file, one row per case and fill, to which rows are appended as they are made."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ...errors import InputError
from ...volumes.write import replacing

NAN = float("nan")


@dataclass(frozen=True)
class Row:
    """One fill of one case.

    Attributes:
        group: the scan's, as in `Subject`.
        scan, kind, index, shape: the case, as in `Hole`.
        fill: the fill's name.
        hole_ml: the hole's volume.
        quality: of the case's alignment.
        psnr, ssim, mae, sharpness, noise, seam: as in `metrics.measure`.
        slice_psnr: dB over the whole slice, of a square; not a number for other holes.
        preparation, seconds: time of the case's alignment and slicing, and of this fill. An ablation without blending
            takes what the model's search has found, its time is without the search.
        memory: what this fill added at most to the memory in use, MB; not a number where the system does not tell.
        changed_outside: voxels outside the hole that differ from the truth.
        same_geometry, same_type: 1 if the result's are the scan's.
        brats_mse, brats_psnr, brats_ssim: as in `brats.brats_metrics`; not a number if not asked for.
    """

    group: str
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
    noise: float
    seam: float
    slice_psnr: float
    preparation: float
    seconds: float
    memory: float
    changed_outside: int
    same_geometry: int
    same_type: int
    brats_mse: float = NAN
    brats_psnr: float = NAN
    brats_ssim: float = NAN

    @property
    def case(self) -> str:
        """The case's name, also of its files."""
        return case_name(self.group, self.scan, self.kind, self.index)


def case_name(group: str, scan: str, kind: str, index: int) -> str:
    """The name of a case, also of its files."""
    return f"{group}_{scan}_{kind}_{index}"


def read_rows(path: Path) -> list[Row]:
    """The table's rows; none if there is no table yet. A line that an interruption cut off is taken out of the file.

    Raises InputError if the table has other columns.
    """
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
    if whole and lines.fieldnames != list(convert):
        raise InputError(f"'{path}' has other columns than this version writes: choose another folder.")
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


def markdown(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *lines))
