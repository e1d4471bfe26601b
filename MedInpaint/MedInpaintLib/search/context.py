"""How much each known pixel counts in the context loss.

Source: Yeh et al., "Semantic Image Inpainting with Deep Generative Models", CVPR 2017, eq. 5.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter


def context_weights(
    hole: np.ndarray,
    known: np.ndarray,
    heights: np.ndarray,
    window: int,
    weighting: bool = True,
    floor: float = 0.002,
) -> np.ndarray:
    """Weigh every known pixel by how much of the cubic window around it is hole.

    The paper's weight is the share of hole pixels in a window in the slice; here the window reaches into the slices
    above and below as well, if there are any, so that those next to the hole count. Added is a small floor, so that
    the rest of the slice still has a say in which anatomy is generated. Where there is no slice, there is no hole.

    Args:
        hole: (n, h, w) bool, the pixels to fill.
        known: (n, h, w) bool, the pixels to compare with, none of them in the hole.
        heights: (n,) int, ascending: the slices' indices along the model grid.
        window: side of the window in pixels, odd; a slice is as thick as a pixel is wide.
        weighting: weigh by the hole's share; otherwise every known pixel counts 1.
        floor: weight of a known pixel with no hole in its window.

    Returns:
        (n, h, w) float32: from `floor` to `floor` + 1 on known pixels, 0 elsewhere; not normalised.
    """
    if not weighting:
        return known.astype(np.float32)
    stack = np.zeros((heights[-1] - heights[0] + 1, *hole.shape[1:]))
    stack[heights - heights[0]] = hole
    size = window if len(stack) > 1 else 1, window, window  # a slice on its own has the paper's window
    share = uniform_filter(stack, size=size, mode="constant")[heights - heights[0]]
    # The filter's running sums leave some 1e-17 where there is no hole: round to whole pixels.
    share = np.rint(share * np.prod(size)) / np.prod(size)
    return np.where(known, share + floor, 0).astype(np.float32)
