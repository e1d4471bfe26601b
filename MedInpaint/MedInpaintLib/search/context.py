"""The context loss of a scan: the weights of its known pixels, and the variables of its contrast curve.

Source: Yeh et al., "Semantic Image Inpainting with Deep Generative Models", CVPR 2017, eq. 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from ..space.intensities import LEVELS
from ..space.slices import Slices
from .curve import along_line, through_curve

BEND_WEIGHT = 30.0  # of the squared bend of the contrast curve in the loss


class ScanLoss:
    """The context loss of one scan: its slices, their weights, and the variables of its contrast curve.

    Attributes:
        image, weight: float32 (n, 1, h, w).
        start_curve: (k,), the contrast curve where the search starts.
        straight: whether this is the straight line.
        gain, offset, bend: the variables; scalars, and (k,). A straight line has no bend.
    """

    def __init__(self, slices: Slices, weights: np.ndarray, curve: np.ndarray, device: torch.device):
        def tensor(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=torch.float32).to(device)

        self.image, self.weight = (tensor(array)[:, None] for array in (slices.image, weights))
        self.start_curve = tensor(curve)
        self.straight = torch.equal(self.start_curve, tensor(LEVELS))
        self.gain, self.offset = (torch.full((), x, device=device, requires_grad=True) for x in (1.0, 0.0))
        self.bend = torch.zeros(len(LEVELS), device=device, requires_grad=not self.straight)

    def of_rows(self, rows: slice) -> ScanLoss:
        """The loss of some rows of the slices, with the same variables."""
        part = copy(self)
        part.image, part.weight = (tensor[..., rows, :] for tensor in (self.image, self.weight))
        return part

    def curve(self) -> Tensor:
        """The contrast curve's values (k,) at LEVELS."""
        return self.gain * self.start_curve + self.offset + self.bend

    def penalty(self) -> Tensor:
        """The prior of the bend."""
        return BEND_WEIGHT * (self.bend**2).sum()

    def through_curve(self, tissue: Tensor) -> Tensor:
        """The contrast curve of the model's tissue, of any shape."""
        return (along_line if self.straight else through_curve)(self.curve(), tissue)

    @torch.no_grad()
    def distance(self, tissue: Tensor) -> float:
        """The weighted mean distance of the scan from the model's tissue (n, 1, h, w), where the search starts."""
        return float(self(tissue, slice(None)).sum() / self.weight.sum().clamp(min=1e-9))

    def __call__(self, tissue: Tensor, indices: slice) -> Tensor:
        """The loss (m,) of slices with these indices, for the model's tissue (m, 1, h, w)."""
        slices = self.through_curve(tissue)
        return (self.weight[indices] * (slices - self.image[indices]).abs()).flatten(1).sum(1)


def balance(scans: Sequence[ScanLoss], mean: Tensor) -> None:
    """Give several scans of one head equal parts in the loss; the first one keeps its weights.

    Each counts in units of its own distance from the mean brain (n, 1, h, w). Else a noisy scan, or a T2 with its
    bright fluid, would count more than the clear one.
    """
    first, *others = scans
    unit = first.distance(mean)
    for scan in others:
        scan.weight *= unit / max(scan.distance(mean), 1e-9)


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
        known: (n, h, w) bool, the pixels to compare with. They may lie in the hole if other scans have it.
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
