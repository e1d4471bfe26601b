"""The report of a run, in plain JSON types: numbers are finite or null, and nothing names the patient."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np
import scipy
import SimpleITK as sitk

from .. import __version__
from ..models.folder import Model
from ..settings import Settings
from ..space.intensities import LEVELS, contrast_name, looks_like_ct, tissues_are_alike
from ..volumes.image import spacing_zyx
from ..volumes.mask import bounding_box, ring
from .lesions import RING, finite_number, measure_lesions, measuring_margin
from .measures import seam

if TYPE_CHECKING:
    from ..blending.rim import Rim
    from ..search.latent import Generated
    from ..space.case import Case

OUTSIDE = 0.2  # share of the hole outside the brain from which the report has a warning


def run_report(
    case: Case,
    generated: Generated,
    filled: np.ndarray,
    deviation: np.ndarray | None,
    rim: Rim,
    model: Model,
    settings: Settings,
    device: str,
    seconds: dict[str, float],
    warnings: Sequence[str] = (),
) -> dict:
    """Measure one run.

    Args:
        case: the scan, its hole and its alignment.
        generated: the result of the latent search.
        filled: float (n,), the hole's new values in the order of `case.values[case.hole]`.
        deviation: float (z, y, x), the posterior standard deviation of the fill; None if unknown.
        rim: whether the mask looks tight.
        model: the model of the run.
        settings: the settings of the run.
        device: the device of the search.
        seconds: the seconds of each stage.
        warnings: sentences; the report adds the warnings of its measurements.

    Returns a dict with:
        lesion: all lesions together: volume_ml; count, where voxels that share a face, an edge or a corner belong to
            one lesion; outside_brain, the share of their voxels outside the brain.
        lesions: each lesion, the largest first; see `measure_lesions`.
        slices: number of model-space slices that were filled.
        alignment: quality (correlation with the template), poor, brain_extracted, brain_ml; reused, whether it was
            found by an earlier run on the same scan, see `kept.Kept`.
        contrast: name ("T1", "T2", "FLAIR" or "other"), what the scan looks like; explained, the share of its variance
            in the brain that the contrast curve of the average brain explains; straight, whether a straight line does
            as well; levels and curve, the search's contrast curve: the scan's intensity at each level of the model.
        search: iterations; loss, its median and maximum over the slices; scale, the scan intensity of one unit of model
            intensity.
        intensities: of the ring (known brain within 3 mm of the hole), the fill and the brain (known), in the scan's
            units: median, mean, sd, and percentile_99_5.
        rim: tight, whether the mask leaves a rim of the lesion outside; deficit and error, in model intensities;
            width, mm; and lesions, how many: see `blending.rim.Rim`.
        seam: see `report.measures.seam`; a value near 1 is invisible.
        model, settings, versions, device, seconds (each stage and the total), warnings (sentences).
    """
    alignment, hole = case.alignment, case.hole
    voxel_ml = float(np.prod(case.scan.GetSpacing())) / 1000
    outside = np.count_nonzero(hole & ~alignment.brain) / np.count_nonzero(hole)
    spacing = spacing_zyx(case.scan)
    box = bounding_box(hole, measuring_margin(spacing))
    near = case.crop(box)
    result = near.values.copy()
    result[near.hole] = filled
    lesions = measure_lesions(near, result, None if deviation is None else deviation[box])
    for lesion in lesions:
        lesion["index"] = [n + side.start for n, side in zip(lesion["index"], box[::-1], strict=True)]
    return {
        "lesion": {
            "volume_ml": finite_number(np.count_nonzero(hole) * voxel_ml),
            "count": len(lesions),
            "outside_brain": finite_number(outside),
        },
        "lesions": lesions,
        "slices": int(case.slices.hole.any(axis=(1, 2)).sum()),
        "alignment": {
            "quality": finite_number(alignment.quality),
            "poor": bool(alignment.poor),
            "brain_extracted": bool(alignment.extracted),
            "brain_ml": finite_number(np.count_nonzero(alignment.brain) * voxel_ml),
            "reused": bool(alignment.reused),
        },
        "contrast": {
            "name": contrast_name(generated.curve),
            "explained": finite_number(alignment.contrast.explained),
            "straight": bool(alignment.contrast.straight),
            "levels": [round(float(level), 3) for level in LEVELS],
            "curve": [finite_number(value) for value in _in_scan_units(generated.curve, case)],
        },
        "search": {
            "iterations": int(generated.iterations),
            "loss": {
                "median": finite_number(np.median(generated.losses)),
                "max": finite_number(np.max(generated.losses)),
            },
            "scale": finite_number(case.slices.scale),
        },
        "intensities": {
            "ring": _statistics(near.values[ring(near.hole, spacing, RING) & near.alignment.brain]),
            "fill": _statistics(filled),
            "brain": _statistics(case.values[alignment.brain & ~hole]),
        },
        "rim": {
            key: finite_number(value) if isinstance(value, float) else value for key, value in rim.to_dict().items()
        },
        "seam": finite_number(seam(result, near.hole, spacing, near.alignment.brain)),
        "model": {
            "name": model.name,
            "kind": model.card["kind"],
            "sha256": model.card["sha256"],
        },
        "settings": settings.to_dict(),
        "versions": _versions(),
        "device": device,
        "seconds": {**seconds, "total": round(sum(seconds.values()), 3)},
        "warnings": [*warnings, *_warnings(case, generated.curve, outside, rim)],
    }


def _statistics(values: np.ndarray) -> dict[str, float | None]:
    names = ("median", "mean", "sd", "percentile_99_5")
    if not values.size:
        return dict.fromkeys(names)
    with np.errstate(over="ignore"):  # intensities near the largest float32 become null
        median, high = np.percentile(values, (50, 99.5))
    measured = median, values.mean(dtype=np.float64), values.std(dtype=np.float64), high
    return dict(zip(names, map(finite_number, measured), strict=True))


def _versions() -> dict[str, str | None]:
    try:
        torch = version("torch")
    except PackageNotFoundError:  # torch is on the path, but not installed
        torch = None
    return {
        "medinpaint": __version__,
        "python": platform.python_version(),
        "torch": torch,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "SimpleITK": sitk.Version.VersionString(),
    }


def _in_scan_units(curve: np.ndarray, case: Case) -> np.ndarray:
    """A contrast curve (k,) in the scan's intensities."""
    return curve * case.slices.scale + case.slices.floor


def _warnings(case: Case, curve: np.ndarray, outside: float, rim: Rim) -> list[str]:
    alignment, contrast = case.alignment, contrast_name(curve)
    warnings = []
    if alignment.poor:
        warnings.append(
            f"The alignment with the model is poor ({alignment.quality:.2f}): check that this is a brain MRI, and "
            "look at the result before using it."
        )
    if contrast == "T2":
        warnings.append(
            "The scan looks like T2, where bright fluid makes fills less exact, above all beside the ventricles: look "
            "at the result before using it."
        )
    if contrast == "other":
        warnings.append(
            "The scan's contrast looks like none of T1, T2 and FLAIR: check that this is a brain MRI, and look at the "
            "result before using it."
        )
    if looks_like_ct(_in_scan_units(curve, case)):
        warnings.append(
            "The scan's intensities are those of a CT (Hounsfield units), which the models do not know: check that "
            "this is a brain MRI, and look at the result before using it."
        )
    elif tissues_are_alike(curve):
        warnings.append(
            "Grey and white matter hardly differ in this scan, as in a CT or a phantom: check that this is a brain "
            "MRI, and look at the result before using it."
        )
    if outside > OUTSIDE:
        warnings.append(
            f"{100 * outside:.0f} % of the mask lies outside the brain, where the model knows nothing: "
            "check that it marks the lesion only."
        )
    if rim.tight:
        some = {None: "", 1: " around one of its lesions"}.get(rim.lesions, f" around {rim.lesions} of its lesions")
        warnings.append(
            f"The mask looks tight by about {rim.width:g} mm{some}: the scan looks more like lesion beside it than "
            f"farther out. Those voxels stay as they are; to fill them too, enlarge the lesion by {rim.width:g} mm."
        )
    return warnings
