"""What `medinpaint downstream` writes: tables, a section in Markdown, and pictures of the tissue classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from ..settings import Settings
from ..volumes.image import like, scan_values
from ..volumes.write import replacing
from .figures.pictures import View, show
from .measures.tissue import TISSUES, Tissue
from .tables.rows import markdown

SECTION = "downstream.md"
AROUND = 10.0  # mm round the lesions in which the registration is measured
PANEL, TITLE = 2.3, 0.25  # inches: a picture's side, the line above it
DOTS = 90  # an inch
CLASS_COLOURS = ("black", "#2f6db5", "#8a8f94", "#f4f1e6")  # outside, CSF, GM, WM
OUTLINE = "#ffb000"
WHITE = 99.0  # percentile of the brain's intensities that is shown white
METHOD = """\
Tissue classes are those of a Gaussian mixture of three classes with a Markov random field (HMRF-EM, Zhang et al. 2001),
after N4 without the lesions. Unfilled: the scan as it is. Harmonic: the smoothest continuation in 3-D."""
FOLLOW_UPS = """\
Healthy scans with the patients' lesions, at the same place of the brain and as dark; the truth is the healthy scan,
"no lesions". Volume errors are of the whole brain. For the registration, the fixed image is the healthy scan deformed
by a random B-spline (4 mm on average), the moving image the scan with lesions, unfilled or filled; the method is demons
with symmetric forces (Vercauteren et al. 2007), the error is how far it misses the known deformation on average."""


@dataclass(frozen=True)
class PatientRow:
    """One version of a patient's scan.

    Attributes:
        patient, version: names.
        lesion_ml: volume of the lesions.
        shares: of the lesions' voxels in each class.
        volumes: ml of each class in the brain.
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
        same: share of the lesions' voxels that have the healthy scan's class.
        white: of those that are WM in the healthy scan, the share that is WM here; grey: of GM. None if there are none.
        volume_errors: ml of each class in the brain minus the healthy scan's.
        registration: mean error (mm) in the "lesions", and "around": in the lesions and the brain 10 mm about them.
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
    """What was measured and drawn so far, with which settings and by which command."""

    settings: Settings
    command: str
    rows: list[PatientRow] = field(default_factory=list)
    follow_ups: list[FollowUpRow] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write all that is known by now, so that an interruption loses little."""
        figures = {"settings": self.settings.to_dict()}
        figures |= {
            "patients": [asdict(row) for row in self.rows],
            "follow_ups": [asdict(row) for row in self.follow_ups],
        }
        with replacing(folder / "downstream.json") as temporary:
            temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        with replacing(folder / SECTION) as temporary:
            temporary.write_text(self.section() + "\n", encoding="utf-8")

    def tables(self) -> str:
        """The tables, in Markdown."""
        made = [patient_table(self.rows)] + ([follow_up_table(self.follow_ups)] if self.follow_ups else [])
        return "\n\n".join(markdown(*each) for each in made)

    def section(self) -> str:
        """The section in Markdown; it shows the pictures, which lie beside it."""
        parts = ["## What filling does for the tools that follow", f"```\n{self.command}\n```"]
        parts += [METHOD, markdown(*patient_table(self.rows))]
        if self.follow_ups:
            parts += [FOLLOW_UPS, markdown(*follow_up_table(self.follow_ups))]
        parts += [f"![Tissue classes, {path.stem.split('_', 1)[1]}]({path.name})" for path in self.pictures]
        return "\n\n".join(parts)


def patient_table(rows: Sequence[PatientRow]) -> tuple[list[str], list[list[str]]]:
    """Heading and lines: of each version the lesions' classes, and the brain's volumes against the first version's."""
    heading = ["lesions of", "version", *(f"{name}, % of them" for name in TISSUES)]
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
    """Heading and lines: of each patient's lesions and version the means over the healthy scans."""
    heading = ["lesions of", "version", "right class, % of them", "% of their true WM", "% of their true GM"]
    heading += [f"error in {name}, ml" for name in TISSUES]
    heading += ["registration error in them, mm", f"and {AROUND:g} mm about them, mm"]
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


def draw_tissues(
    folder: Path,
    name: str,
    lesions: NDArray[np.bool_],
    images: Mapping[str, sitk.Image],
    tissues: Mapping[str, Tissue],
) -> Path:
    """Draw the axial slice with most of the largest lesion, close up: each version, its tissue classes below it.

    Args:
        folder: where the picture, a PNG, is written.
        name: of the case, above all.
        lesions: bool (z, y, x) on the images' grid; outlined in every picture.
        images: the versions by their names.
        tissues: their classes.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    scan = next(iter(images.values()))
    pieces, _ = ndimage.label(lesions, np.ones((3, 3, 3)))
    largest = upright(scan, (pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()).astype(np.uint8))
    plane = int(largest.sum(axis=(1, 2)).argmax())
    values = scan_values(scan, lesions)
    brain = next(iter(tissues.values())).labels > 0
    sides = np.array(sitk.DICOMOrient(scan, "LPS").GetSpacing()[1::-1])
    white = float(np.percentile(values[brain], WHITE))
    view = View(upright(scan, values)[plane], largest[plane].astype(np.int32) - 1, sides, white)
    window = view.close_up()
    outline = upright(scan, lesions.astype(np.uint8))[plane][window]

    figure = Figure(figsize=(PANEL * len(images), 2 * PANEL + 2 * TITLE), layout="constrained")
    figure.suptitle(name, fontsize=9)
    places = figure.subplots(2, len(images), squeeze=False)
    colours = ListedColormap(CLASS_COLOURS)
    for column, (version, image) in enumerate(images.items()):
        top, below = places[:, column]
        top.set_title(version, fontsize=8)
        show(top, upright(scan, scan_values(image, lesions))[plane][window], view)
        labels = upright(scan, tissues[version].labels)[plane][window]
        below.imshow(labels, cmap=colours, vmin=0, vmax=3, interpolation="nearest", aspect=sides[0] / sides[1])
        for axes in (top, below):
            axes.set_axis_off()
            axes.contour(outline, levels=[0.5], colors=OUTLINE, linewidths=0.8)
    path = folder / f"downstream_{name}.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS)
    return path


def upright(scan: sitk.Image, array: NDArray) -> NDArray:
    """An array of the scan's grid (z, y, x), axes flipped and swapped to run along superior, posterior, left."""
    return sitk.GetArrayFromImage(sitk.DICOMOrient(like(scan, array), "LPS"))
