"""What one run did, as plain JSON types: numbers are finite or null, and nothing names the patient."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np
import scipy
import SimpleITK as sitk
from scipy import ndimage

from . import __version__
from .evaluation.metrics import RING as SEAM_RING
from .evaluation.metrics import seam
from .image import box_round, ring, spacing_zyx
from .models import WEIGHTS, Model
from .settings import Settings

if TYPE_CHECKING:
    from .latent import Generated
    from .pipeline import Case

RING = 3.0  # mm round the hole
OUTSIDE = 0.2  # share of the mask outside the brain from which the user is told
EVERY_NEIGHBOUR = np.ones((3, 3, 3))


def run_report(
    case: Case,
    generated: Generated,
    filled: np.ndarray,
    sd: np.ndarray | None,
    model: Model,
    settings: Settings,
    device: str,
    seconds: dict[str, float],
    warnings: Sequence[str] = (),
) -> dict:
    """Measure one run.

    Args:
        case: the scan, its hole and its alignment.
        generated: what the latent search found.
        filled: float (n,), the hole's new values in the order of case.hole.
        sd: float (z, y, x), their standard deviations; None if unknown.
        model: that was used.
        settings: of the run.
        device: the search ran on.
        seconds: by stage.
        warnings: sentences, to which those of the measurements are added.

    Returns a dict with:
        lesion: of all lesions together: volume_ml; their count, where voxels that share a face, an edge or a corner
            are one lesion; outside_brain, the share of their voxels outside the brain.
        lesions: of each lesion, see `measured_lesions`; the largest first.
        slices: model-space slices that were filled.
        alignment: quality (correlation with the template), poor, brain_extracted, brain_ml.
        search: iterations; loss, over the slices; gain and offset of the scan against the model, in model
            intensities; scale, the scan's intensity for the model's 1.
        intensities: of the ring (known brain within 3 mm of the hole), the fill and the brain (known), in the scan's
            units: median, mean, sd, and percentile_99_5.
        seam: see evaluation.metrics.seam; near 1 is invisible.
        model, settings, versions, device, seconds (by stage and in total), warnings (sentences).
    """
    alignment, hole = case.alignment, case.hole
    voxel_ml = float(np.prod(case.scan.GetSpacing())) / 1000
    outside = np.count_nonzero(hole & ~alignment.brain) / np.count_nonzero(hole)
    spacing = spacing_zyx(case.scan)
    box = box_round(hole, _margin(spacing))
    near = case.within(box)
    result = near.values.copy()
    result[near.hole] = filled
    lesions = measured_lesions(near, result, None if sd is None else sd[box])
    for lesion in lesions:
        lesion["index"] = [n + side.start for n, side in zip(lesion["index"], box[::-1], strict=True)]
    return {
        "lesion": {
            "volume_ml": _number(np.count_nonzero(hole) * voxel_ml),
            "count": len(lesions),
            "outside_brain": _number(outside),
        },
        "lesions": lesions,
        "slices": int(case.slices.hole.any(axis=(1, 2)).sum()),
        "alignment": {
            "quality": _number(alignment.quality),
            "poor": bool(alignment.poor),
            "brain_extracted": bool(alignment.extracted),
            "brain_ml": _number(np.count_nonzero(alignment.brain) * voxel_ml),
        },
        "search": {
            "iterations": int(generated.iterations),
            "loss": {"median": _number(np.median(generated.losses)), "max": _number(np.max(generated.losses))},
            "gain": _number(generated.gain),
            "offset": _number(generated.offset),
            "scale": _number(case.slices.scale),
        },
        "intensities": {
            "ring": _statistics(near.values[ring(near.hole, spacing, RING) & near.alignment.brain]),
            "fill": _statistics(filled),
            "brain": _statistics(case.values[alignment.brain & ~hole]),
        },
        "seam": _number(seam(result, near.hole, spacing, near.alignment.brain)),
        "model": {
            "name": model.name,
            "kind": model.card["kind"],
            "sha256": model.card["sha256"][WEIGHTS],
        },
        "settings": settings.to_dict(),
        "versions": _versions(),
        "device": device,
        "seconds": {**seconds, "total": round(sum(seconds.values()), 3)},
        "warnings": [*warnings, *_warnings(alignment.quality, alignment.poor, outside)],
    }


def measured_lesions(case: Case, result: np.ndarray, sd: np.ndarray | None) -> list[dict]:
    """Measure each lesion, in its own surroundings alone, so that hundreds of small ones take little time.

    Args:
        case: the scan, its hole and its alignment.
        result: float (z, y, x), the scan with its hole filled.
        sd: float (z, y, x), the standard deviations of what was filled in; None if unknown.

    Returns a dict for each lesion, the largest first, with:
        volume_ml: its volume.
        index: [i, j, k], in the order x, y, z: of its voxels the one nearest to its centroid (in mm).
        position_mm: [x, y, z] in LPS, where that voxel is.
        ring: mean of the scan in the known brain within 3 mm of it; None if there is none.
        fill: mean of its new voxels.
        uncertainty: mean standard deviation of its new voxels; None if unknown.
        seam: see evaluation.metrics.seam; None if there is nothing known to compare with.
    """
    spacing = spacing_zyx(case.scan)
    voxel_ml = float(np.prod(spacing)) / 1000
    margin = _margin(spacing)
    numbers, _ = ndimage.label(case.hole, EVERY_NEIGHBOUR)
    lesions = []
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        wide = tuple(slice(max(side.start - m, 0), side.stop + m) for side, m in zip(box, margin, strict=True))
        own, filled = numbers[wide] == number, result[wide]
        brain = case.alignment.brain[wide] & (own | ~case.hole[wide])  # no other lesion is known tissue
        around = filled[ring(own, spacing, RING) & brain]
        voxels = np.argwhere(own)
        central = voxels[np.linalg.norm((voxels - voxels.mean(axis=0)) * spacing, axis=1).argmin()]
        index = [int(n + side.start) for n, side in zip(central, wide, strict=True)][::-1]
        lesions.append(
            {
                "volume_ml": _number(len(voxels) * voxel_ml),
                "index": index,
                "position_mm": [_number(x) for x in case.scan.TransformIndexToPhysicalPoint(index)],
                "ring": _number(around.mean(dtype=np.float64)) if around.size else None,
                "fill": _number(filled[own].mean(dtype=np.float64)),
                "uncertainty": None if sd is None else _number(sd[wide][own].mean(dtype=np.float64)),
                "seam": _number(seam(filled, own, spacing, brain)),
            }
        )
    return sorted(lesions, key=lambda lesion: lesion["volume_ml"], reverse=True)


def _margin(spacing: np.ndarray) -> np.ndarray:
    """Voxels round a hole, along (z, y, x), that its measurements look at."""
    return np.maximum(np.ceil(RING / spacing).astype(int), SEAM_RING)


def _statistics(values: np.ndarray) -> dict[str, float | None]:
    names = ("median", "mean", "sd", "percentile_99_5")
    if not values.size:
        return dict.fromkeys(names)
    with np.errstate(over="ignore"):  # of intensities near the largest float32: entered as null
        median, high = np.percentile(values, (50, 99.5))
    measured = median, values.mean(dtype=np.float64), values.std(dtype=np.float64), high
    return dict(zip(names, map(_number, measured), strict=True))


def _number(value: float) -> float | None:
    """A finite number with six significant digits, else None: JSON knows neither NaN nor infinity."""
    return float(f"{float(value):.6g}") if np.isfinite(value) else None


def _versions() -> dict[str, str | None]:
    try:
        torch = version("torch")
    except PackageNotFoundError:  # torch found by path alone
        torch = None
    return {
        "medinpaint": __version__,
        "python": platform.python_version(),
        "torch": torch,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "SimpleITK": sitk.Version.VersionString(),
    }


def _warnings(quality: float, poor: bool, outside: float) -> list[str]:
    warnings = []
    if poor:
        warnings.append(f"The alignment with the model is poor ({quality:.2f}): look at the result before using it.")
    if outside > OUTSIDE:
        warnings.append(
            f"{100 * outside:.0f} % of the mask lies outside the brain, where the model knows nothing: "
            "check that it marks the lesion only."
        )
    return warnings
