"""The dark rim of a lesion: known voxels beside the hole that are probably lesion too."""

from __future__ import annotations

import numpy as np

from ..space.case import Case
from ..volumes.image import spacing_zyx
from ..volumes.mask import ring

DARK_LESION, DARK_RIM = 0.05, 0.01  # below the generated slices, in model intensities
RIM = 2.1  # mm; voxels this close to the mask may be lesion


def lesion_rim(case: Case, source: np.ndarray) -> np.ndarray:
    """Known voxels that are probably lesion, bool (z, y, x): close to a dark lesion and too dark themselves.

    Lesion masks are often tight, and the blending would continue the dark voxels beside them into the fill. Only this
    function looks at the values in the hole, and only at whether their median is darker than the generated slices'.
    A hole with one single value is no lesion.

    Args:
        source: (z, y, x), the generated slices on the scan's grid.
    """
    own = case.values[case.hole]
    dark = np.ptp(own) > 0 and np.median(source[case.hole] - own) > DARK_LESION * case.slices.scale
    if not dark:
        return np.zeros_like(case.hole)
    near = ring(case.hole, spacing_zyx(case.scan), RIM)
    return near & (case.values < source - DARK_RIM * case.slices.scale)
