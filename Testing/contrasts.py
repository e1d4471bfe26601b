"""Fill holes in several contrasts of the same patients, with other fills beside, and print tables.

    python Testing/contrasts.py FOLDER OUTPUT.csv --patients 07 26 --contrasts T1 T1POST T2 FLAIR

The folder has the files patient07_T1.nii.gz and so on, all contrasts of a patient on one grid, and masks/ with the
patients' lesions (patient07_consensus.nii.gz). The holes are lumpy ellipsoids of several radii and the lesions of other
patients, the same in all contrasts, at least 4 mm from the patient's own lesions. They hold a lesion, bright in T2 and
FLAIR. The fills are

- harmonic,
- niftyseg, if `seg_FillLesions` is on the PATH, in the lesions and in one size of ellipsoids,
- alone: each contrast with an alignment of its own,
- together: all contrasts with one anatomy; the first one leads.

Each row of the table is one fill of one hole. The seconds are those of the processor; of fills together, an equal share
of all. An interrupted run continues from the table. Fills can be left out and added by a later run (`--fills`).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from MedInpaintLib import Settings, inpaint, inpaint_together
from MedInpaintLib.blending.poisson import harmonic_fill
from MedInpaintLib.evaluation.fills.niftyseg import fill_lesions, is_installed
from MedInpaintLib.evaluation.holes.shapes import lumpy_ellipsoid
from MedInpaintLib.evaluation.holes.stamp import stamp_lesion
from MedInpaintLib.evaluation.holes.subjects import read_subject
from MedInpaintLib.evaluation.measures.quality import ssim
from MedInpaintLib.evaluation.tables.text import markdown
from MedInpaintLib.models.registry import find_model
from MedInpaintLib.report.measures import brain_range, psnr
from MedInpaintLib.volumes.image import like, scan_values, spacing_zyx, with_voxels
from MedInpaintLib.volumes.read import read_image
from scipy import ndimage

FAR = 4.0  # mm from the patient's own lesions
BRIGHT = "T2", "FLAIR"  # contrasts in which lesions are bright
FILLS = "harmonic", "niftyseg", "alone", "together"
NIFTYSEG_LIMIT = 300.0  # seconds a fill
WORSE = 0.3  # dB; a larger loss is counted
COLUMNS = (
    "patient", "contrast", "kind", "hole", "voxels", "fill", "psnr", "ssim", "seconds", "looks_like", "quality",
    "moved", "warnings",
)  # fmt: skip
Row = Mapping[str, str]


@dataclass(frozen=True)
class Hole:
    """A hole in a patient's scans: its kind (such as "12 mm"), its name and its voxels, bool (z, y, x)."""

    kind: str
    name: str
    voxels: np.ndarray


@dataclass(frozen=True)
class Patient:
    """Scans on one grid by the names of their contrasts; bool (z, y, x): the brain, and the brain far from lesions."""

    name: str
    scans: dict[str, sitk.Image]
    brain: np.ndarray
    healthy: np.ndarray


def main() -> None:
    """Parse the arguments, fill every hole in every contrast, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--patients", nargs="+", default=["07", "26"])
    parser.add_argument("--contrasts", nargs="+", default=["T1", "T1POST", "T2", "FLAIR"])
    parser.add_argument("--radii", nargs="*", type=float, default=[4, 8, 12, 20], help="mm (default: 4 8 12 20)")
    parser.add_argument("--ellipsoids", type=int, default=2, help="of each radius (default: %(default)s)")
    parser.add_argument("--lesions-of", nargs="*", default=["03", "02"], help="patients (default: 03 02)")
    parser.add_argument("--fills", nargs="+", choices=FILLS, default=FILLS)
    parser.add_argument("--niftyseg-radius", type=float, default=12, help="mm (default: %(default)s)")
    parser.add_argument("--model", default=Settings().model)
    args = parser.parse_args()
    rows = list(csv.DictReader(args.output.open())) if args.output.exists() else []
    chosen = [fill for fill in args.fills if fill != "niftyseg" or is_installed()]
    niftyseg_kinds = kind_of(args.niftyseg_radius), "lesions"
    with args.output.open("a", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        if not rows:
            table.writeheader()
        for name in args.patients:
            patient = read_patient(args.folder, name, args.contrasts, args.model)
            for hole in holes_of(patient, args.folder, args.radii, args.ellipsoids, args.lesions_of):
                done = {row["fill"] for row in rows if (row["patient"], row["hole"]) == (name, hole.name)}
                for fill in chosen:
                    if fill in done or (fill == "niftyseg" and hole.kind not in niftyseg_kinds):
                        continue
                    new = list(fill_and_measure(patient, hole, fill, args.model))
                    print(*("  ".join(row.values()) for row in new), sep="\n", flush=True)
                    table.writerows(new)
                    rows += new
                    file.flush()
    for contrast in args.contrasts:
        print(f"\n{contrast}\n\n{summary([row for row in rows if row['contrast'] == contrast])}")


def read_patient(folder: Path, name: str, contrasts: Sequence[str], model: str) -> Patient:
    """A patient from the folder."""
    scans = {contrast: read_image(folder / f"patient{name}_{contrast}.nii.gz") for contrast in contrasts}
    subject = read_subject(folder / f"patient{name}_T1.nii.gz", find_model(model).template())
    distance = ndimage.distance_transform_edt(~read_lesions(folder, name), sampling=spacing_zyx(subject.scan))
    return Patient(name, scans, subject.brain, subject.brain & (distance > FAR))


def read_lesions(folder: Path, name: str) -> np.ndarray:
    """The lesions of a patient, bool (z, y, x)."""
    return sitk.GetArrayFromImage(read_image(folder / "masks" / f"patient{name}_consensus.nii.gz")) > 0


def holes_of(
    patient: Patient, folder: Path, radii: Iterable[float], count: int, lesions_of: Iterable[str]
) -> Iterator[Hole]:
    """Lumpy ellipsoids of these radii (mm), this many each, and the lesions of other patients."""
    spacing = spacing_zyx(next(iter(patient.scans.values())))
    for radius in radii:
        for n in range(count):
            voxels = lumpy_ellipsoid(patient.healthy, spacing, radius, random(patient.name, n))
            yield Hole(kind_of(radius), f"ellipsoid{radius:g}-{n}", voxels)
    for name in lesions_of:
        yield Hole("lesions", f"lesions-{name}", read_lesions(folder, name) & patient.healthy)


def kind_of(radius: float) -> str:
    """The kind of an ellipsoid of this radius."""
    return f"{radius:g} mm"


def lesion_in(patient: Patient, hole: Hole, contrast: str) -> sitk.Image:
    """The scan with a lesion in the hole."""
    content = random("content", 0)
    return stamp_lesion(patient.scans[contrast], patient.brain, hole.voxels, content, contrast in BRIGHT)


def fill_and_measure(patient: Patient, hole: Hole, fill: str, model: str) -> Iterator[dict[str, str]]:
    """A row for each contrast of a patient, whose hole is filled."""
    settings = Settings(model=model, device="cpu")
    scans = {contrast: lesion_in(patient, hole, contrast) for contrast in patient.scans}
    first = next(iter(scans.values()))
    mask = like(first, hole.voxels.astype(np.uint8))
    spacing = spacing_zyx(first)
    began = time.process_time()
    joint = []
    if fill == "together":
        joint = inpaint_together(list(scans.values()), [mask] + [None] * (len(scans) - 1), settings)
        share = (time.process_time() - began) / len(scans)
    for n, (contrast, scan) in enumerate(scans.items()):
        began, report = time.process_time(), None
        if fill == "harmonic":
            image = with_voxels(scan, harmonic_fill(scan_values(scan, hole.voxels), hole.voxels, spacing), hole.voxels)
        elif fill == "niftyseg":
            wall = time.perf_counter()
            values = fill_lesions(scan, hole.voxels, NIFTYSEG_LIMIT)
            began -= time.perf_counter() - wall  # it is another process
            image = with_voxels(scan, values, hole.voxels) if np.isfinite(values).all() else None
        else:
            result = joint[n] if joint else inpaint(scan, like(scan, hole.voxels.astype(np.uint8)), settings)
            image, report = result.image, result.report
        seconds = share if joint else time.process_time() - began
        quality = measure(patient, contrast, hole, image)
        yield {
            "patient": patient.name, "contrast": contrast, "kind": hole.kind, "hole": hole.name,
            "voxels": str(np.count_nonzero(hole.voxels)), "fill": fill,
            **{name: f"{value:.3f}" for name, value in quality.items()},
            "seconds": f"{seconds:.1f}", **said(report),
        }  # fmt: skip


def measure(patient: Patient, contrast: str, hole: Hole, image: sitk.Image | None) -> dict[str, float]:
    """PSNR (dB) and SSIM of a filled scan in the hole; NaN without a scan."""
    if image is None:
        return {"psnr": np.nan, "ssim": np.nan}
    truth = scan_values(patient.scans[contrast], hole.voxels)
    filled = np.where(hole.voxels, sitk.GetArrayFromImage(image).astype(np.float32), truth)
    scale = brain_range(truth, patient.brain)
    return {name: f(truth, filled, hole.voxels, scale) for name, f in (("psnr", psnr), ("ssim", ssim))}


def said(report: dict | None) -> dict[str, str]:
    """What the report says, for the table."""
    if report is None:
        return dict.fromkeys(("looks_like", "quality", "moved", "warnings"), "")
    return {
        "looks_like": report["contrast"]["name"],
        "quality": f"{report['alignment']['quality']:.2f}",
        "moved": f"{report['together']['moved_mm']:.2f}" if "together" in report else "",
        "warnings": " ".join(report["warnings"]),
    }


def summary(rows: Sequence[Row]) -> str:
    """The table of one contrast: a line for each kind of hole, medians, and how the fills differ hole by hole."""
    values: dict[str, dict[tuple[str, str], dict[str, tuple[float, float]]]] = {}
    for row in rows:
        holes = values.setdefault(row["kind"], {})
        holes.setdefault((row["patient"], row["hole"]), {})[row["fill"]] = float(row["psnr"]), float(row["ssim"])
    pairs = (("alone", "harmonic"), ("together", "harmonic"), ("together", "alone"), ("alone", "niftyseg"))
    heading = ["hole", "n", *FILLS, *(f"{one} against {other}" for one, other in pairs)]
    lines = []
    for kind, by_hole in values.items():
        holes = list(by_hole.values())
        medians = []
        for fill in FILLS:
            found = np.array([hole[fill] for hole in holes if fill in hole and np.isfinite(hole[fill]).all()])
            psnrs, ssims = np.median(found, axis=0) if len(found) else (np.nan, np.nan)
            part = f" (n = {len(found)})" if 0 < len(found) < len(holes) else ""
            medians.append(f"{psnrs:.1f} / {ssims:.2f}{part}" if len(found) else "")
        gains = (
            [hole[a][0] - hole[b][0] for hole in holes if a in hole and b in hole and np.isfinite(hole[b][0])]
            for a, b in pairs
        )
        lines.append([kind, str(len(holes)), *medians, *map(gain_text, gains)])
    return markdown(heading, lines)


def gain_text(gains: Sequence[float]) -> str:
    """Median and worst of differences in dB, and how many are a loss of more than 0.3 dB."""
    if not gains:
        return ""
    losses = sum(gain < -WORSE for gain in gains)
    return f"{np.median(gains):+.1f} dB, worst {min(gains):+.1f}" + (
        f", below -{WORSE:g} in {losses}" if losses else ""
    )


def random(word: str, number: int) -> np.random.Generator:
    """A random generator for a word and a number."""
    return np.random.default_rng([*word.encode(), number])


if __name__ == "__main__":
    main()
