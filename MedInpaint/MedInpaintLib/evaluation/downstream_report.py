"""The results of `medinpaint downstream`: rows, their tables, and a section in Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..settings import Settings
from ..volumes.write import replacing
from .measures.tissue import TISSUES
from .tables.text import markdown

SECTION = "downstream.md"
AROUND = 10.0  # mm; the registration is also measured at this distance around the lesions
METHOD = """\
Tissue classes are those of a Gaussian mixture of three classes with a Markov random field (HMRF-EM, Zhang et al. 2001),
after N4 without the lesions. Unfilled: the scan as it is. Harmonic: the smoothest continuation in 3-D."""
FOLLOW_UPS = """\
Healthy scans with the patients' lesions, in the same place of the brain and equally dark; the truth is the healthy
scan, "no lesions". Volume errors are of the whole brain. For the registration, the fixed image is the healthy scan
deformed by a random B-spline (4 mm on average), and the moving image is the scan with lesions, unfilled or filled. The
method is demons with symmetric forces (Vercauteren et al. 2007); the error is the mean distance to the known
deformation."""


@dataclass(frozen=True)
class PatientRow:
    """One version of a patient's scan.

    Attributes:
        patient, version: names.
        lesion_ml: volume of the lesions.
        shares: share of each class in the voxels of the lesions.
        volumes: volume of each class in the brain, ml.
    """

    patient: str
    version: str
    lesion_ml: float
    shares: dict[str, float]
    volumes: dict[str, float]


@dataclass(frozen=True)
class FollowUpRow:
    """One version of a healthy scan with a patient's lesions.

    Attributes:
        healthy, patient, version: names.
        lesion_ml: volume of the lesions.
        same: share of the lesions' voxels with the class of the healthy scan.
        white, grey: the same share of the voxels that are WM, or GM, in the healthy scan; None if there are none.
        volume_errors: volume of each class in the brain minus that of the healthy scan, ml.
        registration: mean error (mm) in the "lesions", and "around": in the lesions and 10 mm around them.
    """

    healthy: str
    patient: str
    version: str
    lesion_ml: float
    same: float
    white: float | None
    grey: float | None
    volume_errors: dict[str, float]
    registration: dict[str, float]


@dataclass
class Study:
    """The results until now: rows and pictures, with the settings and the command."""

    settings: Settings
    command: str
    rows: list[PatientRow] = field(default_factory=list)
    follow_ups: list[FollowUpRow] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write the results. This is called after every scan, so an interrupted run keeps most results."""
        results = {
            "settings": self.settings.to_dict(),
            "patients": [asdict(row) for row in self.rows],
            "follow_ups": [asdict(row) for row in self.follow_ups],
        }
        with replacing(folder / "downstream.json") as temporary:
            temporary.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        with replacing(folder / SECTION) as temporary:
            temporary.write_text(self.section() + "\n", encoding="utf-8")

    def tables(self) -> str:
        """The tables, in Markdown."""
        tables = [patient_table(self.rows)] + ([follow_up_table(self.follow_ups)] if self.follow_ups else [])
        return "\n\n".join(markdown(*table) for table in tables)

    def section(self) -> str:
        """The section in Markdown. It shows the pictures, which are in the same folder."""
        parts = ["## What filling does for segmentation and registration", f"```\n{self.command}\n```"]
        parts += [METHOD, markdown(*patient_table(self.rows))]
        if self.follow_ups:
            parts += [FOLLOW_UPS, markdown(*follow_up_table(self.follow_ups))]
        parts += [f"![Tissue classes, {path.stem.split('_', 1)[1]}]({path.name})" for path in self.pictures]
        return "\n\n".join(parts)


def patient_table(rows: Sequence[PatientRow]) -> tuple[list[str], list[list[str]]]:
    """Heading and lines: the classes of the lesions and the brain's volumes, with their change to the first version."""
    heading = ["lesions of", "version", *(f"{name}, % of lesions" for name in TISSUES)]
    heading += [f"{name} of the brain, ml" for name in TISSUES]
    lines = []
    unfilled: dict[str, PatientRow] = {}
    for row in rows:
        first = unfilled.setdefault(row.patient, row)
        lines.append([f"{row.patient}, {row.lesion_ml:.1f} ml" if row is first else "", row.version])
        lines[-1] += [f"{100 * share:.0f}" for share in row.shares.values()]
        for name, ml in row.volumes.items():
            lines[-1].append(f"{ml:.1f}" + ("" if row is first else f" ({ml - first.volumes[name]:+.1f})"))
    return heading, lines


def follow_up_table(rows: Sequence[FollowUpRow]) -> tuple[list[str], list[list[str]]]:
    """Heading and lines: means over the healthy scans for each patient's lesions and each version."""
    heading = ["lesions of", "version", "right class, % of lesions", "% of true WM", "% of true GM"]
    heading += [f"error in {name}, ml" for name in TISSUES]
    heading += ["registration error in lesions, mm", f"and {AROUND:g} mm around them, mm"]
    groups: dict[str, dict[str, list[FollowUpRow]]] = {}
    for row in rows:
        groups.setdefault(row.patient, {}).setdefault(row.version, []).append(row)
    lines = []
    for patient, versions in groups.items():
        for number, (version, group) in enumerate(versions.items()):
            lines.append([f"{patient} in {len(group)}" if number == 0 else "", version])
            for name in ("same", "white", "grey"):
                known = [getattr(row, name) for row in group if getattr(row, name) is not None]
                lines[-1].append(f"{100 * np.mean(known):.0f}" if known else "")
            lines[-1] += [f"{np.mean([row.volume_errors[name] for row in group]):+.2f}" for name in TISSUES]
            lines[-1] += [f"{np.mean([row.registration[name] for row in group]):.2f}" for name in ("lesions", "around")]
    return heading, lines
