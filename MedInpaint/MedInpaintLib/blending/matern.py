"""Matérn blending: a smooth correction brings the generated slices into agreement with the scan around the hole.

The difference between the scan and the generated slices is modelled as a Gaussian field with a Matérn covariance (5/2:
twice differentiable). The voxels around the hole are noisy observations of it. Its posterior mean d minimises

    sum over known voxels of trust * (d - difference)² + noise * sum over all voxels of ((1 - REACH² laplacian)² d)²

Poisson blending minimises |grad d|² instead: it carries a difference at the border through the whole hole, and it uses
a ring of one voxel. Matérn blending also continues slopes across the border, and its correction vanishes within a few
millimetres; deeper in the hole the model knows better.

Sources: Lindgren, Rue, Lindström, "An explicit link between Gaussian fields and Gaussian Markov random fields: the
stochastic partial differential equation approach", J. R. Stat. Soc. B 73(4), 2011; the weights that stop a correction
at edges: Perona, Malik, "Scale-space and edge detection using anisotropic diffusion", IEEE TPAMI 12(7), 1990.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gamma

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.linalg import LinearOperator, cg

from ..volumes.mask import bounding_box

REACH = 1.0  # mm; the covariance falls to a half at 2.4 mm
POWER = 4  # of 1 - REACH² laplacian in the precision of the field; in 3-D its smoothness is POWER - 3/2
# The noise's share of the field's variance is multiplied by this, the best value on scans with and without added
# noise. It is below one because the difference is larger close to a hole than elsewhere.
NOISE_SHARE = 0.1
EDGE = 0.15  # of the brain's intensity: a correction hardly crosses a step of this size in the generated slices
RING = 4  # voxels; the width of the ring of known voxels
MAXIMUM_ITERATIONS = 2000  # voxels of 1 mm take about 500, finer ones more


def matern_blend(
    known: NDArray[np.floating],
    source: NDArray[np.floating],
    hole: NDArray[np.bool_],
    spacing: Sequence[float] | np.ndarray,
    trust: NDArray[np.floating],
    full_scale: float,
    noise: float,
    tolerance: float = 1e-4,
) -> NDArray[np.float64]:
    """Fill the hole with the source plus a smooth correction that fits the known voxels around it.

    Memory and time grow with the hole, not with the volume.

    Args:
        known: (z, y, x), the scan; its values inside the hole are ignored.
        source: (z, y, x), the generated content, in the scan's intensities.
        hole: (z, y, x), the voxels to fill.
        spacing: voxel size along (z, y, x) in mm.
        trust: (z, y, x), the weight of a known voxel, from 0 (not used) to 1.
        full_scale: the brain's intensity; steps in the source are measured relative to it.
        noise: standard deviation of the scan's noise.
        tolerance: relative residual at which the solver stops.

    Returns:
        (n,), the values in the order of `known[hole]`; the source's values if no voxel near the hole is known.
    """
    box = bounding_box(hole, RING)
    inside, known, content = hole[box], known[box], source[box].astype(np.float64)
    around = ndimage.binary_dilation(inside, iterations=RING) & ~inside & (trust[box] > 0) & np.isfinite(known)
    if not around.any():
        return content[inside]
    field = inside | around
    weight = np.where(around, trust[box], 0)[field]
    difference = np.where(weight > 0, (known - content)[field], 0)
    variance = np.average(np.square(difference), weights=weight)
    operator = _operator(field, content / full_scale, spacing)
    roughness = NOISE_SHARE * min(noise**2 / variance, 1) * _unit_variance(spacing) if variance else 0
    roughness = max(roughness, 1e-6)  # bounds the condition of the system below

    def gradient(values: NDArray[np.float64]) -> NDArray[np.float64]:
        smoothed = values
        for _ in range(POWER):
            smoothed = operator @ smoothed
        return roughness * smoothed + weight * values

    shape = (len(weight),) * 2
    diagonal = roughness * operator.diagonal() ** POWER + weight
    left = weight * difference - gradient(difference)
    correction, _ = cg(
        LinearOperator(shape, matvec=gradient, dtype=np.float64),
        left,
        rtol=tolerance,
        maxiter=MAXIMUM_ITERATIONS,
        M=LinearOperator(shape, matvec=lambda values: values / diagonal, dtype=np.float64),
    )
    return content[inside] + (difference + correction)[inside[field]]


def matern_correlation(distance: NDArray[np.floating]) -> NDArray[np.floating]:
    """The correlation of the field at two places this far apart (mm): the Matérn function of smoothness 5/2."""
    scaled = distance / REACH
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def _unit_variance(spacing: Sequence[float] | np.ndarray) -> float:
    """The factor of the energy that gives the field a variance of one (Lindgren et al. 2011, section 2.3)."""
    smoothness = POWER - 1.5
    continuous = gamma(smoothness) / (gamma(POWER) * (4 * np.pi) ** 1.5)
    return continuous * float(np.prod(spacing)) / REACH**3


def _operator(field: NDArray[np.bool_], guide: NDArray[np.float64], spacing: Sequence[float] | np.ndarray) -> csr_array:
    """1 - REACH² laplacian on the voxels of the field, (n, n), with no flux through its border or across edges."""
    count = np.count_nonzero(field)
    index = np.full(field.shape, -1)
    index[field] = np.arange(count)
    rows, columns, weights = [], [], []
    for axis, step in enumerate(spacing):
        ends, image = np.moveaxis(index, axis, 0), np.moveaxis(guide, axis, 0)
        pair = (ends[:-1] >= 0) & (ends[1:] >= 0)
        rows.append(ends[:-1][pair])
        columns.append(ends[1:][pair])
        weights.append((REACH / step) ** 2 * np.exp(-((np.diff(image, axis=0)[pair] / EDGE) ** 2) / 2))
    row, column, weight = (np.concatenate(parts) for parts in (rows, columns, weights))
    pairs = coo_array((weight, (row, column)), shape=(count, count))
    flux = (pairs + pairs.T).tocsr()
    return (diags_array(1 + flux.sum(axis=1)) - flux).tocsr()
