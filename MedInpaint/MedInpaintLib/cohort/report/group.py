"""The level "group": a table with a row for each lesion, and a page with the scans that need a look first."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from ... import __version__
from ...errors import InputError
from ..derivatives import write_json, write_text
from .entries import Entry, read_entries
from .participant import page_of
from .section import templates, uri

COLUMNS = {  # of the table: what they mean
    "participant_id": "The participant.",
    "session_id": "The session; n/a if there are none.",
    "scan": "The start of the names of all results.",
    "contrast": "The suffix of the scan, such as T1w.",
    "filled_with": "Other contrasts of the session that were filled with the same anatomy; n/a if there are none.",
    "status": "filled or failed.",
    "lesion": "The number of the lesion in its scan, the largest first.",
    "volume_ml": "Volume in millilitres.",
    "x": "Position in the scan's space, mm to the right.",
    "y": "Position in the scan's space, mm to the front.",
    "z": "Position in the scan's space, mm upwards.",
    "fill_mean": "Mean of the new values, in intensities of the scan.",
    "ring_mean": "Mean of the known brain within 3 mm of the lesion.",
    "uncertainty_mean": "Mean standard deviation of the fill, in intensities of the scan.",
    "seam": "Steps across the border, compared with those in the known tissue beside it; near 1: invisible.",
    "alignment": "Correlation of the scan with the model's template.",
    "warnings": "Sentences, separated by |.",
    "problem": "Why the scan was not filled.",
}


def write_group(output: Path) -> int:
    """Write group_lesions.tsv, its description and group_report.html. Returns the number of scans not filled.

    Raises InputError if there are no results or the files cannot be written.
    """
    entries = read_entries(output)
    if not entries:
        raise InputError(f"'{output.name}' has no results: run the level participant first.")
    write_text(output / "group_lesions.tsv", _table(entries))
    write_json(output / "group_lesions.json", {name: {"Description": text} for name, text in COLUMNS.items()})
    reports = [entry.report for entry in entries if entry.report]
    failed = len(entries) - len(reports)
    page = templates().get_template("group.html").render(
        rows=[_row(entry, output) for entry in sorted(entries, key=lambda e: e.badness, reverse=True)],
        version=__version__,
        counts={
            "filled": len(reports),
            "warned": sum(bool(report["warnings"]) for report in reports),
            "failed": failed,
        },
        chart=uri(_chart(reports)) if reports else None,
    )  # fmt: skip
    write_text(output / "group_report.html", page)
    return failed


def _row(entry: Entry, output: Path) -> dict:
    """What the page shows of a scan. Its links are relative, so that the folder can be moved."""
    thumbnail = entry.results and entry.results.thumbnail.relative_to(output).as_posix()
    return {
        "name": entry.name,
        "report": entry.report,
        "problem": entry.problem,
        "link": quote(page_of(output, entry.participant).name),
        "thumbnail": thumbnail and quote(thumbnail),
    }


def _table(entries: list[Entry]) -> str:
    lines = ["\t".join(COLUMNS)]
    for row in entries:
        session = f"ses-{row.session}" if row.session else None
        others = " ".join(contrast for contrast in row.together if contrast != row.contrast)
        status = "filled" if row.report else "failed"
        common = [f"sub-{row.participant}", session, row.name, row.contrast, others, status]
        if row.report is None:
            lines.append("\t".join(map(_cell, [*common, *[None] * (len(COLUMNS) - len(common) - 1), row.problem])))
            continue
        quality, warnings = row.report["alignment"]["quality"], " | ".join(row.report["warnings"])
        for number, lesion in enumerate(row.report["lesions"], start=1):
            x, y, z = lesion["position_mm"]
            values = [number, lesion["volume_ml"], -x, -y, z, lesion["fill"], lesion["ring"], lesion["uncertainty"]]
            lines.append("\t".join(map(_cell, [*common, *values, lesion["seam"], quality, warnings, None])))
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return "n/a" if value in (None, "") else " ".join(str(value).split())


def _chart(reports: list[dict]) -> bytes:
    """Histograms of the volume, the alignment and the seam, PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.5, 2.1), layout="constrained")
    measures = {
        "volume (ml)": [report["lesion"]["volume_ml"] for report in reports],
        "alignment": [report["alignment"]["quality"] for report in reports],
        "seam": [report["seam"] for report in reports],
    }
    for axes, (name, values) in zip(figure.subplots(1, 3), measures.items(), strict=True):
        axes.hist([value for value in values if value is not None], bins=24, color="#4f7cac")
        axes.set(xlabel=name)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylabel("scans" if name.startswith("volume") else "")
        axes.spines[["top", "right"]].set_visible(False)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()
