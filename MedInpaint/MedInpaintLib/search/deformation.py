"""A smooth displacement of the decoded slices, for differences in shape that the affine alignment does not remove.

Source: free-form deformations by cubic B-splines, Rueckert et al., IEEE Transactions on Medical Imaging 1999.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

KNOT_DISTANCE = (4, 8, 8)  # pixels along (z, y, x)
STIFFNESS = 4.0  # weight of a difference between neighbouring knots, relative to the displacement itself


class Deformation:
    """In-plane displacements of a stack of slices, given by cubic B-splines.

    Args:
        heights: int (n,), ascending: the slices' indices along the model grid.
        size: (h, w) of a slice.
        device: a torch device.
    """

    def __init__(self, heights: np.ndarray, size: tuple[int, int], device: torch.device):
        positions = (heights - heights[0], np.arange(size[0]), np.arange(size[1]))
        self._bases = [
            spline_basis(along, distance).to(device) for along, distance in zip(positions, KNOT_DISTANCE, strict=True)
        ]
        y, x = torch.meshgrid(*(torch.linspace(-1, 1, side, device=device) for side in size), indexing="ij")
        self._identity = torch.stack([x, y], dim=-1)
        # One pixel in the units of grid_sample, in which each side has the length 2.
        self._unit = 2 / (torch.tensor([size[1], size[0]], device=device) - 1)

    @property
    def knots(self) -> tuple[int, ...]:
        """Shape of the knots: (2, knots along z, y, x); the 2 are x and y displacements in pixels."""
        return 2, *(basis.shape[1] for basis in self._bases)

    def displacement(self, knots: Tensor) -> Tensor:
        """The displacements (n, h, w, 2) in pixels, for knots (2, kz, ky, kx)."""
        z, y, x = self._bases
        along_z = torch.einsum("dkij,zk->zdij", knots, z)
        return torch.einsum("zdij,yi,xj->zyxd", along_z, y, x)

    def displacement_at(self, knots: Tensor, index: Tensor) -> Tensor:
        """The displacements (m, h, w, 2) of m slices with indices (m,), each with its own knots, (m, 2, kz, ky, kx)."""
        z, y, x = self._bases
        return torch.einsum("mdkij,mk,yi,xj->myxd", knots, z[index], y, x)

    def warp(self, slices: Tensor, displacement: Tensor) -> Tensor:
        """Slices (n, 1, h, w): each pixel has the value at its place plus its displacement (n, h, w, 2), bilinearly."""
        return _interpolate(slices, self._identity + displacement * self._unit)

    def warp_pixels(self, slices: Tensor, displacement: Tensor, pixels: Tensor) -> Tensor:
        """The same for some pixels only, bool (h, w), of slices with k channels (n, k, h, w): (n, k, pixels)."""
        places = self._identity[pixels] + displacement[:, pixels] * self._unit
        return _interpolate(slices, places[:, None])[:, :, 0]


def roughness(knots: Tensor) -> Tensor:
    """The prior of knots (2, kz, ky, kx): the sum of squares, plus STIFFNESS times squared differences."""
    return (knots**2).sum() + STIFFNESS * sum((knots.diff(dim=axis) ** 2).sum() for axis in (1, 2, 3))


def spline_basis(positions: np.ndarray, distance: int) -> Tensor:
    """Cubic B-splines (n, knots) at positions (n,) from 0 on, for this distance of knots; each row sums to 1."""
    count = math.ceil(positions[-1] / distance) + 3
    offset = torch.as_tensor(positions)[:, None] / distance - torch.arange(-1.0, count - 1)
    offset = offset.abs()
    near, far = 2 / 3 - offset**2 + offset**3 / 2, (2 - offset).clamp(min=0) ** 3 / 6
    return torch.where(offset < 1, near, far).float()


def _interpolate(slices: Tensor, grid: Tensor) -> Tensor:
    return nnf.grid_sample(slices, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
