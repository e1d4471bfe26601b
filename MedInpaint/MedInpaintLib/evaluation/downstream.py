"""`medinpaint downstream`: what filling a patient's lesions does for the tools that follow it.

Two studies. In the patients' scans, where nobody knows what the tissue was: the classes that a segmentation gives the
lesions, and the volumes of the whole brain, unfilled and filled. In healthy scans that are given the patients' lesions,
where the truth is known: which voxels of the lesions are classed as in the healthy scan, how far the volumes are from
the healthy scan's, and how well an earlier scan, made before there were lesions, is registered to them.

A healthy scan is the follow-up without lesions. It is given a patient's lesions at the same place of the brain and of
the same intensities between CSF, GM and WM; where it is darker than these (a sulcus), it stays. The earlier scan is the
healthy scan deformed by a known B-spline, the fixed image; the moving image is the follow-up as it is, unfilled, filled
or healthy, which is the best there can be. So no fill is smoothed by resampling, the only difference between the runs
is in the lesions, and the true place of every voxel is known. Both scans have the same noise.
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
from ..space.resampling import carry
from ..space.template import Template
from ..volumes.image import check_scan, like, scan_values, spacing_zyx, with_voxels
from ..volumes.mask import enlarge, hole_on_grid, ring
from ..volumes.read import read_image
from ..volumes.write import make_folder
from .downstream_report import AROUND, FollowUpRow, PatientRow, Study, draw_tissues
from .holes.cases import file_list, scan_to_scan, stem
from .holes.shapes import lesion_hole
from .measures.deformable import deformed, random_deformation, register_demons, registration_error
from .measures.tissue import GM, WM, Tissue, bias_field, classify

HEALTHY, UNFILLED, FILLED, HARMONIC = "no lesions", "unfilled", "MedInpaint", "harmonic"  # a scan's versions
GROWTH = 1.0  # mm by which the lesions are enlarged in two more versions


@dataclass(frozen=True)
class Brain:
    """A scan that was read, aligned and classified.

    Attributes:
        name: of its file, without the suffix.
        scan: as it was read.
        lesions: bool (z, y, x); none in a healthy scan.
        alignment: the lesions left out.
        mask: bool (z, y, x), the brain, lesions included.
        field: float32 (z, y, x), the bias field.
        tissue: of the scan, the bias field divided out.
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
    """The command as it reads on any computer."""
    files = {"scans": args.scans, "lesion-masks": args.lesion_masks, "healthy": args.healthy}
    options = [f"--{name} {file_list(paths)}" for name, paths in files.items() if paths]
    return " \\\n    ".join(("medinpaint downstream", *options, f"--output {args.output.name}"))


def read_brain(path: Path, mask: Path | None, template: Template) -> Brain:
    """Read, align and classify a scan; without a mask it has no lesions. Raises InputError if it cannot be used."""
    scan = read_image(path)
    check_scan(scan)
    lesions = np.zeros(scan.GetSize()[::-1], bool) if mask is None else hole_on_grid(read_image(mask), scan)
    values = scan_values(scan, lesions)
    alignment = align(scan, values, lesions, template)
    # Of a brain-extracted scan all is brain: the template's outline cuts off some of the cortex.
    brain = values > 0 if alignment.extracted else alignment.brain & (values > 0)
    lesions = lesions & (brain | alignment.brain)
    if mask is not None and not lesions.any():
        raise InputError(f"The lesions of '{mask.name}' lie outside the brain: check that the mask is of this scan.")
    brain = brain | lesions
    field = bias_field(like(scan, values), brain & ~lesions)
    return Brain(stem(path), scan, lesions, alignment, brain, field, classify(values / field, brain))


def versions(scan: sitk.Image, lesions: NDArray[np.bool_], settings: Settings) -> dict[str, sitk.Image]:
    """The scan as it is, filled by MedInpaint and by the smoothest continuation in 3-D, as marked and enlarged."""
    values, spacing = scan_values(scan, lesions), spacing_zyx(scan)
    mask = like(scan, lesions.astype(np.uint8))
    made = {UNFILLED: scan}
    for reach in (0.0, GROWTH):
        suffix = f", lesions enlarge by {reach:g} mm" if reach else ""
        hole = enlarge(lesions, values != 0, spacing, reach)
        made[FILLED + suffix] = inpaint(scan, mask, replace(settings, grow=reach)).image
        made[HARMONIC + suffix] = with_voxels(scan, harmonic_fill(values, hole, spacing), hole)
    return made


def classes(images: Mapping[str, sitk.Image], brain: Brain) -> dict[str, Tissue]:
    """The tissue classes of versions of a scan. All have its bias field, so that they differ by the fill alone."""
    return {
        name: classify(scan_values(image, brain.lesions) / brain.field, brain.mask) for name, image in images.items()
    }


def stamp_lesions(healthy: Brain, patient: Brain) -> Brain:
    """The healthy brain with the patient's lesions, at the same place and as dark; see the module's description.

    Its tissue is the healthy scan's. Raises InputError if the lesions miss the brain.
    """
    way = scan_to_scan(healthy.alignment, patient.alignment)
    shape = carry(like(patient.scan, patient.lesions.astype(np.uint8)), healthy.scan, way)
    lesions = lesion_hole(shape, healthy.mask)
    if not lesions.any():
        raise InputError(f"The lesions of {patient.name} miss the brain of {healthy.name}: leave one of them out.")
    even = like(patient.scan, scan_values(patient.scan, patient.lesions) / patient.field)
    carried = sitk.GetArrayFromImage(sitk.Resample(even, healthy.scan, way, sitk.sitkLinear, 0.0))[lesions]
    dark = np.interp(carried, patient.tissue.means, healthy.tissue.means) * healthy.field[lesions]
    own = scan_values(healthy.scan, lesions)[lesions]
    scan = with_voxels(healthy.scan, np.minimum(dark, own), lesions)
    return replace(healthy, scan=scan, lesions=lesions)


def measure_patient(patient: Brain, tissues: Mapping[str, Tissue]) -> list[PatientRow]:
    """A row for each version's tissue classes."""
    voxel_ml = float(spacing_zyx(patient.scan).prod() / 1000)
    lesion_ml = float(np.count_nonzero(patient.lesions) * voxel_ml)
    return [
        PatientRow(patient.name, version, lesion_ml, tissue.shares(patient.lesions), tissue.volumes(voxel_ml))
        for version, tissue in tissues.items()
    ]


def measure_follow_up(
    brain: Brain, patient: str, images: Mapping[str, sitk.Image], tissues: Mapping[str, Tissue], seed: int
) -> list[FollowUpRow]:
    """A row for each version of a healthy scan that was given lesions; HEALTHY, the truth, is one of them.

    Args:
        brain: with the lesions.
        patient: name, of where they come from.
        seed: of the known deformation.
    """
    truth, lesions = tissues[HEALTHY], brain.lesions
    voxel_ml = float(spacing_zyx(brain.scan).prod() / 1000)
    known = random_deformation(brain.scan, brain.mask, seed)
    earlier = deformed(images[HEALTHY], known)
    near = lesions | ring(lesions, spacing_zyx(brain.scan), AROUND)
    regions = {
        name: carry(like(brain.scan, region.astype(np.uint8)), brain.scan, known)
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
    """Of a region's voxels; None if it has none."""
    return float(found[region].mean()) if region.any() else None
