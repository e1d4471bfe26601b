"""The template: the average brain that defines model space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk

EDGE_REACH = 4.5  # mm; in a whole head, the edge of the brain is known no better than this


@dataclass(frozen=True)
class Template:
    """The average brain that defines model space.

    Attributes:
        image: float32, 0 outside the brain, white matter near 0.75; its grid is the model's grid.
        brain: uint8, 1 in the brain, on the same grid.
    """

    image: sitk.Image
    brain: sitk.Image

    @cached_property
    def edge(self) -> np.ndarray:
        """The band within 4.5 mm of the brain's edge, bool (z, h, w)."""
        near_brain, near_rest = (
            sitk.SignedMaurerDistanceMap(part, squaredDistance=False, useImageSpacing=True) <= EDGE_REACH
            for part in (self.brain, 1 - self.brain)
        )
        return sitk.GetArrayFromImage(near_brain & near_rest) > 0

    @property
    def support(self) -> np.ndarray:
        """The pixels that may show tissue in some slice of some brain, bool (h, w)."""
        return ((sitk.GetArrayViewFromImage(self.brain) > 0) | self.edge).any(axis=0)
