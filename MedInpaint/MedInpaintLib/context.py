"""How much each known pixel counts in the context loss.

Source: Yeh et al., "Semantic Image Inpainting with Deep Generative Models", CVPR 2017, eq. 5.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter


def context_weights(
    hole: np.ndarray, known: np.ndarray, window: int = 15, floor: float = 0.02, weighting: bool = True
) -> np.ndarray:
    """Weigh every known pixel by how much of the square window around it is hole.

    The paper's weight is the share of hole pixels in the window. Added to it is a small floor, so that the rest of
    the slice still has a say in which anatomy is generated. Outside the slice there is no hole.

    Args:
        hole: (n, h, w) bool, the pixels to fill.
        known: (n, h, w) bool, the pixels to compare with, none of them in the hole.
        window: side of the window in pixels, odd.
        floor: weight of a known pixel with no hole in its window.
        weighting: weigh by the hole's share; otherwise every known pixel counts 1.

    Returns:
        (n, h, w) float32: from `floor` to `floor` + 1 on known pixels, 0 elsewhere; not normalised.
    """
    if not weighting:
        return known.astype(np.float32)
    share = uniform_filter(hole.astype(np.float64), size=(1, window, window), mode="constant")
    # The filter's running sums leave some 1e-17 where there is no hole: round to whole pixels.
    share = np.rint(share * window**2) / window**2
    return np.where(known, share + floor, 0).astype(np.float32)
