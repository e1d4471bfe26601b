"""Fill holes in several contrasts of the same patients, with the harmonic fill beside, and print a table.

    python Testing/contrasts.py FOLDER OUTPUT.csv --patients 07 26 --contrasts T1 T1POST T2 FLAIR --radius 12

The folder has the files patient07_T1.nii.gz and so on, all contrasts of a patient on one grid, and masks/ with the
patients' lesions (patient07_consensus.nii.gz). The holes are lumpy ellipsoids and the lesions of another patient, the
same in all contrasts, at least 4 mm from the patient's own lesions. They hold a lesion, bright in T2 and FLAIR. The
alignment of each contrast is its own. An interrupted run continues from the table.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from MedInpaintLib import Settings, inpaint
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
COLUMNS = "patient", "contrast", "hole", "harmonic", "medinpaint", "looks_like", "quality", "warnings"


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
    done = {(row["patient"], row["contrast"], row["hole"]) for row in rows}
    with args.output.open("a", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        if not rows:
            table.writeheader()
        for patient in args.patients:
            for hole, voxels, brain in holes_of(patient, args):
                for contrast in args.contrasts:
                    if (patient, contrast, hole) not in done:
                        scan = read_image(args.folder / f"patient{patient}_{contrast}.nii.gz")
                        row = fill(scan, voxels, brain, contrast in BRIGHT, args.model)
                        rows.append({"patient": patient, "contrast": contrast, "hole": hole, **row})
                        table.writerow(rows[-1])
                        file.flush()
                        print(*rows[-1].values(), sep="  ", flush=True)
    for contrast in args.contrasts:
        found = [row for row in rows if row["contrast"] == contrast]
        both = np.array([[float(row[fill]) for fill in ("harmonic", "medinpaint")] for row in found])
        gain = both[:, 1] - both[:, 0]
        print(
            f"{contrast}: n = {len(found)}, harmonic {np.median(both[:, 0]):.2f} dB, MedInpaint "
            f"{np.median(both[:, 1]):.2f} dB, gain {np.median(gain):+.2f} dB, worst {gain.min():+.2f} dB"
        )


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


def fill(scan: sitk.Image, hole: np.ndarray, brain: np.ndarray, bright: bool, model: str) -> dict[str, str]:
    """The PSNR in the hole of both fills, and what the report says."""
    truth, spacing = scan_values(scan, hole), spacing_zyx(scan)
    lesioned = stamp_lesion(scan, brain, hole, random("content", 0), bright)
    result = inpaint(lesioned, like(scan, hole.astype(np.uint8)), Settings(model=model, device="cpu"))
    smooth = truth.copy()
    smooth[hole] = harmonic_fill(scan_values(lesioned, hole), hole, spacing)
    scale = brain_range(truth, brain)
    return {
        "harmonic": f"{psnr(truth, smooth, hole, scale):.2f}",
        "medinpaint": f"{psnr(truth, scan_values(result.image, hole), hole, scale):.2f}",
        "looks_like": result.report["contrast"]["name"],
        "quality": f"{result.report['alignment']['quality']:.2f}",
        "warnings": " ".join(result.report["warnings"]),
    }


def random(word: str, number: int) -> np.random.Generator:
    """A random generator for a word and a number."""
    return np.random.default_rng([*word.encode(), number])


if __name__ == "__main__":
    main()
