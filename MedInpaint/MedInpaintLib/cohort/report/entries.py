"""What the output folder holds: the scans that were filled, with their reports, and those that were not."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..resume import read_sidecar
from ..scans import Results, Scan, entities_of, sidecar


@dataclass(frozen=True)
class Entry:
    """One scan.

    Attributes:
        participant, session: the labels; a session of None if there are no sessions.
        name: as in `Scan`.
        report: of the run that filled it; None if it is not filled.
        results: its files; None if it is not filled.
        together: the contrasts that were filled with one anatomy, this one among them; empty if it was alone.
        problem: why it is not filled, and the traceback if that was unexpected; else empty.
    """

    participant: str
    session: str | None
    name: str
    report: dict | None = None
    results: Results | None = None
    together: tuple[str, ...] = ()
    problem: str = ""
    details: str = ""

    @property
    def contrast(self) -> str:
        """The suffix of the scan, such as "T1w"."""
        return self.name.rpartition("_")[2]

    @property
    def badness(self) -> tuple[int, int, float]:
        """Greater if the scan needs a look sooner."""
        if self.report is None:
            return 2, 0, 0.0
        return int(self.report["alignment"]["poor"]), len(self.report["warnings"]), self.report["seam"] or 0.0


def read_entries(output: Path, participant: str | None = None) -> list[Entry]:
    """The entries of one participant, or of all, sorted by name. A failure hides earlier results of the scan."""
    label = "*" if participant is None else glob.escape(participant)
    found = {entry.name: entry for entry in (*_filled(output, label), *_failed(output, label))}
    return [found[name] for name in sorted(found)]


def _filled(output: Path, label: str) -> Iterator[Entry]:
    for path in output.glob(f"sub-{label}/**/*_desc-lesionfilled_*.json"):
        entities, (stem, _, end) = entities_of(path.name), path.name.partition("_desc-lesionfilled_")
        place = path.parent.relative_to(output).as_posix()
        scan = Scan(entities["sub"], entities.get("ses"), place, stem, end.removesuffix(".json"))
        results = Results(output, scan)
        about = read_sidecar(results)
        if about and sidecar(results.image) == path:
            ours = about["MedInpaint"]
            together = tuple(ours.get("FilledTogether", ()))
            yield Entry(scan.participant, scan.session, scan.name, ours["Report"], results, together)


def _failed(output: Path, label: str) -> Iterator[Entry]:
    for path in (output / "logs" / "failures").glob(f"sub-{label}_*.json"):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            participant, session, problem, details = (
                about[k] for k in ("participant", "session", "message", "details")
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
        yield Entry(participant, session, path.stem, problem=problem, details=details)
