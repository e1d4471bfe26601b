"""The contrast curve: from the model's intensities, those of a T1-weighted scan, to the scan's.

The curve is piecewise linear. A straight line serves T1-weighted scans; in a T2-weighted scan the curve falls, and in
FLAIR it has its top at grey matter.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor

from ..space.intensities import LEVELS

SPREAD = 0.1  # model intensity: the slope is that of the line through two points so far below and above
LEAST_SLOPE = 0.5  # flatter parts of a curve say too little about the model's intensity


def through_curve(values: Tensor, slices: Tensor) -> Tensor:
    """The curve with these values (k,) at LEVELS, applied to slices of any shape; constant beyond the levels."""
    places = slices.reshape(1, 1, -1) * (2 / LEVELS[-1]) - 1  # grid_sample counts from -1 to 1
    grid = torch.stack([places, torch.zeros_like(places)], dim=-1)
    line = values.reshape(1, 1, 1, -1)
    return nnf.grid_sample(line, grid, mode="bilinear", padding_mode="border", align_corners=True).view(slices.shape)


def along_line(values: Tensor, slices: Tensor) -> Tensor:
    """The same for values that lie on a straight line, which takes a third of the time."""
    gain = (values[-1] - values[0]) / LEVELS[-1]
    return values[0] + gain * slices.clamp(0, LEVELS[-1])


def slope(values: Tensor, slices: Tensor) -> Tensor:
    """The mean slope of the curve around the intensities of slices, in their shape."""
    high, low = (through_curve(values, slices + step) for step in (SPREAD, -SPREAD))
    covered = (slices + SPREAD).clamp(0, LEVELS[-1]) - (slices - SPREAD).clamp(0, LEVELS[-1])
    return (high - low) / covered.clamp(min=SPREAD)


def as_model_sees(values: Tensor, image: Tensor, mean: Tensor) -> Tensor:
    """The scan's slices in model intensities, near the mean brain: one Newton step against the curve.

    Args:
        values: (k,), the curve.
        image: (n, 1, h, w), the scan's slices.
        mean: (n, 1, h, w), the mean brain's.
    """
    along = slope(values, mean)
    return mean + (image - through_curve(values, mean)) * along / (along**2).clamp(min=LEAST_SLOPE**2)
