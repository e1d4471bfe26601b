"""The shape of a brain that its affine alignment leaves unexplained: a smooth displacement of the decoded slices.

Source: free-form deformations by cubic B-splines, Rueckert et al., IEEE Transactions on Medical Imaging 1999.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

KNOT_DISTANCE = (4, 8, 8)  # pixels along (z, y, x)
STIFFNESS = 4.0  # of a difference between neighbouring knots, against a displacement itself


class Deformation:
    """In-plane displacements of a stack of slices, from the values of knots.

    Args:
        heights: int (n,), ascending: the slices' indices along the model grid.
        size: (h, w) of a slice.
        device: where to work.
    """

    def __init__(self, heights: np.ndarray, size: tuple[int, int], device: torch.device):
        positions = (heights - heights[0], np.arange(size[0]), np.arange(size[1]))
        self._bases = [
            spline_basis(along, distance).to(device) for along, distance in zip(positions, KNOT_DISTANCE, strict=True)
        ]
        y, x = torch.meshgrid(*(torch.linspace(-1, 1, side, device=device) for side in size), indexing="ij")
        self._identity = torch.stack([x, y], dim=-1)
        self._unit = 2 / (torch.tensor([size[1], size[0]], device=device) - 1)  # a pixel, where a side is -1 to 1

    @property
    def knots(self) -> tuple[int, ...]:
        """Shape of one stack's knots: (2, knots along z, y, x); x and y displacement in pixels."""
        return 2, *(basis.shape[1] for basis in self._bases)

    def displacement(self, knots: Tensor) -> Tensor:
        """Displacements in pixels (m * n, h, w, 2) of m stacks with these knots, (m, 2, kz, ky, kx)."""
        z, y, x = self._bases
        along_z = torch.einsum("mdkij,zk->mzdij", knots, z)
        return torch.einsum("mzdij,yi,xj->mzyxd", along_z, y, x).flatten(0, 1)

    def warped(self, slices: Tensor, displacement: Tensor) -> Tensor:
        """Slices (n, 1, h, w) whose pixels are taken from `displacement` (n, h, w, 2) away, linearly interpolated."""
        return _interpolated(slices, self._identity + displacement * self._unit)

    def sampled(self, slices: Tensor, displacement: Tensor, pixels: Tensor) -> Tensor:
        """The same in some pixels alone, bool (h, w), for slices of k channels (n, k, h, w): (n, k, pixels)."""
        places = self._identity[pixels] + displacement[:, pixels] * self._unit
        return _interpolated(slices, places[:, None])[:, :, 0]


def _interpolated(slices: Tensor, grid: Tensor) -> Tensor:
    return nnf.grid_sample(slices, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def roughness(knots: Tensor) -> Tensor:
    """The prior of knots (m, 2, kz, ky, kx): sum of their squares and of 4 times their squared differences."""
    return (knots**2).sum() + STIFFNESS * sum((knots.diff(dim=axis) ** 2).sum() for axis in (2, 3, 4))


def spline_basis(positions: np.ndarray, distance: int) -> Tensor:
    """Cubic B-splines at positions (n,) from 0 on, their knots a distance apart: (n, knots), each row's sum is 1."""
    count = math.ceil(positions[-1] / distance) + 3
    away = torch.as_tensor(positions)[:, None] / distance - torch.arange(-1.0, count - 1)
    away = away.abs()
    near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp(min=0) ** 3 / 6
    return torch.where(away < 1, near, far).float()
