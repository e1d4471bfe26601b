"""The measurements of each lesion, in plain JSON types."""

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

RING = 3.0  # mm; the width of the ring around a lesion
EVERY_NEIGHBOUR = np.ones((3, 3, 3))


def measure_lesions(case: Case, result: np.ndarray, deviation: np.ndarray | None) -> list[dict]:
    """Measure each lesion within its bounding box, so that hundreds of small lesions take little time.

    Args:
        case: the scan, its hole and its alignment.
        result: float (z, y, x), the scan with its hole filled.
        deviation: float (z, y, x), the posterior standard deviation of the fill; None if unknown.

    Returns a dict for each lesion, the largest first, with:
        volume_ml: its volume.
        index: [i, j, k] in the order x, y, z, the lesion's voxel nearest (in mm) to its centroid.
        position_mm: [x, y, z] in LPS, the position of this voxel.
        ring: mean of the scan in the known brain within 3 mm of the lesion; None if there is none.
        fill: mean of the lesion's new values.
        uncertainty: mean posterior standard deviation of the lesion's voxels; None if unknown.
        seam: see `report.measures.seam`; None if there are no known neighbours.
    """
    spacing = spacing_zyx(case.scan)
    voxel_ml = float(np.prod(spacing)) / 1000
    margin = measuring_margin(spacing)
    numbers, _ = ndimage.label(case.hole, EVERY_NEIGHBOUR)
    lesions = []
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        wide = tuple(slice(max(side.start - m, 0), side.stop + m) for side, m in zip(box, margin, strict=True))
        lesion, filled = numbers[wide] == number, result[wide]
        brain = case.alignment.brain[wide] & (lesion | ~case.hole[wide])  # other lesions are not known tissue
        around = filled[ring(lesion, spacing, RING) & brain]
        voxels = np.argwhere(lesion)
        central = voxels[np.linalg.norm((voxels - voxels.mean(axis=0)) * spacing, axis=1).argmin()]
        index = [int(n + side.start) for n, side in zip(central, wide, strict=True)][::-1]
        uncertainty = None if deviation is None else finite_number(deviation[wide][lesion].mean(dtype=np.float64))
        lesions.append(
            {
                "volume_ml": finite_number(len(voxels) * voxel_ml),
                "index": index,
                "position_mm": [finite_number(x) for x in case.scan.TransformIndexToPhysicalPoint(index)],
                "ring": finite_number(around.mean(dtype=np.float64)) if around.size else None,
                "fill": finite_number(filled[lesion].mean(dtype=np.float64)),
                "uncertainty": uncertainty,
                "seam": finite_number(seam(filled, lesion, spacing, brain)),
            }
        )
    return sorted(lesions, key=lambda measured: measured["volume_ml"], reverse=True)


def measuring_margin(spacing: np.ndarray) -> np.ndarray:
    """The number of voxels around a hole, along (z, y, x), that its measurements need."""
    return np.maximum(np.ceil(RING / spacing).astype(int), SEAM_RING)


def finite_number(value: float) -> float | None:
    """The number with six significant digits, or None if it is not finite: JSON has no NaN and no infinity."""
    return float(f"{float(value):.6g}") if np.isfinite(value) else None
