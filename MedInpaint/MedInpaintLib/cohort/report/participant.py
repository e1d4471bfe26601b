"""The page of a participant: all scans, with the reasons of failures. It holds its pictures and can be sent alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ... import __version__
from ..derivatives import write_text
from .entries import Entry, read_entries
from .methods import describe
from .section import templates


def page_of(output: Path, participant: str) -> Path:
    """The page of a participant."""
    return output / f"sub-{participant}.html"


def write_page(output: Path, participant: str) -> None:
    """Write the page of one participant from what the output folder holds. Raises InputError if that fails."""
    from markupsafe import Markup

    failed: list[Entry] = []
    filled: list[dict[str, Any]] = []
    for entry in read_entries(output, participant):
        if entry.results is None:
            failed.append(entry)
        elif entry.results.section.is_file():
            section = Markup(entry.results.section.read_text(encoding="utf-8"))  # it was escaped when it was made
            filled.append({"name": entry.name, "report": entry.report, "section": section})
    page = templates().get_template("participant.html").render(
        title=f"sub-{participant}: filled lesions",
        version=__version__,
        failed=failed,
        filled=filled,
        methods=describe(max((row["report"] for row in filled), key=_is_together)) if filled else None,
    )  # fmt: skip
    write_text(page_of(output, participant), page)


def _is_together(report: dict) -> bool:
    """Whether the scan was filled together with others, so that its methods have a step more."""
    return "together" in report
