"""What G(z) leaves unexplained round the hole, continued into the hole.

One z has to serve a whole slice; the tissue next to the hole says more about the hole than that. Let z vary in place:
if its values at places d apart have the correlation exp(-d^2 / 2 REACH^2), what the scan differs from G(z) by is a
Gaussian field with the covariance c(x, y) exp(-d^2 / 2 REACH^2), where c is that of the model's slices. Its mean in
the hole, given its values round the hole, has a closed form, and so has its standard deviation: how far the truth may
lie from what is filled in.

Sources: Gaussian processes by their covariance, Rasmussen & Williams 2006, eq. 2.23 and 2.24; the localised covariance
of few samples, Houtekamer & Mitchell, Monthly Weather Review 2001.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ..space.slices import Slices

REACH = 4.5  # pixels
RING = 4  # pixels round the hole that are looked at
MOST = 2500  # known pixels; of more, those are taken with a likelihood that falls with the distance
DETAIL, DETAIL_REACH = 0.04, 2.0  # intensity and pixels: of what no brain of the model shows
NOISE = 0.05  # intensity, of a known pixel
MARGIN = 2  # pixels: holes closer than twice this are one; what is unknown so close to a hole is filled too
FAR = 3 * REACH  # from the known pixels, where their say is about 1 %
BATCH = 2000  # unknown pixels at once; bounds memory at about 100 MB


def krige_residual(
    generated: NDArray[np.float32],
    slices: Slices,
    components: Callable[[int, NDArray[np.bool_]], NDArray[np.float32]],
    device: torch.device | str = "cpu",
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Generated slices that agree with their surroundings, and how sure they are.

    Args:
        generated: float32 (n, h, w), G(z) as it lies in the scan.
        slices: the scan's.
        components: given a slice and pixels of it, bool (h, w), gives theirs, (pixels, k); the covariance of two
            pixels is their scalar product.
        device: where to solve for the mean, a torch device.

    Returns two float32 (n, h, w). The first is in the hole the conditional mean, on the known pixels near it the scan
    itself, so that a blending finds the gradient across the border, and elsewhere what was generated. The second is
    the conditional standard deviation in the hole, and 0 elsewhere.
    """
    distance = ndimage.distance_transform_edt(~slices.hole)
    ring = slices.context & (distance <= RING)
    fill = slices.unknown & (distance <= MARGIN)
    result = np.where(ring, slices.image, generated)
    variance = np.zeros(result.shape, np.float32)
    holes, _ = ndimage.label(ndimage.binary_dilation(slices.hole, iterations=MARGIN))
    left = slices.image - generated
    told = fill & (ndimage.distance_transform_edt(~ring) <= FAR) if ring.any() else np.zeros_like(fill)
    near = ring | told  # the only pixels whose components are held, bounding memory
    parts = []
    for n, pixels in enumerate(fill | ring):
        if pixels.any():
            own = components(n, pixels)
            variance[n, pixels] = np.square(own).sum(axis=1) + DETAIL**2
            parts.append(own[near[n, pixels]])
    variance[~fill] = 0
    values = np.concatenate(parts)
    row = np.cumsum(near).reshape(near.shape) - 1  # of `values`, for each pixel near a hole

    random = np.random.default_rng(0)
    for number, box in enumerate(ndimage.find_objects(holes), start=1):
        wide = tuple(slice(max(side.start - RING, 0), side.stop + RING) for side in box)
        corner = [side.start for side in wide]
        own = holes[wide] == number
        unknown = np.argwhere(own & told[wide]) + corner
        known = np.argwhere(ndimage.binary_dilation(own, iterations=RING) & ring[wide]) + corner
        if not (len(unknown) and len(known)):
            continue
        if len(known) > MOST:
            likelihood = 1 / distance[tuple(known.T)]
            chosen = random.choice(len(known), MOST, replace=False, p=likelihood / likelihood.sum())
            known = known[np.sort(chosen)]
        field = _Field(known, values[row[tuple(known.T)]], left[tuple(known.T)], device)
        for first in range(0, len(unknown), BATCH):
            part = unknown[first : first + BATCH]
            at = tuple(part.T)
            mean, explained = field.given(part, values[row[at]])
            result[at] += mean
            variance[at] -= explained
    return result.astype(np.float32), np.sqrt(np.maximum(variance, 0))


class _Field:
    """The Gaussian field, given what is `left` (p,) at known places (p, 3), whose components are (p, k)."""

    def __init__(
        self,
        known: NDArray[np.int64],
        values: NDArray[np.float32],
        left: NDArray[np.float32],
        device: torch.device | str,
    ) -> None:
        self.device = device
        self.known, self.values = self._tensor(known), self._tensor(values)
        joint = _covariance(self.known, self.values, self.known, self.values)
        joint.diagonal().add_(NOISE**2)
        self.factor = torch.linalg.cholesky(joint)
        self.shares = torch.cholesky_solve(self._tensor(left)[:, None], self.factor)[:, 0]

    def given(
        self, unknown: NDArray[np.int64], values: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean at unknown places (m, 3) with components (m, k), and the variance that is taken away, both (m,)."""
        cross = _covariance(self._tensor(unknown), self._tensor(values), self.known, self.values)
        explained = torch.linalg.solve_triangular(self.factor, cross.T, upper=False).square_().sum(dim=0)
        return (cross @ self.shares).cpu().numpy(), explained.cpu().numpy()

    def _tensor(self, array: NDArray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)


def _covariance(places: Tensor, values: Tensor, others: Tensor, other_values: Tensor) -> Tensor:
    """Of the field at places (m, 3) and others (p, 3) whose components are (m, k) and (p, k): (m, p)."""
    squared = ((places**2).sum(1)[:, None] + (others**2).sum(1)).addmm_(places, others.T, alpha=-2)
    # Far apart, a covariance of e^-16 stands for less: numbers too small for a float's exponent are slow.
    near = (squared / (-2 * REACH**2)).clamp_(min=-16).exp_()
    detail = (squared / (-2 * DETAIL_REACH**2)).clamp_(min=-16).exp_()
    return (values @ other_values.T).mul_(near).add_(detail, alpha=DETAIL**2)
