"""Fill holes in several contrasts of the same patients, with the harmonic fill beside, and print a table.

    python Testing/contrasts.py FOLDER OUTPUT.csv --patients 07 26 --contrasts T1 T1POST T2 FLAIR --radius 12

The folder has the files patient07_T1.nii.gz and so on, all contrasts of a patient on one grid, and masks/ with the
patients' lesions (patient07_consensus.nii.gz). The holes are lumpy ellipsoids and the lesions of another patient, the
same in all contrasts, at least 4 mm from the patient's own lesions. They hold a lesion, bright in T2 and FLAIR. Each
contrast is filled alone, with an alignment of its own, and together with the others; the first one leads. The seconds
are those of the processor. An interrupted run continues from the table.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from MedInpaintLib import Settings, inpaint, inpaint_together
from MedInpaintLib.blending.poisson import harmonic_fill
from MedInpaintLib.evaluation.holes.shapes import lumpy_ellipsoid
from MedInpaintLib.evaluation.holes.stamp import stamp_lesion
from MedInpaintLib.evaluation.holes.subjects import read_subject
from MedInpaintLib.models.registry import find_model
from MedInpaintLib.report.measures import brain_range, psnr
from MedInpaintLib.volumes.image import like, scan_values, spacing_zyx
from MedInpaintLib.volumes.read import read_image
from scipy import ndimage

FAR = 4.0  # mm from the patient's own lesions
BRIGHT = "T2", "FLAIR"  # contrasts in which lesions are bright
FILLS = "harmonic", "alone", "together"
COLUMNS = (
    "patient", "contrast", "hole", *FILLS, "seconds_alone", "seconds_together", "looks_like", "quality", "moved",
    "warnings",
)  # fmt: skip


def main() -> None:
    """Parse the arguments, fill every hole in every contrast, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--patients", nargs="+", default=["07", "26"])
    parser.add_argument("--contrasts", nargs="+", default=["T1", "T1POST", "T2", "FLAIR"])
    parser.add_argument("--radius", type=float, default=12, help="of the ellipsoids, mm (default: %(default)s)")
    parser.add_argument("--ellipsoids", type=int, default=2, help="in each patient (default: %(default)s)")
    parser.add_argument("--lesions-of", nargs="+", default=["03"], help="patients (default: 03)")
    parser.add_argument("--model", default=Settings().model)
    args = parser.parse_args()
    rows = list(csv.DictReader(args.output.open())) if args.output.exists() else []
    done = {(row["patient"], row["hole"]) for row in rows}
    with args.output.open("a", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        if not rows:
            table.writeheader()
        for patient in args.patients:
            for hole, voxels, brain in holes_of(patient, args):
                if (patient, hole) in done:
                    continue
                scans = {name: read_image(args.folder / f"patient{patient}_{name}.nii.gz") for name in args.contrasts}
                for contrast, row in fill(scans, voxels, brain, args.model).items():
                    rows.append({"patient": patient, "contrast": contrast, "hole": hole, **row})
                    print(*rows[-1].values(), sep="  ", flush=True)
                table.writerows(rows[-len(scans) :])
                file.flush()
    for contrast in args.contrasts:
        found = [row for row in rows if row["contrast"] == contrast]
        psnrs = np.array([[float(row[fill]) for fill in FILLS] for row in found])
        gain = psnrs[:, 2] - psnrs[:, 1]
        medians = ", ".join(f"{name} {value:.2f} dB" for name, value in zip(FILLS, np.median(psnrs, 0), strict=True))
        print(f"{contrast}: n = {len(found)}, {medians}; gain {np.median(gain):+.2f} dB, worst {gain.min():+.2f} dB")


def holes_of(patient: str, args: argparse.Namespace) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """The names and the voxels, bool (z, y, x), of a patient's holes, and the brain."""
    masks = args.folder / "masks"
    own, *others = (
        sitk.GetArrayFromImage(read_image(masks / f"patient{name}_consensus.nii.gz")) > 0
        for name in (patient, *args.lesions_of)
    )
    subject = read_subject(args.folder / f"patient{patient}_T1.nii.gz", find_model(args.model).template())
    spacing = spacing_zyx(subject.scan)
    healthy = subject.brain & (ndimage.distance_transform_edt(~own, sampling=spacing) > FAR)
    holes = [
        (f"ellipsoid{args.radius:g}-{n}", lumpy_ellipsoid(healthy, spacing, args.radius, random(patient, n)))
        for n in range(args.ellipsoids)
    ]
    holes += [(f"lesions-{name}", mask & healthy) for name, mask in zip(args.lesions_of, others, strict=True)]
    return [(name, voxels, subject.brain) for name, voxels in holes]


def fill(scans: dict[str, sitk.Image], hole: np.ndarray, brain: np.ndarray, model: str) -> dict[str, dict[str, str]]:
    """For each contrast, the PSNR in the hole of all fills, their seconds, and what the report says."""
    settings = Settings(model=model, device="cpu")
    lesioned = {
        name: stamp_lesion(scan, brain, hole, random("content", 0), name in BRIGHT) for name, scan in scans.items()
    }
    masks = [like(scan, hole.astype(np.uint8)) for scan in scans.values()]
    began = time.process_time()
    together = inpaint_together(list(lesioned.values()), [masks[0]] + [None] * (len(scans) - 1), settings)
    whole = time.process_time() - began
    rows = {}
    for (name, scan), mask, joint in zip(scans.items(), masks, together, strict=True):
        began = time.process_time()
        alone = inpaint(lesioned[name], mask, settings)
        took = time.process_time() - began
        truth, spacing = scan_values(scan, hole), spacing_zyx(scan)
        smooth = truth.copy()
        smooth[hole] = harmonic_fill(scan_values(lesioned[name], hole), hole, spacing)
        filled = [smooth, *(sitk.GetArrayFromImage(result.image).astype(np.float32) for result in (alone, joint))]
        scale = brain_range(truth, brain)
        rows[name] = {
            **{
                fill: f"{psnr(truth, np.where(hole, each, truth), hole, scale):.2f}"
                for fill, each in zip(FILLS, filled, strict=True)
            },
            "seconds_alone": f"{took:.1f}",
            "seconds_together": f"{whole:.1f}",
            "looks_like": joint.report["contrast"]["name"],
            "quality": f"{joint.report['alignment']['quality']:.2f}",
            "moved": f"{joint.report['together']['moved_mm']:.2f}",
            "warnings": " ".join(joint.report["warnings"]),
        }
    return rows


def random(word: str, number: int) -> np.random.Generator:
    """A random generator for a word and a number."""
    return np.random.default_rng([*word.encode(), number])


if __name__ == "__main__":
    main()
