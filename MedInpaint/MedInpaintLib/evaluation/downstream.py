"""`medinpaint downstream`: what filling a patient's lesions does for segmentation and registration.

There are two studies. In the patients' scans the truth is not known. This study reports the tissue classes of the
lesions and the volumes of the whole brain, unfilled and filled. The other study stamps the patients' lesions into
healthy scans, where the truth is known. It reports how many voxels of the lesions have the class of the healthy scan,
the errors of the volumes, and the error of the registration to an earlier scan without lesions.

The healthy scan is the follow-up scan. The stamped lesions have the same place in the brain and the same intensities
between CSF, GM and WM as in the patient. Where the healthy scan is darker (in a sulcus), it does not change. The
earlier scan is the healthy scan deformed by a known B-spline. It is the fixed image; the moving image is the follow-up
scan, unfilled, filled, or healthy, which is the best possible case. So resampling smooths no fill, the runs differ only
in the lesions, and the true place of every voxel is known. Both scans have the same noise.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..blending.poisson import harmonic_fill
from ..errors import InputError
from ..models.registry import find_model
from ..pipeline import inpaint
from ..report.figure import check_matplotlib
from ..settings import Settings
from ..space.alignment import Alignment, align
from ..space.resampling import resample_mask
from ..space.template import Template
from ..volumes.image import check_scan, like, scan_values, spacing_zyx, with_voxels
from ..volumes.mask import enlarge, hole_on_grid, ring
from ..volumes.read import read_image
from ..volumes.write import make_folder
from .downstream_report import AROUND, FollowUpRow, PatientRow, Study
from .figures.tissues import draw_tissues
from .holes.lesions import scan_to_scan
from .holes.shapes import lesion_hole
from .holes.subjects import file_list, stem
from .measures.deformable import deformed, random_deformation, register_demons, registration_error
from .measures.tissue import GM, WM, Tissue, bias_field, classify

HEALTHY, UNFILLED, FILLED, HARMONIC = "no lesions", "unfilled", "MedInpaint", "harmonic"  # versions of a scan
GROWTH = 1.0  # mm; the lesions are enlarged by this in two more versions


@dataclass(frozen=True)
class Brain:
    """A scan with its alignment and its tissue classes.

    Attributes:
        name: of the file, without the suffix.
        scan: the image in the file.
        lesions: bool (z, y, x); empty in a healthy scan.
        alignment: found without the voxels of the lesions.
        mask: bool (z, y, x), brain mask, lesions included.
        field: float32 (z, y, x), bias field.
        tissue: classes of the scan without its bias field.
    """

    name: str
    scan: sitk.Image
    lesions: NDArray[np.bool_]
    alignment: Alignment
    mask: NDArray[np.bool_]
    field: NDArray[np.float32]
    tissue: Tissue


def run(args: Namespace) -> None:
    """Run the command. Raises InputError if it cannot be done."""
    if len(args.scans) != len(args.lesion_masks):
        raise InputError(
            f"There are {len(args.scans)} scans and {len(args.lesion_masks)} lesion masks: give one mask for each scan."
        )
    if len({stem(path) for path in [*args.scans, *args.healthy]}) < len(args.scans) + len(args.healthy):
        raise InputError("Two scans have the same file name: rename one of them.")
    check_matplotlib()
    settings = Settings(model=args.model, device=args.device, seed=args.seed)
    template = find_model(settings.model).template()
    make_folder(args.output)

    patients = [read_brain(*pair, template) for pair in zip(args.scans, args.lesion_masks, strict=True)]
    study = Study(settings, command_line(args))
    for patient in patients:
        print(f"{patient.name} ...", flush=True)
        images = versions(patient.scan, patient.lesions, settings)
        tissues = classes(images, patient)
        study.rows += measure_patient(patient, tissues)
        study.pictures.append(draw_tissues(args.output, patient.name, patient.lesions, images, tissues))
        study.write(args.output)
    for path in args.healthy:
        healthy = read_brain(path, None, template)
        for patient in patients:
            print(f"{healthy.name} with the lesions of {patient.name} ...", flush=True)
            brain = stamp_lesions(healthy, patient)
            images = {HEALTHY: healthy.scan, **versions(brain.scan, brain.lesions, settings)}
            tissues = classes(images, brain)
            study.follow_ups += measure_follow_up(brain, patient.name, images, tissues, settings.seed)
            name = f"{healthy.name}_{patient.name}"
            study.pictures.append(draw_tissues(args.output, name, brain.lesions, images, tissues))
            study.write(args.output)
    print(study.tables())


def command_line(args: Namespace) -> str:
    """The command without the paths of this computer."""
    files = {"scans": args.scans, "lesion-masks": args.lesion_masks, "healthy": args.healthy}
    options = [f"--{name} {file_list(paths)}" for name, paths in files.items() if paths]
    return " \\\n    ".join(("medinpaint downstream", *options, f"--output {args.output.name}"))


def read_brain(path: Path, mask: Path | None, template: Template) -> Brain:
    """Read, align and classify a scan. Without a mask it has no lesions. Raises InputError if it cannot be used."""
    scan = read_image(path)
    check_scan(scan)
    lesions = np.zeros(scan.GetSize()[::-1], bool) if mask is None else hole_on_grid(read_image(mask), scan)
    values = scan_values(scan, lesions)
    alignment = align(scan, values, lesions, template)
    # In a brain-extracted scan everything is brain; the outline of the template would cut off some of the cortex.
    brain = values > 0 if alignment.extracted else alignment.brain & (values > 0)
    lesions = lesions & (brain | alignment.brain)
    if mask is not None and not lesions.any():
        raise InputError(f"The lesions of '{mask.name}' lie outside the brain: check that the mask is of this scan.")
    brain = brain | lesions
    field = bias_field(like(scan, values), brain & ~lesions)
    return Brain(stem(path), scan, lesions, alignment, brain, field, classify(values / field, brain))


def versions(scan: sitk.Image, lesions: NDArray[np.bool_], settings: Settings) -> dict[str, sitk.Image]:
    """The scan unfilled, and filled by MedInpaint and by the smoothest continuation; also with enlarged lesions."""
    values, spacing = scan_values(scan, lesions), spacing_zyx(scan)
    mask = like(scan, lesions.astype(np.uint8))
    images = {UNFILLED: scan}
    for growth in (0.0, GROWTH):
        suffix = f", lesions enlarged by {growth:g} mm" if growth else ""
        hole = enlarge(lesions, values != 0, spacing, growth)
        images[FILLED + suffix] = inpaint(scan, mask, replace(settings, grow=growth)).image
        images[HARMONIC + suffix] = with_voxels(scan, harmonic_fill(values, hole, spacing), hole)
    return images


def classes(images: Mapping[str, sitk.Image], brain: Brain) -> dict[str, Tissue]:
    """The tissue classes of the versions of a scan. All use the same bias field, so they differ only by the fill."""
    return {
        name: classify(scan_values(image, brain.lesions) / brain.field, brain.mask) for name, image in images.items()
    }


def stamp_lesions(healthy: Brain, patient: Brain) -> Brain:
    """The healthy brain with the patient's lesions, in the same place and equally dark; see the docstring of the file.

    Its tissue classes are those of the healthy scan. Raises InputError if no lesion lies in the brain.
    """
    to_patient = scan_to_scan(healthy.alignment, patient.alignment)
    shape = resample_mask(like(patient.scan, patient.lesions.astype(np.uint8)), healthy.scan, to_patient)
    lesions = lesion_hole(shape, healthy.mask)
    if not lesions.any():
        raise InputError(f"The lesions of {patient.name} miss the brain of {healthy.name}: leave one of them out.")
    corrected = like(patient.scan, scan_values(patient.scan, patient.lesions) / patient.field)
    resampled = sitk.GetArrayFromImage(sitk.Resample(corrected, healthy.scan, to_patient, sitk.sitkLinear, 0.0))
    dark = np.interp(resampled[lesions], patient.tissue.means, healthy.tissue.means) * healthy.field[lesions]
    scan = with_voxels(healthy.scan, np.minimum(dark, scan_values(healthy.scan, lesions)[lesions]), lesions)
    return replace(healthy, scan=scan, lesions=lesions)


def measure_patient(patient: Brain, tissues: Mapping[str, Tissue]) -> list[PatientRow]:
    """A row for each version of a patient's scan."""
    voxel_ml = float(spacing_zyx(patient.scan).prod() / 1000)
    lesion_ml = float(np.count_nonzero(patient.lesions) * voxel_ml)
    return [
        PatientRow(patient.name, version, lesion_ml, tissue.shares(patient.lesions), tissue.volumes(voxel_ml))
        for version, tissue in tissues.items()
    ]


def measure_follow_up(
    brain: Brain, patient: str, images: Mapping[str, sitk.Image], tissues: Mapping[str, Tissue], seed: int
) -> list[FollowUpRow]:
    """A row for each version of a healthy scan with stamped lesions. HEALTHY, the truth, is one of them.

    Args:
        brain: with the lesions.
        patient: name of the patient with these lesions.
        images: the versions by their names.
        tissues: the classes of the versions.
        seed: of the known deformation.
    """
    truth, lesions = tissues[HEALTHY], brain.lesions
    voxel_ml = float(spacing_zyx(brain.scan).prod() / 1000)
    known = random_deformation(brain.scan, brain.mask, seed)
    earlier = deformed(images[HEALTHY], known)
    near = lesions | ring(lesions, spacing_zyx(brain.scan), AROUND)
    regions = {
        name: resample_mask(like(brain.scan, region.astype(np.uint8)), brain.scan, known)
        for name, region in (("lesions", lesions), ("around", near & brain.mask))
    }
    true_ml = truth.volumes(voxel_ml)
    rows = []
    for version, tissue in tissues.items():
        same = tissue.labels == truth.labels
        found_ml = tissue.volumes(voxel_ml)
        rows.append(
            FollowUpRow(
                healthy=brain.name,
                patient=patient,
                version=version,
                lesion_ml=float(np.count_nonzero(lesions) * voxel_ml),
                same=_share(same, lesions),
                white=_share(same, lesions & (truth.labels == WM)),
                grey=_share(same, lesions & (truth.labels == GM)),
                volume_errors={name: ml - true_ml[name] for name, ml in found_ml.items()},
                registration=registration_error(register_demons(earlier, images[version]), known, brain.scan, regions),
            )
        )
    return rows


def _share(found: NDArray[np.bool_], region: NDArray[np.bool_]) -> float | None:
    """The share of the region's voxels that are true; None if the region is empty."""
    return float(found[region].mean()) if region.any() else None
