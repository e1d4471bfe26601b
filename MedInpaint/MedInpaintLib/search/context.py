"""The weights of the known pixels in the context loss.

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
    """Weight each known pixel by the share of hole pixels in the cubic window around it.

    In the paper the window lies in the slice. Here it also reaches into the slices above and below, so that known
    slices next to the hole count. A small floor is added, so that the rest of the slice also contributes. Missing
    slices count as slices without a hole.

    Args:
        hole: (n, h, w) bool, the pixels to fill.
        known: (n, h, w) bool, the pixels to compare with, none of them in the hole.
        heights: (n,) int, ascending: the slices' indices along the model grid.
        window: side of the window in pixels, odd; a slice is one pixel thick.
        weighting: use the weights; otherwise each known pixel has the weight 1.
        floor: weight of a known pixel with no hole in its window.

    Returns:
        (n, h, w) float32: from `floor` to `floor` + 1 on known pixels, 0 elsewhere; not normalised.
    """
    if not weighting:
        return known.astype(np.float32)
    stack = np.zeros((heights[-1] - heights[0] + 1, *hole.shape[1:]))
    stack[heights - heights[0]] = hole
    size = window if len(stack) > 1 else 1, window, window  # a single slice has the window of the paper
    share = uniform_filter(stack, size=size, mode="constant")[heights - heights[0]]
    # The filter's running sums give about 1e-17 where there is no hole, so round to whole pixels.
    share = np.rint(share * np.prod(size)) / np.prod(size)
    return np.where(known, share + floor, 0).astype(np.float32)
