"""Poisson blending: the fill has the gradients of the generated slices and the intensities around the hole.

Source: Pérez, Gangnet, Blake, "Poisson Image Editing", SIGGRAPH 2003, in three dimensions and in millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array, csr_array, diags
from scipy.sparse.csgraph import connected_components

from ..errors import InputError

# A ball of 300,000 voxels takes about 200 iterations, and a row of n voxels takes n. More than this is a defect.
MAXIMUM_ITERATIONS = 20_000


def poisson_blend(
    known: np.ndarray,
    source: np.ndarray,
    hole: np.ndarray,
    spacing: Sequence[float] | np.ndarray,
    guide: np.ndarray | None = None,
    slicewise: bool = False,
    tolerance: float = 1e-6,
) -> np.ndarray:
    """Fill the hole with the gradients of `source`; the fill is continuous with `known` at the hole's border.

    The fill minimises the sum of ((x_p - x_q) - v_pq)² / h² over all pairs of face neighbours (p, q) with at least one
    voxel in the hole. Here h is the distance of the two voxels, x is `known` outside the hole, and v_pq is source_p -
    source_q, or 0 where the pair is not guided (Pérez et al. 2003, eq. 7, with a distance for each axis). Pairs that
    leave the volume do not count, nor do pairs with a known voxel that is not finite. Memory grows with the hole, not
    with the volume.

    Args:
        known: (z, y, x) real, the scan; its values inside the hole are ignored.
        source: (z, y, x) real, the generated slices, in the scan's intensities up to an offset; finite in the hole
            and, where guided, on its face neighbours.
        hole: (z, y, x) bool, the voxels to fill.
        spacing: voxel size along (z, y, x) in millimetres.
        guide: (z, y, x) bool, where the gradients of `source` are used: a pair is guided if both its voxels are in
            the guide. None: everywhere.
        slicewise: solve each plane of the first axis by itself, as in the paper.
        tolerance: the solver stops at this residual, relative to the residual of `source` itself.

    Returns:
        (n,) float64, the blended values in the order of `known[hole]`.

    Raises:
        InputError: some part of the hole touches no known voxel, so its intensities are undetermined.
        ValueError: `source` is not finite where it is needed.
        RuntimeError: the solver did not converge.
    """
    matrix, right_side, anchored = _normal_equations(known, source, hole, spacing, guide, slicewise)
    _, component = connected_components(matrix, directed=False)
    if not np.isin(component, component[anchored]).all():
        raise InputError(
            "A slice lies entirely inside the hole, which slice-by-slice blending cannot fill: use 3-D blending."
            if slicewise
            else "The hole has no known voxel around it: use a mask that leaves some of the scan uncovered."
        )
    start = source[hole].astype(np.float64)
    return start + _solve(matrix, right_side - matrix @ start, tolerance)


def harmonic_fill(known: np.ndarray, hole: np.ndarray, spacing: Sequence[float] | np.ndarray) -> np.ndarray:
    """Fill the hole with the smoothest continuation of its surroundings (Laplace's equation), without a source.

    Args:
        known: (z, y, x) real, the scan; its values inside the hole are ignored.
        hole: (z, y, x) bool, the voxels to fill.
        spacing: voxel size along (z, y, x) in millimetres.

    Returns:
        (n,) float64, the values in the order of `known[hole]`, within the range of the voxels at the hole's border.

    Raises:
        InputError: some part of the hole touches no known voxel.
    """
    nowhere = np.broadcast_to(False, hole.shape)
    return poisson_blend(known, nowhere, hole, spacing, guide=nowhere)


def _normal_equations(
    known: np.ndarray,
    source: np.ndarray,
    hole: np.ndarray,
    spacing: Sequence[float] | np.ndarray,
    guide: np.ndarray | None,
    slicewise: bool,
) -> tuple[csr_array, np.ndarray, np.ndarray]:
    """The (n, n) matrix, the (n,) right side, and bool (n,): the hole voxels with a known neighbour."""
    voxels = np.stack(np.nonzero(hole))  # (3, n), in the order of known[hole]
    flat = np.ravel_multi_index(tuple(voxels), hole.shape)
    count = flat.size
    diagonal, right_side, anchored = np.zeros(count), np.zeros(count), np.zeros(count, dtype=bool)
    rows, columns, values = [np.arange(count)], [np.arange(count)], [diagonal]  # the loop adds to the diagonal in place

    for axis in range(1 if slicewise else 0, 3):
        weight = (min(spacing) / spacing[axis]) ** 2
        for step in (-1, 1):
            row = np.flatnonzero((voxels[axis] + step >= 0) & (voxels[axis] + step < hole.shape[axis]))
            beside = voxels[:, row]
            beside[axis] += step
            outer = known[tuple(beside)].astype(np.float64)
            inner = hole[tuple(beside)]
            counts = inner | np.isfinite(outer)
            row, beside, outer, inner = row[counts], beside[:, counts], outer[counts], inner[counts]

            p, q = tuple(voxels[:, row]), tuple(beside)
            difference = source[p].astype(np.float64) - source[q].astype(np.float64)
            if guide is not None:
                difference = np.where(guide[p] & guide[q], difference, 0.0)
            diagonal[row] += weight
            right_side[row] += weight * (difference + np.where(inner, 0.0, outer))
            anchored[row[~inner]] = True
            rows.append(row[inner])
            columns.append(np.searchsorted(flat, np.ravel_multi_index(q, hole.shape)[inner]))
            values.append(np.full(inner.sum(), -weight))

    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return coo_array(entries, shape=(count, count)).tocsr(), right_side, anchored


def _solve(matrix: csr_array, right_side: np.ndarray, tolerance: float) -> np.ndarray:
    """Solve the symmetric positive definite system by conjugate gradients, its diagonal scaled to one (Jacobi).

    It is written out because the tolerance of scipy's `cg` has one name before 1.12 and another from 1.14 on.
    """
    scale = 1 / np.sqrt(matrix.diagonal())
    scaled = diags(scale) @ matrix @ diags(scale)
    residual = scale * right_side
    if not np.isfinite(residual).all():
        raise ValueError("The source is not finite where the hole needs it.")
    solution = np.zeros_like(residual)
    direction = residual.copy()
    energy = residual @ residual
    target = tolerance**2 * energy
    for _ in range(MAXIMUM_ITERATIONS):
        if energy <= target:
            return scale * solution
        image = scaled @ direction
        length = energy / (direction @ image)
        solution += length * direction
        residual -= length * image
        previous, energy = energy, residual @ residual
        direction = residual + (energy / previous) * direction
    raise RuntimeError(f"Poisson blending did not converge in {MAXIMUM_ITERATIONS} iterations.")
