"""Gaussian-process regression (kriging) of the residual, which continues it from the ring into the hole.

The residual is the scan minus G(z). One z serves a whole slice, but the tissue close to the hole says more about the
hole than the rest of the slice does. So z may vary in space: its values at two places a distance d apart have the
correlation exp(-d^2 / 2 REACH^2). The residual is then a Gaussian field with the covariance c(x, y) exp(-d^2 / 2
REACH^2), where c is the covariance of the model's slices. Given the residual in the ring, its posterior mean in the
hole has a closed form. So has its posterior standard deviation, which is the uncertainty of the fill.

Sources: Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, eq. 2.23 and 2.24; for the localised
covariance of few samples, Houtekamer & Mitchell, Monthly Weather Review 2001.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ..search.latent import Components
from ..space.intensities import LEVELS, contrast_name
from ..space.slices import Slices

REACH = 4.5  # pixels
RING = 4  # pixels; the width of the ring of known pixels around a hole
MAXIMUM_KNOWN = 1000  # known pixels; from more, a sample is drawn, with a probability that falls with the distance
DETAIL, DETAIL_REACH = 0.04, 2.0  # intensity and pixels, of the detail that no brain of the model has
NOISE = 0.1  # intensity; standard deviation of a known pixel: noise, and detail that does not reach into the hole
MARGIN = 2  # pixels; unknown pixels this close to a hole are filled too, and holes closer than 4 pixels become one
FAR = 3 * REACH  # from the known pixels; they change the mean here by about 1 % only
BATCH = 2000  # unknown pixels at once; bounds memory at about 100 MB


def residual_noise(slices: Slices, curve: NDArray[np.floating]) -> float | None:
    """NOISE for T1 and FLAIR; None for T2 and other curved contrasts, which kriging cost up to 3.6 dB.

    Their residual has little to do with the differences between T1-weighted brains.

    Args:
        slices: of the scan.
        curve: (k,), the contrast curve that the search found.
    """
    related = np.array_equal(slices.curve, LEVELS) or contrast_name(curve) == "FLAIR"
    return NOISE if related else None


def krige_residual(
    generated: NDArray[np.float32],
    slices: Slices,
    components: Components,
    device: torch.device | str = "cpu",
    noise: float | None = NOISE,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Add the posterior mean of the residual to generated slices, and compute its posterior standard deviation.

    Args:
        generated: float32 (n, h, w), G(z) in model intensities.
        slices: the slices of the scan.
        components: as `search` returns it; the prior covariance of two pixels of a slice is the scalar product of
            their components.
        device: the torch device that solves the linear systems.
        noise: see `residual_noise`; with None the mean stays G(z), and the deviation that of the prior.

    Returns two float32 arrays (n, h, w):
        mean: the posterior mean in the hole and in the ring, so that a blending compares the scan with the same smooth
            prediction on both sides of the border; the generated slices elsewhere.
        deviation: the posterior standard deviation in the hole, and 0 elsewhere.
    """
    distance = ndimage.distance_transform_edt(~slices.hole)
    fill = slices.unknown & (distance <= MARGIN)
    if noise is None:
        return generated, np.sqrt(_prior(components, fill, np.zeros_like(fill))[0])

    ring = slices.context & (distance <= RING)
    mean = generated.copy()
    residual = slices.image - generated
    # Only these unknown pixels get a posterior; the prior holds for those far from every known pixel.
    near = fill & (ndimage.distance_transform_edt(~ring) <= FAR) if ring.any() else np.zeros_like(fill)
    variance, values, row = _prior(components, fill | ring, ring | near)
    variance[~fill] = 0
    random = np.random.default_rng(0)
    for known, unknown in _pixels_by_hole(slices.hole, ring, near):
        around = known
        if len(known) > MAXIMUM_KNOWN:
            probability = 1 / distance[tuple(known.T)]
            chosen = random.choice(len(known), MAXIMUM_KNOWN, replace=False, p=probability / probability.sum())
            known = known[np.sort(chosen)]
        process = _GaussianProcess(known, values[row[tuple(known.T)]], residual[tuple(known.T)], device, noise)
        for first in range(0, len(unknown), BATCH):
            batch = unknown[first : first + BATCH]
            index = tuple(batch.T)
            posterior_mean, explained = process.predict(batch, values[row[index]])
            mean[index] = generated[index] + posterior_mean
            variance[index] -= explained
        for first in range(0, len(around), BATCH):
            index = tuple(around[first : first + BATCH].T)
            mean[index] = generated[index] + process.mean(around[first : first + BATCH], values[row[index]])
    return mean.astype(np.float32), np.sqrt(np.maximum(variance, 0))


def _prior(
    components: Components, pixels: NDArray[np.bool_], kept: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """The prior variance of pixels (n, h, w), and the components of those that are `kept`, a part of them.

    The components need much memory, so only the kept pixels have theirs stored: (kept pixels, k). The third array,
    (n, h, w), is the row of each kept pixel.
    """
    variance = np.zeros(pixels.shape, np.float32)
    stored = []
    for n, in_slice in enumerate(pixels):
        if in_slice.any():
            values = components(n, in_slice)
            variance[n, in_slice] = np.square(values).sum(axis=1) + DETAIL**2
            stored.append(values[kept[n, in_slice]])
    return variance, np.concatenate(stored), np.cumsum(kept).reshape(kept.shape) - 1


def _pixels_by_hole(
    hole: NDArray[np.bool_], ring: NDArray[np.bool_], near: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each hole with both: the indices (p, 3) of the known pixels around it and (m, 3) of the unknown ones."""
    numbers, _ = ndimage.label(ndimage.binary_dilation(hole, iterations=MARGIN))
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        wide = tuple(slice(max(side.start - RING, 0), side.stop + RING) for side in box)
        corner = [side.start for side in wide]
        this = numbers[wide] == number
        unknown = np.argwhere(this & near[wide]) + corner
        known = np.argwhere(ndimage.binary_dilation(this, iterations=RING) & ring[wide]) + corner
        if len(unknown) and len(known):
            yield known, unknown


class _GaussianProcess:
    """The Gaussian field, given the residual (p,) at known pixels (p, 3) with components (p, k)."""

    def __init__(
        self,
        known: NDArray[np.int64],
        values: NDArray[np.float32],
        residual: NDArray[np.float32],
        device: torch.device | str,
        noise: float,
    ) -> None:
        self.device = device
        self.known, self.values = self._tensor(known), self._tensor(values)
        covariance = _covariance(self.known, self.values, self.known, self.values)
        covariance.diagonal().add_(noise**2)
        self.factor = torch.linalg.cholesky(covariance)
        self.weights = torch.cholesky_solve(self._tensor(residual)[:, None], self.factor)[:, 0]

    def mean(self, places: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The posterior mean (m,) at pixels (m, 3) with components (m, k)."""
        cross = _covariance(self._tensor(places), self._tensor(values), self.known, self.values)
        return (cross @ self.weights).cpu().numpy()

    def predict(
        self, unknown: NDArray[np.int64], values: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The posterior mean at pixels (m, 3) with components (m, k), and prior minus posterior variance, both (m,)."""
        cross = _covariance(self._tensor(unknown), self._tensor(values), self.known, self.values)
        explained = torch.linalg.solve_triangular(self.factor, cross.T, upper=False).square_().sum(dim=0)
        return (cross @ self.weights).cpu().numpy(), explained.cpu().numpy()

    def _tensor(self, array: NDArray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)


def _covariance(places: Tensor, values: Tensor, others: Tensor, other_values: Tensor) -> Tensor:
    """The prior covariance (m, p) of pixels (m, 3) and (p, 3) with components (m, k) and (p, k)."""
    squared = ((places**2).sum(1)[:, None] + (others**2).sum(1)).addmm_(places, others.T, alpha=-2)
    # Smaller correlations become e^-16: arithmetic with floats below 1e-38 (subnormal numbers) is slow.
    near = (squared / (-2 * REACH**2)).clamp_(min=-16).exp_()
    detail = (squared / (-2 * DETAIL_REACH**2)).clamp_(min=-16).exp_()
    return (values @ other_values.T).mul_(near).add_(detail, alpha=DETAIL**2)
