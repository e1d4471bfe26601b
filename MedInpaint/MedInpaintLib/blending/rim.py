"""The method: find the latents whose slices agree with the surroundings, decode them, blend them in."""

from __future__ import annotations

import numpy as np

from ..space.case import Case
from ..volumes.image import spacing_zyx
from ..volumes.mask import ring

DARK_LESION, DARK_RIM = 0.05, 0.01  # below what was generated, in model intensities
RIM = 2.1  # mm round the mask that may be lesion


def lesion_rim(case: Case, source: np.ndarray) -> np.ndarray:
    """Known voxels that are likely lesion, bool (z, y, x): near a dark lesion and themselves too dark.

    Masks of lesions are often tight, and what is dark beside them would be continued into the fill. What the hole holds
    matters here alone, and only by whether it is darker than what was generated; a hole of one value is no lesion.
    """
    own = case.values[case.hole]
    dark = np.ptp(own) > 0 and np.median(source[case.hole] - own) > DARK_LESION * case.slices.scale
    if not dark:
        return np.zeros_like(case.hole)
    near = ring(case.hole, spacing_zyx(case.scan), RIM)
    return near & (case.values < source - DARK_RIM * case.slices.scale)
