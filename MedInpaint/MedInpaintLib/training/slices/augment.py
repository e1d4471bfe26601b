"""Augmentation of a training batch: other brains' shapes, flips, affine maps, intensity changes, random holes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from ...search.deformation import Deformation

SHARE = 0.4  # largest share of another brain's shape
SHIFT = 4  # pixels


class Shapes:
    """The shapes of the training brains: how each of them was deformed to the common shape.

    Args:
        knots: (subjects, 2, kz, ky, kx), see `Deformation`.
        size: (heights, h, w) of the model grid.
        device: a torch device.
    """

    def __init__(self, knots: np.ndarray, size: tuple[int, int, int], device: torch.device):
        self.knots = torch.as_tensor(knots).float().to(device)
        self.last = size[0] - 1
        self.deformation = Deformation(np.arange(size[0]), size[1:], device)

    def reshape(self, slices: Tensor, height: Tensor, generator: torch.Generator) -> Tensor:
        """Slices (n, 1, h, w) at relative heights (n,), each with a part of the shape of a random brain.

        The inverse of a deformation is taken as its negative, which holds for small ones.
        """
        n = len(slices)
        share = (SHARE * (2 * torch.rand(n, generator=generator) - 1)).to(slices.device)
        subject = torch.randint(len(self.knots), (n,), generator=generator).to(slices.device)
        knots = self.knots[subject] * share[:, None, None, None, None]
        displacement = self.deformation.displacement_at(knots, (height * self.last).round().long())
        return self.deformation.warp(slices, displacement)


def augment(slices: Tensor, generator: torch.Generator) -> Tensor:
    """Slices (n, 1, h, w), moved by `move_randomly`, with a random gain of 1 +- 8 % and a random gamma of 1 +- 12 %."""
    n = len(slices)
    gain, gamma = (
        1 + (2 * torch.rand(n, 1, 1, 1, generator=generator).to(slices.device) - 1) * extent for extent in (0.08, 0.12)
    )
    return gain * move_randomly(slices, generator).clamp(min=1e-4) ** gamma


def move_randomly(slices: Tensor, generator: torch.Generator) -> Tensor:
    """Slices (n, c, h, w), randomly flipped, and moved and warped a little. All channels of a slice move together.

    The rotation is up to 5 degrees, the scaling up to 5 % along each axis, the shift up to 2 %. The warp is a smooth
    field through 8 x 6 random displacements with a standard deviation of 1 % of the slice's width.
    """
    n, _, height, width = slices.shape

    def draw(extent: float) -> Tensor:
        return (2 * torch.rand(n, generator=generator).to(slices.device) - 1) * extent

    flip = torch.sign(draw(1.0) + 1e-9)
    angle, ratio = draw(0.09), height / width
    sx, sy, tx, ty = 1 + draw(0.05), 1 + draw(0.05), draw(0.02), draw(0.02)
    rows = [
        torch.stack([flip * sx * angle.cos(), -angle.sin() * ratio, tx], dim=1),
        torch.stack([flip * angle.sin() / ratio, sy * angle.cos(), ty], dim=1),
    ]
    grid = nnf.affine_grid(torch.stack(rows, dim=1), [n, 1, height, width], align_corners=False)
    knots = 0.02 * torch.randn(n, 2, 8, 6, generator=generator).to(slices.device)  # the grid runs from -1 to 1
    warp = nnf.interpolate(knots, (height, width), mode="bicubic", align_corners=True)
    grid = grid + warp.movedim(1, -1) * torch.tensor([1.0, width / height], device=slices.device)
    return nnf.grid_sample(slices, grid, mode="bilinear", align_corners=False)


def flip_and_shift(slices: Tensor, generator: torch.Generator) -> Tensor:
    """Slices (n, 1, h, w), randomly flipped, and shifted by whole pixels, up to SHIFT along each axis."""
    flips = torch.rand(len(slices), generator=generator) < 0.5
    shifts = torch.randint(-SHIFT, SHIFT + 1, (len(slices), 2), generator=generator).tolist()
    moved = [
        (each.flip(-1) if flip else each).roll(shift, dims=(1, 2))
        for each, flip, shift in zip(slices, flips.tolist(), shifts, strict=True)
    ]
    return torch.stack(moved)


def random_holes(slices: Tensor, spacing: float, generator: torch.Generator, most: int = 3) -> Tensor:
    """Holes (n, 1, h, w), 1 in the hole: 1 to 3 ellipses with radii of 3 to 24 mm and centres in the brain."""
    n, _, height, width = slices.shape
    rows = torch.arange(height, device=slices.device).view(1, -1, 1)
    columns = torch.arange(width, device=slices.device).view(1, 1, -1)
    brain = (slices[:, 0] > 0.05).flatten(1).float() + 1e-6

    def uniform(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(n, generator=generator)).to(slices.device).view(-1, 1, 1)

    hole = torch.zeros(n, height, width, device=slices.device, dtype=torch.bool)
    count = uniform(0, most).ceil()
    for index in range(most):
        centre = torch.multinomial(brain.cpu(), 1, generator=generator).to(slices.device).view(-1, 1, 1)
        angle = uniform(0, torch.pi)
        dy, dx = rows - centre // width, columns - centre % width
        along, across = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
        radius = 3 * 8 ** uniform(0, 1) / spacing  # log-uniform: small holes are as frequent as large ones
        stretch = uniform(0.7, 1.4)
        hole |= ((along * stretch) ** 2 + (across / stretch) ** 2 < radius**2) & (index < count)
    return hole[:, None].float()
