"""A linear latent model of each height of the brain: the baseline that a network should improve on.

Probabilistic PCA (Tipping and Bishop, J. R. Stat. Soc. B 1999): a slice is y = mu + B z + e with z ~ N(0, I) and
e ~ N(0, sigma2 I). The best z has a closed form, so the model needs no iterations and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ...errors import InputError

RANK_TOLERANCE = 1e-10  # share of the largest eigenvalue; smaller eigenvalues are rounding errors
NOISE_FLOOR = 1e-6  # share of the mean variance of a pixel; keeps the normal equations regular without noise


class LinearModel:
    """Probabilistic PCA of model-space slices. Each height has a model, which is fitted when it is first needed.

    The fits stay in memory: 4 bytes x varying pixels x components each, 5 MB if half of a 128 x 160 slice varies.
    """

    def __init__(self) -> None:
        self._slices: NDArray[np.float32] | None = None
        self._components = self._neighbours = 0
        self._fits: dict[int, _Fit] = {}

    def fit(self, slices: NDArray[np.float32], components: int = 120, neighbours: int = 2) -> LinearModel:
        """Set the training slices and return this object. The heights are fitted later.

        Args:
            slices: (subjects, heights, h, w); not copied.
            components: size of the latent; at most the rank of the data is used.
            neighbours: a height is trained on this number of heights above and below, too.

        Raises InputError if slices has not four axes, or if components or neighbours is out of range.
        """
        if slices.ndim != 4 or not slices.size:
            raise InputError(f"The training slices are {slices.shape}; give (subjects, heights, h, w).")
        if components < 1 or neighbours < 0:
            raise InputError(f"Give 1 or more components and 0 or more neighbours; got {components} and {neighbours}.")
        self._slices, self._components, self._neighbours = slices, components, neighbours
        self._fits = {}
        return self

    def fill(
        self,
        image: NDArray[np.floating],
        weights: NDArray[np.floating],
        height: int,
        noise: float | None = None,
    ) -> NDArray[np.float32]:
        """The most probable slice given the known pixels: mu + B z, float32 (h, w), where z minimises

            sum_i w_i (y_i - mu_i - b_i z)^2 / sigma2 + ||z||^2.

        Args:
            image: (h, w), used only where weights is positive.
            weights: (h, w), 0 in the hole. They are scaled to a maximum of 1. If all are 0, the mean is returned.
            height: index of the height in the training slices.
            noise: variance sigma2, intensity squared; None: the fitted one. A larger value trusts the prior more.

        Raises InputError if a shape, the height, the noise or a weight is out of range.
        """
        fit = self._fit_at(height)
        if image.shape != fit.mean.shape or weights.shape != fit.mean.shape:
            raise InputError(
                f"Image {image.shape} and weights {weights.shape} differ from the model's {fit.mean.shape}."
            )
        if not np.isfinite(weights).all() or weights.min() < 0 or (noise is not None and not noise > 0):
            raise InputError("Weights must be finite and not negative, and the noise variance positive.")

        known = weights[fit.varies] > 0
        if not known.any() or not fit.basis.shape[1]:
            return fit.mean.copy()
        basis = fit.basis[known].astype(np.float64)
        weight = weights[fit.varies][known] / float(weights.max())
        residual = image[fit.varies][known].astype(np.float64) - fit.mean[fit.varies][known]

        weighted = basis.T * weight
        precision = weighted @ basis
        precision.flat[:: len(precision) + 1] += fit.noise if noise is None else noise
        latent = linalg.solve(precision, weighted @ residual, assume_a="pos")

        filled = fit.mean.copy()
        filled[fit.varies] += (fit.basis @ latent).astype(np.float32)
        return filled

    def fill_stack(
        self,
        images: NDArray[np.floating],
        weights: NDArray[np.floating],
        heights: Sequence[int],
        noise: float | None = None,
    ) -> NDArray[np.float32]:
        """`fill` for each of n slices: images and weights (n, h, w) at heights (n,) -> float32 (n, h, w)."""
        if not len(images) == len(weights) == len(heights):
            raise InputError("Give as many images as weights and heights.")
        filled = np.empty(images.shape, dtype=np.float32)
        for n, (image, weight, height) in enumerate(zip(images, weights, heights, strict=True)):
            filled[n] = self.fill(image, weight, int(height), noise)
        return filled

    def _fit_at(self, height: int) -> _Fit:
        if self._slices is None:
            raise RuntimeError("LinearModel.fill needs LinearModel.fit first.")
        heights = self._slices.shape[1]
        if not 0 <= height < heights:
            raise InputError(f"Height {height} is not one of the model's; choose one from 0 to {heights - 1}.")
        if height not in self._fits:
            samples = self._slices[:, max(height - self._neighbours, 0) : height + self._neighbours + 1]
            self._fits[height] = _fit(samples.reshape(-1, *samples.shape[2:]), self._components)
        return self._fits[height]


@dataclass(frozen=True)
class _Fit:
    """The model of one height, on the p pixels that vary there."""

    mean: NDArray[np.float32]  # (h, w)
    varies: NDArray[np.bool_]  # (h, w), p pixels are true
    basis: NDArray[np.float32]  # (p, k), intensity per unit of z
    noise: float  # sigma2, intensity squared


def _fit(samples: NDArray[np.float32], components: int) -> _Fit:
    """Maximum-likelihood probabilistic PCA of samples (n, h, w), from the n x n Gram matrix, because n << pixels."""
    mean = samples.mean(axis=0, dtype=np.float64)
    varies = np.ptp(samples, axis=0) > 0
    centred = samples[:, varies] - mean[varies]  # (n, p), float64
    n, pixels = centred.shape
    if not pixels:
        return _Fit(mean.astype(np.float32), varies, np.empty((0, 0), np.float32), noise=1.0)

    eigenvalues, vectors = linalg.eigh(centred @ centred.T / n)
    eigenvalues, vectors = np.maximum(eigenvalues[::-1], 0), vectors[:, ::-1]
    k = min(components, int(np.count_nonzero(eigenvalues > RANK_TOLERANCE * eigenvalues[0])))

    # The noise is the mean of the other eigenvalues. There is one per pixel; those not in the Gram matrix are 0.
    total = eigenvalues.sum()
    noise = max(eigenvalues[k:].sum() / max(pixels - k, 1), NOISE_FLOOR * total / pixels)
    scale = np.sqrt(np.maximum(eigenvalues[:k] - noise, 0) / (n * eigenvalues[:k]))
    basis = centred.T @ (vectors[:, :k] * scale)
    return _Fit(mean.astype(np.float32), varies, basis.astype(np.float32), float(noise))
