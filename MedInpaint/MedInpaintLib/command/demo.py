"""`medinpaint demo`: it fills real lesions, and a hole in a healthy scan with known content."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..blending.poisson import harmonic_fill
from ..errors import InputError
from ..evaluation.measures.quality import ssim
from ..evaluation.tables.text import table
from ..pipeline import Result
from ..report.figure import check_matplotlib
from ..report.measures import psnr
from ..resources import resources_folder
from ..settings import Settings
from ..volumes.image import spacing_zyx
from ..volumes.mask import hole_on_grid
from ..volumes.read import read_image
from ..volumes.write import make_folder
from .console import Console
from .outputs import Outputs, run_files

LESION = "MSPatient26"
HEALTHY = "HealthyHead"
GROWTH = 1.0  # mm; the expert's mask is tight, and the voxels at its border are partly lesion
STAGES = ("reading", "aligning", "optimising", "blending", "total")


def demo(folder: Path, console: Console) -> None:
    """Run both samples, write results, reports and pictures to the folder, and print tables of time and quality.

    Raises InputError if the folder cannot be made, or a package that the demo needs is missing.
    """
    check_matplotlib()
    if find_spec("skimage") is None:
        raise InputError("The demo needs scikit-image to measure: run `pip install scikit-image`.")
    make_folder(folder)
    samples = resources_folder() / "SampleData"
    rows, pictures = [("scan", "volume", *(f"{stage} (s)" for stage in STAGES))], []
    for name, mask, growth in ((LESION, "lesions", GROWTH), (HEALTHY, "hole", 0.0)):
        print(f"Filling {name}{f', lesions enlarged by {growth:g} mm' if growth else ''} ...", flush=True)
        scan, hole = samples / f"{name}_T1.nii.gz", samples / f"{name}_{mask}.nii.gz"
        outputs = Outputs(
            folder / f"{name}_filled.nii.gz", folder / f"{name}_report.json", folder / f"{name}_figure.png"
        )
        result = run_files(scan, hole, outputs, Settings(grow=growth), console)[0]
        seconds = result.report["seconds"]
        volume = f"{result.report['lesion']['volume_ml']:.1f} ml"
        rows.append((name, volume, *(f"{seconds[stage]:.1f}" for stage in STAGES)))
        pictures.append(outputs.figure)
    console.close()
    print(f"\n{table(rows)}\n\n{table(_against_truth(scan, hole, result))}\n\nPictures, before and after:")
    for picture in pictures:
        print(f"  {picture}")


def _against_truth(scan_path: Path, hole_path: Path, result: Result) -> list[tuple[str, str, str]]:
    """Rows of a table: the quality of the fill and of a smooth fill, measured against the known content."""
    scan = read_image(scan_path)
    truth = sitk.GetArrayFromImage(scan).astype(np.float32)
    hole = hole_on_grid(read_image(hole_path), scan)
    smooth = truth.copy()
    smooth[hole] = harmonic_fill(truth, hole, spacing_zyx(scan))
    fills = {"MedInpaint": sitk.GetArrayFromImage(result.image).astype(np.float32), "harmonic fill": smooth}
    full_scale = result.report["intensities"]["brain"]["percentile_99_5"]
    rows = [(f"{HEALTHY}, in the hole", "PSNR", "SSIM")]
    for name, fill in fills.items():
        measured = [measure(truth, fill, hole, full_scale) for measure in (psnr, ssim)]
        rows.append((name, f"{measured[0]:.1f} dB", f"{measured[1]:.2f}"))
    return rows
