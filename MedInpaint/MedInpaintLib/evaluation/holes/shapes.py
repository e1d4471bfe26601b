"""The geometry of holes in a brain mask: lumpy ellipsoids, balls, squares, and clipped lesion masks.

Every array is boolean, shaped (z, y, x); a hole is true where the tissue is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal
from scipy.spatial.transform import Rotation

from ...errors import InputError

AXIS_RATIOS = (0.75, 1.3)
LUMPINESS = 0.15  # largest distance of the surface from the ellipsoid, as a share of the radius
LUMPS = 6  # plane waves, of which the lumps are the sum
LUMP_FREQUENCY = 1.5  # rad per radius and axis: a lump covers about a quarter of the surface
SHARE_IN_BRAIN = 0.9  # of a lumpy hole, before it is clipped
SHARE_KEPT = 0.8  # of a lumpy hole, in one piece, after it is clipped
SQUARE_IN_BRAIN = 0.95
BALL_IN_REGION = 0.98
DRAWS = 1000


def lumpy_ellipsoid(
    brain: NDArray[np.bool_], spacing: Sequence[float], radius: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """A connected hole with the shape of a lesion: an ellipsoid in a random direction with a smooth, lumpy surface.

    The hole is clipped to the brain and then has 80 to 100 % of the ball's volume. Its centre is uniform over the brain
    voxels where at least 90 % of the hole lies in the brain. The same state of rng gives the same hole.

    Args:
        brain: bool (z, y, x).
        spacing: (sz, sy, sx) in mm.
        radius: mm, of the ball with the volume of the hole.
        rng: random generator.

    Raises InputError if the brain is empty, or if 1000 draws find no place for the hole.
    """
    brain = _as_volume(brain, "brain")
    step = np.asarray(spacing, dtype=float)
    if step.shape != (3,) or not (step > 0).all() or not radius > 0:
        raise InputError(f"A hole needs a positive radius and spacing; got radius {radius} and spacing {spacing}.")
    centres = np.flatnonzero(brain)
    if not centres.size:
        raise InputError("The brain mask is empty; give one with brain in it.")

    shape = _lumpy_offsets(step, radius, rng)
    fits = SHARE_IN_BRAIN * len(shape) <= centres.size
    for _ in range(DRAWS if fits else 0):
        centre = np.unravel_index(centres[rng.integers(centres.size)], brain.shape)
        voxels = shape + np.array(centre)
        voxels = voxels[((voxels >= 0) & (voxels < brain.shape)).all(axis=1)]
        voxels = voxels[brain[tuple(voxels.T)]]
        if len(voxels) < SHARE_IN_BRAIN * len(shape):
            continue
        voxels = _largest_piece(voxels)
        if len(voxels) >= SHARE_KEPT * len(shape):
            hole = np.zeros_like(brain)
            hole[tuple(voxels.T)] = True
            return hole
    raise InputError(f"No place in the brain takes a hole of {radius:g} mm radius; use a smaller radius.")


def ball_in(
    region: NDArray[np.bool_], spacing: Sequence[float], radius: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """A ball in a region such as white matter, bool (z, y, x). No other place has more of the region in the ball.

    Args:
        region: bool (z, y, x).
        spacing: (sz, sy, sx) in mm.
        radius: mm.
        rng: random generator; it chooses among places that are nearly as good as the best.

    Raises InputError if the region is empty.
    """
    region, step = _as_volume(region, "region"), np.asarray(spacing, dtype=float)
    if not region.any():
        raise InputError("The region for balls is empty; give a scan with white matter in it.")
    half = np.ceil(radius / step).astype(int)
    offsets = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij"))
    ball = ((offsets * step[:, None, None, None]) ** 2).sum(axis=0) <= radius**2
    share = signal.fftconvolve(region.astype(np.float32), ball.astype(np.float32), mode="same") / ball.sum()
    good = np.argwhere(share >= min(0.99 * share.max(), BALL_IN_REGION))
    hole = np.zeros_like(region)
    voxels = np.argwhere(ball) - half + good[rng.integers(len(good))]
    voxels = voxels[((voxels >= 0) & (voxels < region.shape)).all(axis=1)]
    hole[tuple(voxels.T)] = True
    return hole


def square(brain: NDArray[np.bool_], plane_index: int, side: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A square hole in one axial slice, as in the 2-D inpainting literature.

    Its place is uniform over the places with at least 95 % of the square in the brain. If the slice has no such place,
    it is uniform over the places with the most brain. The square is not clipped.

    Args:
        brain: bool (z, y, x).
        plane_index: z of the slice.
        side: voxels.
        rng: random generator.

    Raises InputError if the slice does not exist, has no brain or is smaller than the square.
    """
    brain = _as_volume(brain, "brain")
    if not 0 <= plane_index < len(brain):
        raise InputError(f"There is no slice {plane_index}; choose one from 0 to {len(brain) - 1}.")
    plane = brain[plane_index]
    if not 1 <= side <= min(plane.shape):
        raise InputError(f"A square of {side} voxels does not fit a slice of {plane.shape}; choose a smaller side.")

    # A summed-area table counts the brain voxels in the square for all places at once.
    table = np.pad(plane.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    counts = table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]
    if not counts.any():
        raise InputError(f"Slice {plane_index} has no brain; choose another.")
    corners = np.argwhere(counts >= min(SQUARE_IN_BRAIN * side**2, counts.max()))
    y, x = corners[rng.integers(len(corners))]

    hole = np.zeros_like(brain)
    hole[plane_index, y : y + side, x : x + side] = True
    return hole


def lesion_hole(lesions: NDArray[np.bool_], brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A real lesion mask on the scan's grid, clipped to the brain: a new array, which can be empty.

    Raises InputError if the two have different grids.
    """
    lesions, brain = _as_volume(lesions, "lesion"), _as_volume(brain, "brain")
    if lesions.shape != brain.shape:
        raise InputError(f"The lesion mask is {lesions.shape} and the brain {brain.shape}; resample one to the other.")
    return lesions & brain


def _lumpy_offsets(step: NDArray[np.float64], radius: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """The voxels of the hole relative to its centre, (n, 3). Their volume is that of a ball of this radius (mm)."""
    ratios = rng.uniform(*AXIS_RATIOS, size=3)
    axes = radius * ratios / np.cbrt(ratios.prod())
    rotation = Rotation.from_quat(rng.standard_normal(4)).as_matrix()
    waves = LUMP_FREQUENCY * rng.standard_normal((3, LUMPS))
    phases = rng.uniform(0, 2 * pi, size=LUMPS)
    shift = rng.uniform(-0.5, 0.5, size=3)  # voxels: the centre lies between voxel centres

    reach = np.linalg.norm(rotation * axes, axis=1) * (1 + LUMPINESS) / (1 - LUMPINESS)
    half = np.ceil(reach / step).astype(int) + 1
    box = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij"), axis=-1).reshape(-1, 3)

    points = (box + shift) * step @ rotation / axes  # the ellipsoid is now the unit ball
    distance = np.linalg.norm(points, axis=1)
    lumps = np.sin(points / np.maximum(distance, 1e-9)[:, None] @ waves + phases).sum(axis=1)
    depth = distance / (1 + LUMPINESS * lumps / np.abs(lumps).max())

    # The hole is the level set with the right number of voxels, so its volume is right on coarse grids, too.
    count = max(1, round(4 / 3 * pi * radius**3 / step.prod()))
    return box[np.argpartition(depth, count - 1)[:count]]


def _largest_piece(voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The largest face-connected piece of a set of voxels, (n, 3) -> (m, 3)."""
    corner = voxels.min(axis=0)
    local = np.zeros(voxels.max(axis=0) - corner + 1, dtype=bool)
    local[tuple((voxels - corner).T)] = True
    pieces, _ = ndimage.label(local)
    sizes = np.bincount(pieces.ravel())[1:]
    return np.argwhere(pieces == 1 + sizes.argmax()) + corner


def _as_volume(mask: NDArray[np.bool_], name: str) -> NDArray[np.bool_]:
    """The mask as bool. Raises InputError if it has not three axes."""
    mask = np.asarray(mask, dtype=bool)
    if mask.ndim != 3:
        raise InputError(f"The {name} mask has {mask.ndim} axes; give one with three (z, y, x).")
    return mask
