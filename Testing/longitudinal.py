"""Fill the same lesion in two scans of a head in which nothing changed, and compare the two fills.

    python Testing/longitudinal.py FOLDER OUTPUT.csv --patients 07 26

The folder is that of `contrasts.py`, and so are the holes. The pairs of scans are

- agent: T1 before and after contrast agent, two real acquisitions minutes apart;
- T1 moved, FLAIR moved: the scan, and the same with the head turned by 3 degrees, shifted, and with noise of its own;
- T1 grown: the scan, and the same with noise of its own and a mask that is 3 mm larger all around;
- agent new, T1 new, FLAIR new: as agent, T1 moved and FLAIR moved, but the first scan has its lesion elsewhere.

Both scans are filled alone, each with an alignment of its own, and together. The second scan is brought to the grid and
to the intensities (gain and offset) of the first one. The table has root mean square differences in percent of the full
scale of the first scan: of the two scans in known tissue 2 to 10 mm beside the hole, without the few voxels that differ
most, such as vessels with contrast agent; of the two scans in the hole, where they have no lesion; and of the two fills
in the hole. For the grown mask and the new lesion it has the error of the second fill in the voxels that only the
second mask covers; the first scan shows them.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from contrasts import BRIGHT, Hole, Patient, holes_of, random, read_patient
from MedInpaintLib import Settings, inpaint, inpaint_together
from MedInpaintLib.blending.noise import robust_deviation, second_differences
from MedInpaintLib.evaluation.holes.shapes import lumpy_ellipsoid
from MedInpaintLib.evaluation.holes.stamp import stamp_lesion
from MedInpaintLib.evaluation.tables.text import markdown
from MedInpaintLib.report.measures import brain_range
from MedInpaintLib.space.resampling import resample_mask
from MedInpaintLib.volumes.image import like, spacing_zyx
from MedInpaintLib.volumes.mask import enlarge
from scipy import ndimage

PAIRS = "agent", "T1 moved", "FLAIR moved", "T1 grown", "agent new", "T1 new", "FLAIR new"
TURN, SHIFT = np.deg2rad(3.0), (1.5, -1.0, 2.0)  # of the moved head, about its middle; mm
GROWN = 3.0  # mm
ELSEWHERE = 10.0  # mm from the new lesion
BESIDE = 2.0, 10.0  # mm from the hole
OUTLIER = 3.0  # robust standard deviations
COLUMNS = "patient", "pair", "hole", "beside", "inside", "alone", "together", "moved_mm"


@dataclass(frozen=True)
class Pair:
    """Two scans of a head with a lesion, the same without, masks, and the rigid motion from the first to the second."""

    scans: tuple[sitk.Image, sitk.Image]
    healthy: tuple[sitk.Image, sitk.Image]
    masks: tuple[sitk.Image, sitk.Image]
    motion: sitk.Transform


def main() -> None:
    """Parse the arguments, fill all pairs, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--patients", nargs="+", default=["07", "26"])
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=PAIRS)
    parser.add_argument("--radii", nargs="*", type=float, default=[8, 12], help="of the ellipsoids, mm (default: 8 12)")
    parser.add_argument("--ellipsoids", type=int, default=1, help="of each radius (default: %(default)s)")
    parser.add_argument("--lesions-of", nargs="*", default=["03"], help="patients (default: 03)")
    args = parser.parse_args()
    rows = list(csv.DictReader(args.output.open())) if args.output.exists() else []
    done = {(row["patient"], row["pair"], row["hole"]) for row in rows}
    with args.output.open("a", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        if not rows:
            table.writeheader()
        for name in args.patients:
            patient = read_patient(args.folder, name, ("T1", "T1POST", "FLAIR"), Settings().model)
            for hole in holes_of(patient, args.folder, args.radii, args.ellipsoids, args.lesions_of):
                for pair in args.pairs:
                    if (name, pair, hole.name) in done:
                        continue
                    measured = {key: f"{value:.2f}" for key, value in measure(patient, hole, pair).items()}
                    rows.append({"patient": name, "pair": pair, "hole": hole.name, **measured})
                    print(*rows[-1].values(), sep="  ", flush=True)
                    table.writerow(rows[-1])
                    file.flush()
    print(summary(rows))


def measure(patient: Patient, hole: Hole, name: str) -> dict[str, float]:
    """The numbers of a row."""
    settings = Settings(device="cpu")
    pair = make_pair(patient, hole, name)
    first = pair.scans[0]
    # What only the second mask covers was known in the first scan. Elsewhere the voxels compared lie in both masks.
    one, other = (resample_mask(mask, first, motion) for mask, motion in zip(pair.masks, motions(pair), strict=True))
    compared = other & ~one if name.endswith(("grown", "new")) else one & other
    away = ndimage.distance_transform_edt(~(one | other), sampling=spacing_zyx(first))
    beside = patient.healthy & (away > BESIDE[0]) & (away < BESIDE[1])
    together = inpaint_together(pair.scans, pair.masks, settings)
    alone = [inpaint(scan, mask, settings) for scan, mask in zip(pair.scans, pair.masks, strict=True)]
    scale = brain_range(voxels(first), patient.brain)
    ways = {
        "inside": pair.healthy,
        "alone": [each.image for each in alone],
        "together": [each.image for each in together],
    }
    result = {"beside": root_mean_square(residuals(*on_first(pair, pair.scans), beside)[0]) * 100 / scale}
    for way, images in ways.items():
        _, difference = residuals(*on_first(pair, images), beside)
        result[way] = root_mean_square(difference[compared]) * 100 / scale
    return {**result, "moved_mm": together[1].report["together"]["moved_mm"]}


def make_pair(patient: Patient, hole: Hole, name: str) -> Pair:
    """A pair of this name with lesions in its holes."""
    contrast = "FLAIR" if name.startswith("FLAIR") else "T1"
    healthy = sitk.Cast(patient.scans[contrast], sitk.sitkFloat32)
    motion, brain, voxels_here, voxels_there = sitk.Transform(), patient.brain, hole.voxels, hole.voxels
    if name.endswith("new"):
        far = ndimage.distance_transform_edt(~hole.voxels, sampling=spacing_zyx(healthy)) > ELSEWHERE
        voxels_here = lumpy_ellipsoid(patient.healthy & far, spacing_zyx(healthy), 6, random(patient.name, 0))
    if name.startswith("agent"):
        second = sitk.Cast(patient.scans["T1POST"], sitk.sitkFloat32)
    else:
        second = with_noise(healthy, patient, hole)
    if name == "T1 grown":
        voxels_there = enlarge(hole.voxels, patient.healthy, spacing_zyx(healthy), GROWN)
    if name in ("T1 moved", "FLAIR moved", "T1 new", "FLAIR new"):
        middle = healthy.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in healthy.GetSize()])
        motion = sitk.Euler3DTransform(middle, TURN, TURN / 2, -TURN / 2, SHIFT)
        there = motion.GetInverse()
        moved = sitk.Resample(second, second, there, sitk.sitkBSpline, 0.0)
        tissue, brain, voxels_there = (
            resample_mask(like(second, mask.astype(np.uint8)), second, there)
            for mask in (voxels(healthy) > 0, patient.brain, hole.voxels)
        )
        second = like(second, np.where(tissue, voxels(moved), 0))
    masks = tuple(like(healthy, each.astype(np.uint8)) for each in (voxels_here, voxels_there))
    bright = contrast in BRIGHT
    scans = tuple(
        stamp_lesion(scan, inside, lesion, random("content", 0), bright)
        for scan, inside, lesion in ((healthy, patient.brain, voxels_here), (second, brain, voxels_there))
    )
    return Pair(scans, (healthy, second), masks, motion)


def with_noise(scan: sitk.Image, patient: Patient, hole: Hole) -> sitk.Image:
    """The scan with noise added that is as strong as its own."""
    values = voxels(scan)
    level = robust_deviation(second_differences(values)[patient.brain & ~hole.voxels])
    noise = level * random("noise", 0).standard_normal(values.shape)
    return like(scan, np.where(values > 0, values + noise, values).astype(np.float32))


def motions(pair: Pair) -> Iterator[sitk.Transform]:
    """From the first scan to each scan."""
    yield sitk.Transform()
    yield pair.motion


def on_first(pair: Pair, images: list[sitk.Image] | tuple[sitk.Image, ...]) -> list[np.ndarray]:
    """The voxels of both images on the grid of the first one, float32 (z, y, x)."""
    first, second = (sitk.Cast(image, sitk.sitkFloat32) for image in images)
    if pair.motion.GetName() != sitk.Transform().GetName():
        second = sitk.Resample(second, first, pair.motion, sitk.sitkBSpline, 0.0)
    return [voxels(image) for image in (first, second)]


def residuals(first: np.ndarray, second: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First minus second, after gain and offset of the second are fitted beside the hole.

    Returns the difference there (n,), without outliers, and that of all voxels (z, y, x).
    """
    one, other = first[beside].astype(np.float64), second[beside].astype(np.float64)
    kept = np.ones(len(one), bool)
    for _ in range(3):
        gain, offset = np.polyfit(other[kept], one[kept], 1)
        difference = one - gain * other - offset
        kept = np.abs(difference) < OUTLIER * 1.4826 * np.median(np.abs(difference))
    return difference[kept], first - gain * second - offset


def root_mean_square(values: np.ndarray) -> float:
    """Of any array."""
    return float(np.sqrt(np.mean(np.square(values))))


def voxels(image: sitk.Image) -> np.ndarray:
    """Float32 (z, y, x)."""
    return sitk.GetArrayFromImage(image).astype(np.float32)


def summary(rows: list[dict[str, str]]) -> str:
    """The medians of each pair."""
    lines = []
    for pair in dict.fromkeys(row["pair"] for row in rows):
        found = [row for row in rows if row["pair"] == pair]
        medians = (
            np.median([float(row[column]) for row in found]) for column in ("beside", "inside", "alone", "together")
        )
        better = sum(float(row["together"]) < float(row["alone"]) for row in found)
        lines.append([pair, str(len(found)), *(f"{median:.1f} %" for median in medians), f"{better} of {len(found)}"])
    return markdown(
        ("pair", "n", "scans beside the hole", "scans in the hole", "alone", "together", "smaller together"), lines
    )


if __name__ == "__main__":
    main()
