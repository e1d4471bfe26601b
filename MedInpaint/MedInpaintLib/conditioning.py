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
from numpy.typing import NDArray
from scipy import linalg, ndimage

from .slices import Slices

REACH = 4.5  # pixels
RING = 4  # pixels round the hole that are looked at
MOST = 2500  # known pixels; of more, those are taken with a likelihood that falls with the distance
DETAIL, DETAIL_REACH = 0.04, 2.0  # intensity and pixels: of what no brain of the model shows
NOISE = 0.05  # intensity, of a known pixel
MARGIN = 2  # pixels: holes closer than twice this are one; what is unknown so close to a hole is filled too
BATCH = 2000  # unknown pixels at once; bounds memory at about 40 MB


def conditioned(
    generated: NDArray[np.float32], slices: Slices, components: Callable[[int], NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Generated slices that agree with their surroundings, and how sure they are.

    Args:
        generated: float32 (n, h, w), G(z) as it lies in the scan.
        slices: the scan's.
        components: gives a slice's (k, h, w), of which the covariance of two pixels is the scalar product.

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
    near = ring | fill  # the only pixels whose components are held, bounding memory
    values = np.concatenate([components(n)[:, here].T for n, here in enumerate(near) if here.any()])
    row = np.cumsum(near).reshape(near.shape) - 1  # of `values`, for each pixel near a hole
    variance[fill] = np.square(values[row[fill]]).sum(axis=1) + DETAIL**2

    random = np.random.default_rng(0)
    for number, box in enumerate(ndimage.find_objects(holes), start=1):
        wide = tuple(slice(max(side.start - RING, 0), side.stop + RING) for side in box)
        corner = [side.start for side in wide]
        own = holes[wide] == number
        unknown = np.argwhere(own & fill[wide]) + corner
        known = np.argwhere(ndimage.binary_dilation(own, iterations=RING) & ring[wide]) + corner
        if not len(known):
            continue
        if len(known) > MOST:
            likelihood = 1 / distance[tuple(known.T)]
            chosen = random.choice(len(known), MOST, replace=False, p=likelihood / likelihood.sum())
            known = known[np.sort(chosen)]
        unknown_values, known_values = (values[row[tuple(places.T)]] for places in (unknown, known))
        mean, explained = _conditional(unknown, unknown_values, known, known_values, left[tuple(known.T)])
        result[tuple(unknown.T)] += mean
        variance[tuple(unknown.T)] -= explained
    return result.astype(np.float32), np.sqrt(np.maximum(variance, 0))


def _conditional(
    unknown: NDArray[np.intp],
    unknown_values: NDArray[np.float32],
    known: NDArray[np.intp],
    known_values: NDArray[np.float32],
    left: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The field's mean at unknown places (m, 3), given what it is at known ones (p, 3), and the variance that this
    takes away, both (m,)."""

    def covariance(a, a_values, b, b_values):
        squared = ((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * (a @ b.T)).astype(np.float32)
        near = np.exp(np.maximum(-squared / (2 * REACH**2), -16))
        detail = np.exp(np.maximum(-squared / (2 * DETAIL_REACH**2), -16))
        return a_values @ b_values.T * near + DETAIL**2 * detail

    joint = covariance(known, known_values, known, known_values)
    joint[np.diag_indices_from(joint)] += NOISE**2
    factor = linalg.cholesky(joint, lower=True, overwrite_a=True, check_finite=False)
    shares = linalg.cho_solve((factor, True), left, check_finite=False)
    means, explained = [], []
    for start in range(0, len(unknown), BATCH):
        part = slice(start, start + BATCH)
        cross = covariance(unknown[part], unknown_values[part], known, known_values)
        means.append(cross @ shares)
        whitened = linalg.solve_triangular(factor, cross.T, lower=True, overwrite_b=True, check_finite=False)
        explained.append(np.square(whitened).sum(axis=0))
    return np.concatenate(means), np.concatenate(explained)
