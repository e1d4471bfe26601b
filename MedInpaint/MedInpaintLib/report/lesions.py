"""What one run did, as plain JSON types: numbers are finite or null, and nothing names the patient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ..volumes.image import spacing_zyx
from ..volumes.mask import ring
from .measures import RING as SEAM_RING
from .measures import seam

if TYPE_CHECKING:
    from ..space.case import Case

RING = 3.0  # mm round the hole
EVERY_NEIGHBOUR = np.ones((3, 3, 3))


def measure_lesions(case: Case, result: np.ndarray, sd: np.ndarray | None) -> list[dict]:
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
    margin = measuring_margin(spacing)
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
                "volume_ml": finite_number(len(voxels) * voxel_ml),
                "index": index,
                "position_mm": [finite_number(x) for x in case.scan.TransformIndexToPhysicalPoint(index)],
                "ring": finite_number(around.mean(dtype=np.float64)) if around.size else None,
                "fill": finite_number(filled[own].mean(dtype=np.float64)),
                "uncertainty": None if sd is None else finite_number(sd[wide][own].mean(dtype=np.float64)),
                "seam": finite_number(seam(filled, own, spacing, brain)),
            }
        )
    return sorted(lesions, key=lambda lesion: lesion["volume_ml"], reverse=True)


def measuring_margin(spacing: np.ndarray) -> np.ndarray:
    """Voxels round a hole, along (z, y, x), that its measurements look at."""
    return np.maximum(np.ceil(RING / spacing).astype(int), SEAM_RING)


def finite_number(value: float) -> float | None:
    """A finite number with six significant digits, else None: JSON knows neither NaN nor infinity."""
    return float(f"{float(value):.6g}") if np.isfinite(value) else None
