"""Give `medinpaint run` scans that the models are not made for, and print what a user sees, as a table.

    python Testing/unusual_scans.py FOLDER --real patient26_T2.nii.gz patient26_FLAIR.nii.gz --mask lesions.nii.gz

The scans are made of the sample *Healthy head* and its hole, and written to the folder: a CT, other contrasts, an
inverted scan, parts of the head, heads of a child's size, wrong headers, a knee, a phantom and noise. Where tissue is
known, the table also has the PSNR of the fill and of the harmonic fill in the hole. Further real scans, all on the grid
of one mask, can be given, too. Beside them the table has no PSNR, because their mask marks a lesion.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from MedInpaintLib.blending.poisson import harmonic_fill
from MedInpaintLib.evaluation.holes.subjects import read_subject
from MedInpaintLib.evaluation.tables.text import markdown
from MedInpaintLib.models.registry import find_model
from MedInpaintLib.report.measures import psnr
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.settings import Settings
from MedInpaintLib.volumes.image import like, spacing_zyx
from MedInpaintLib.volumes.read import read_image
from scipy import ndimage

TISSUES = (0, 0.2, 0.5, 0.8, 1.2)  # T1 intensities: nothing, fluid, grey matter, white matter, fat and vessels
CURVES = {
    "T2": (0, 1.6, 0.8, 0.5, 0.6),
    "FLAIR": (0, 0.2, 1.0, 0.6, 0.5),
    "proton density": (0, 0.9, 1.0, 0.8, 0.8),
}
NEWBORN = (0, 0.3, 0.7, 0.5, 1.0)  # T1 intensities before the white matter has its myelin
CT_CURVE = (0, 8, 37, 29, 29)  # HU of the same in the brain
SHELLS = ((3, 10), (9, 1000), (15, 40), (20, -90))  # mm outside the brain, HU: fluid, bone, muscle, fat
AIR = -1000.0


def main() -> None:
    """Make the scans, run the command on each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="scans whose names have one of these words")
    parser.add_argument("--real", nargs="+", type=Path, default=[], help="further scans")
    parser.add_argument("--mask", type=Path, help="of the further scans")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, scan, hole, scale in scans():
        if args.only and not any(word in name for word in args.only):
            continue
        image, mask = (args.folder / f"{name.replace(' ', '_')}_{what}.nii.gz" for what in ("scan", "mask"))
        sitk.WriteImage(scan, str(image))
        sitk.WriteImage(like(scan, hole.astype(np.uint8)), str(mask))
        seen, filled = run(image, mask)
        lines.append([name, seen, "" if filled is None or not scale else compare(scan, filled, hole, scale)])
        print(*lines[-1], sep=" | ", flush=True)
    for image in args.real:
        lines.append([image.name, run(image, args.mask, args.folder)[0], ""])
        print(*lines[-1], sep=" | ", flush=True)
    print(markdown(("scan", "what a user sees", "fill / harmonic fill, dB"), lines))


def run(image: Path, mask: Path, folder: Path | None = None) -> tuple[str, sitk.Image | None]:
    """What the command says, and the filled scan, None if the scan is refused."""
    output = (folder or image.parent) / image.name.replace("_scan", "").replace(".nii.gz", "_filled.nii.gz")
    report = Path(str(output).replace("_filled.nii.gz", "_report.json"))
    for old in (output, report):
        old.unlink(missing_ok=True)
    files = [str(path) for path in (image, mask, output, "--report", report)]
    figure = ["--figure", str(report).replace("_report.json", ".png")]
    command = [sys.executable, "-m", "MedInpaintLib", "run", *files, *figure, "--progress", "none", "--device", "cpu"]
    ended = subprocess.run(command, capture_output=True, text=True)
    said = " ".join(line.removeprefix("medinpaint: ") for line in ended.stderr.splitlines())
    if ended.returncode:
        return f"exit code {ended.returncode}: {said}", None
    found = json.loads(report.read_text())
    alignment, contrast = found["alignment"], found["contrast"]
    return f"{contrast['name']}, quality {alignment['quality']:.2f}; {said or 'no warning'}", read_image(output)


def compare(scan: sitk.Image, filled: sitk.Image, hole: np.ndarray, scale: float) -> str:
    """PSNR in the hole of the fill and of the harmonic fill."""
    truth, result = (sitk.GetArrayFromImage(image).astype(np.float32) for image in (scan, filled))
    smooth = truth.copy()
    smooth[hole] = harmonic_fill(truth, hole, spacing_zyx(scan))
    return " / ".join(f"{psnr(truth, each, hole, scale):.1f}" for each in (result, smooth))


def scans() -> Iterator[tuple[str, sitk.Image, np.ndarray, float]]:
    """Name, scan, hole (z, y, x), and the full scale of intensities for the PSNR, 0 where no tissue is known."""
    samples = resources_folder() / "SampleData"
    subject = read_subject(samples / "HealthyHead_T1.nii.gz", find_model(Settings().model).template())
    head, brain = sitk.Cast(subject.scan, sitk.sitkFloat32), ndimage.binary_fill_holes(subject.brain)
    values = sitk.GetArrayFromImage(head)
    hole = sitk.GetArrayFromImage(read_image(samples / "HealthyHead_hole.nii.gz")) > 0
    rng = np.random.default_rng(0)
    level = values / np.percentile(values[brain], 75) * 0.75  # white matter near 0.8
    high = float(np.percentile(values[brain], 99.5))

    def made(name: str, array: np.ndarray, scale: float = 1.0, there: np.ndarray = hole) -> tuple:
        return name, like(head, array.astype(np.float32)), there, scale

    yield made("T1 head", values, high)
    yield made("T1 brain", values * brain, high)
    for name, curve in CURVES.items():
        other = np.interp(level, TISSUES, curve)
        full = float(np.percentile(other[brain], 99.5))
        yield made(f"{name} head of T1", other, full)
        yield made(f"{name} brain of T1", other * brain, full)
    yield made("inverted T1 head", values.max() - values, high)
    yield made("inverted T1 brain", (1.3 * high - values).clip(1) * brain, high)
    yield made("saturated T1 head", np.minimum(values, 0.6 * high), 0.6 * high)
    yield made("T1 head with little contrast", 1000 + values / 10, high / 10)

    units = ct(level, brain, spacing_zyx(head), rng)
    yield made("CT", units, 80)
    yield made("CT in a brain window", units.clip(0, 80), 80)
    yield made("CT brain", np.where(brain, units.clip(1, 80), 0), 80)

    orientation = sitk.DICOMOrientImageFilter_GetOrientationFromDirectionCosines(head.GetDirection())
    along = {letter: 2 - orientation.index(letter) for letter in orientation}  # array axis of each direction
    up, front, left = (next(along[each] for each in pair if each in along) for pair in ("SI", "AP", "LR"))
    for name, axis in (("upside down", up), ("back to front", front), ("left-right mirrored", left)):
        yield made(f"T1 head, header {name}", np.flip(values, axis), high, np.flip(hole, axis))
    yield made("T1 brain, header upside down", np.flip(values * brain, up), high, np.flip(hole, up))
    size = list(head.GetSize()[::-1])
    size[up], size[front] = size[front], size[up]
    turned = sitk.GetImageFromArray(np.ascontiguousarray(np.swapaxes(values, up, front)))
    turned.SetSpacing(head.GetSpacing())
    yield "T1 head, header axes swapped", turned, np.ascontiguousarray(np.swapaxes(hole, up, front)), high

    where = np.argwhere(hole)
    for name, axis, before, after in (
        ("upper half", up, 10, None), ("lower half", up, None, 10), ("slab of 3 cm", up, 5, 5),
        ("half, left or right", left, 15, None), ("back half", front, None, 15), ("front half", front, 15, None),
    ):  # fmt: skip
        step = spacing_zyx(head)[axis]
        low, high_end = where[:, axis].min(), where[:, axis].max() + 1
        box = [slice(None)] * 3
        margin = [None if mm is None else int(mm / step) for mm in (before, after)]
        start = 0 if margin[0] is None else max(0, low - margin[0])
        stop = values.shape[axis] if margin[1] is None else min(values.shape[axis], high_end + margin[1])
        box[axis] = slice(start, stop)
        cut = tuple(box)
        yield f"T1 head, {name}", head[cut[::-1]], hole[cut], high

    for name, array, share in (
        ("child's size", values, 0.85), ("newborn's size", values, 0.65),
        ("newborn's size and contrast", np.interp(level, TISSUES, NEWBORN), 0.65),
    ):  # fmt: skip
        small = like(head, array.astype(np.float32))
        small.SetSpacing([share * mm for mm in head.GetSpacing()])
        yield f"T1 head, {name}", small, hole, float(np.percentile(array[brain], 99.5))

    inside = np.argwhere(brain)
    below = inside[:, up].min() if "I" not in orientation else inside[:, up].max()
    box = [slice(None)] * 3
    box[up] = slice(0, max(below, 12)) if "I" not in orientation else slice(below + 1, None)
    cut = tuple(box)
    part = head[cut[::-1]]
    if min(part.GetSize()) > 8:
        yield "face and neck without brain", part, ball(part, 10), 0.0
    yield made("knee", knee(values.shape, spacing_zyx(head), rng), 0.0, ball(head, 12))
    yield made("phantom", phantom(values.shape, spacing_zyx(head), rng), 0.0, ball(head, 12))
    yield made("noise", rng.uniform(1, 1000, values.shape), 0.0, ball(head, 12))
    yield made("noise in a brain", rng.uniform(1, 1000, values.shape) * brain, 0.0, hole)
    yield made("one value in a brain", 1000.0 * brain + rng.normal(0, 5, values.shape) * brain, 0.0, hole)


def ct(level: np.ndarray, brain: np.ndarray, spacing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A head in Hounsfield units: little contrast in the brain, a bright skull, noise."""
    distance = ndimage.distance_transform_edt(~brain, sampling=spacing)
    units = np.full(brain.shape, AIR)
    for end, value in reversed(SHELLS):
        units[distance < end] = value
    units[brain] = np.interp(ndimage.gaussian_filter(level, 0.7), TISSUES, CT_CURVE)[brain]
    return units + rng.normal(0, 4, brain.shape)


def from_centre(shape: tuple[int, ...], spacing: np.ndarray) -> np.ndarray:
    """The distance of each voxel from the middle along each axis, mm."""
    middle = (np.array(shape) - 1) / 2
    return (np.indices(shape) - middle[:, None, None, None]) * spacing[:, None, None, None]


def knee(shape: tuple[int, ...], spacing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A leg with two bones, bright marrow and fat, in T1."""
    z, y, x = from_centre(shape, spacing)
    leg, bone = np.hypot(y, x), np.hypot(y, x - 10) + 4 * np.sin(z / 15)
    values = np.select([leg < 55, leg < 68, leg < 70], [400.0, 900.0, 500.0], 0.0)
    values[(bone < 32) & (np.abs(z) > 3)] = 100  # cortical bone; cartilage between the two bones
    values[(bone < 29) & (np.abs(z) > 6)] = 850
    texture = ndimage.gaussian_filter(rng.normal(0, 1, shape), 3)
    return values * (1 + 0.1 * texture / texture.std()) + np.abs(rng.normal(0, 12, shape))


def phantom(shape: tuple[int, ...], spacing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A ball of water with two inserts."""
    z, y, x = from_centre(shape, spacing)
    values = np.where(np.sqrt(z**2 + y**2 + x**2) < 75, 800.0, 0.0)
    values[(np.hypot(y - 25, x) < 12) & (np.abs(z) < 40)] = 300
    values[(np.hypot(y + 25, x) < 12) & (np.abs(z) < 40)] = 1100
    return values + np.abs(rng.normal(0, 8, shape))


def ball(image: sitk.Image, radius: float) -> np.ndarray:
    """A ball of this radius (mm) in the middle of an image, bool (z, y, x)."""
    shape = image.GetSize()[::-1]
    return (from_centre(shape, spacing_zyx(image)) ** 2).sum(axis=0) < radius**2


if __name__ == "__main__":
    main()
