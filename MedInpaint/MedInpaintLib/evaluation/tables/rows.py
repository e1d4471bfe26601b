"""The experiment's table: a CSV file with one row per case and fill. Rows are appended when a fill is done."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, fields
from pathlib import Path

from ...errors import InputError
from ...volumes.write import replacing
from ..measures.row import Row


def read_rows(path: Path) -> list[Row]:
    """The rows of the table; empty if there is no file. An incomplete last line is removed from the file.

    Raises InputError if the table has other columns.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    if complete != text:
        with replacing(path) as temporary:
            temporary.write_text(complete, encoding="utf-8")
    types = {"str": str, "int": int, "float": float}
    convert = {field.name: types[field.type] for field in fields(Row)}
    lines = csv.DictReader(io.StringIO(complete))
    if complete and lines.fieldnames != list(convert):
        raise InputError(f"'{path}' has other columns than this version writes: choose another folder.")
    return [Row(**{key: convert[key](value) for key, value in line.items()}) for line in lines]


def append_row(path: Path, row: Row) -> None:
    """Add a row to the table. One write adds the whole row, so an interrupted run leaves complete rows."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    if not path.exists() or not path.stat().st_size:
        writer.writerow([field.name for field in fields(Row)])
    writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in astuple(row)])
    with path.open("a", encoding="utf-8") as file:
        file.write(line.getvalue())
