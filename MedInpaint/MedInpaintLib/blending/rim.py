"""The rim of a lesion: does the mask leave a rim of it outside, and which known voxels belong to it?

Expert masks are often tight. The lesion's voxels beside such a mask would be continued into the fill. An exact mask has
no such rim, and distrusting its healthy neighbours costs 2 to 5 dB. The two differ in the scan's deficit against G(z)
in known white matter: beside a tight mask, a T1-weighted scan is darker than a few millimetres farther out. Where grey
matter is as bright as white matter or brighter (FLAIR, T2), lesions are bright, and the deficit is that of a negative.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..space.case import Case
from ..space.slices import Tissue
from ..volumes.image import spacing_zyx
from ..volumes.mask import bounding_box, next_voxels, ring
from .noise import white_matter

NEAR, FAR = 1.01, (2.6, 5.0)  # mm from the mask: the two zones that are compared
LEAST_DEFICIT = 0.012  # model intensity; expert masks are above 0.015, most exact masks below 0.005
LEAST_BRIGHT = 0.07  # the same where lesions are bright; expert masks are above 0.09, most exact masks below 0.045
CERTAIN = 2.5  # standard errors that a deficit must exceed
# The second voxel beside the mask is whole lesion if the rim reaches it, so a wide rim has a larger deficit than the
# partial volume of a narrow one. A small deficit that reaches far is an error of the model.
WIDE, WIDE_BRIGHT = 0.04, 0.12  # model intensity: least deficit of a rim of two voxels
ENOUGH = 40  # voxels in each zone; with fewer nothing is decided
INDEPENDENT = 8  # neighbouring voxels count as one sample for the standard error
REACH = 2.1  # mm; voxels this close to a tight mask may be lesion
# A mask in which only some lesions are tight has no deficit in the median. These lesions are found one by one, if their
# rim is narrow: a wide one is rather dark tissue beside an exact lesion.
OF_ONE = 20  # voxels in each zone of a lesion
CLEAR = 0.1  # model intensity: least deficit of a lesion
CLEARLY = 5  # standard errors that the deficit of a lesion must exceed
DARKER = 0.01  # model intensity: how much darker than the source a voxel of the rim is


@dataclass(frozen=True)
class Rim:
    """How lesion-like the known white matter beside the mask is.

    Attributes:
        deficit: median of (G(z) - scan) within 1 mm of the mask minus that at 2.6 to 5 mm, in model intensities; of
            scan - G(z) where lesions are bright; None if there is too little white matter.
        error: standard error of the deficit; None likewise.
        width: mm, how far the rim reaches if the mask is tight, else 0.
        lesions: how many of the mask's lesions have the rim, if each was judged by itself; else None.
        where: bool (z, y, x), the lesions that have the rim, on the grid of `find_rim`; None if the mask is not tight.
    """

    deficit: float | None
    error: float | None
    width: float
    lesions: int | None = None
    where: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)

    @property
    def tight(self) -> bool:
        """True if the mask leaves a rim of the lesion outside."""
        return self.width > 0

    def to_dict(self) -> dict:
        """The rim as plain JSON types."""
        return {"tight": self.tight, **{name: getattr(self, name) for name in ("deficit", "error", "width", "lesions")}}


def find_rim(case: Case, tissue: Tissue) -> Rim:
    """Decide whether the mask is tight: for all lesions of the scan together, or else for each lesion by itself.

    Values inside the hole do not matter.

    Args:
        case: the scan and its hole.
        tissue: G(z) on the scan's grid.
    """
    spacing = spacing_zyx(case.scan)
    box = bounding_box(case.hole, np.ceil(FAR[1] / spacing).astype(int) + 1)
    near, tissue = case.crop(box), tissue.crop(box)
    distance, nearest = ndimage.distance_transform_edt(~near.hole, sampling=spacing, return_indices=True)
    white = white_matter(near, tissue.model_like) & tissue.valid & (distance <= FAR[1])
    deficit = (tissue.scan_like - near.values)[white] / near.slices.scale * (-1 if tissue.bright else 1)
    distance, nearest = distance[white], tuple(nearest[:, white])
    step = max(NEAR, float(spacing.min()) * NEAR)

    rim = _measure(deficit, distance, step, ENOUGH, tissue.bright)
    if rim.tight:
        return replace(rim, where=case.hole)
    numbers, count = ndimage.label(near.hole, np.ones((3, 3, 3)))
    if count == 1 or tissue.bright:
        return rim
    owner = numbers[nearest]
    tight = [
        number
        for number in np.unique(owner[distance <= step])
        if _clearly_tight(deficit[owner == number], distance[owner == number], step)
    ]
    of_tight = np.isin(owner, tight)
    some = _measure(deficit[of_tight], distance[of_tight], step, OF_ONE)
    if not some.tight:
        return rim
    where = np.zeros_like(case.hole)
    where[box] = np.isin(numbers, tight)
    return replace(some, lesions=len(tight), where=where)


def _measure(
    deficit: NDArray[np.floating], distance: NDArray[np.floating], step: float, enough: int, bright: bool = False
) -> Rim:
    """The rim of the lesions whose white matter has this deficit at this distance, both (n,). A voxel is a step.

    With fewer voxels than enough in a zone, nothing is decided.
    """
    beside, second, beyond = _zones(deficit, distance, step)
    if min(len(beside), len(beyond)) < enough:
        return Rim(None, None, 0.0)
    difference, error = _difference(beside, beyond)
    least, least_wide = (LEAST_BRIGHT, WIDE_BRIGHT) if bright else (LEAST_DEFICIT, WIDE)
    wide = len(second) >= enough and _is_wide(second, beyond, difference)
    if difference < max(least_wide if wide else least, CERTAIN * error):
        return Rim(difference, error, 0.0)
    return Rim(difference, error, round((2 if wide else 1) * step, 1))


def _clearly_tight(deficit: NDArray[np.floating], distance: NDArray[np.floating], step: float) -> bool:
    """Whether one lesion has a narrow rim; the arrays are those of `_measure`, of the white matter nearest to it."""
    beside, second, beyond = _zones(deficit, distance, step)
    if min(len(beside), len(second), len(beyond)) < OF_ONE:
        return False
    difference, error = _difference(beside, beyond)
    return difference > max(CLEAR, CLEARLY * error) and not _is_wide(second, beyond, difference)


def _is_wide(second: NDArray[np.floating], beyond: NDArray[np.floating], difference: float) -> bool:
    """Whether a rim with this deficit reaches over the second voxel."""
    return bool(np.median(second) - np.median(beyond) > difference / 2)


def _zones(
    deficit: NDArray[np.floating], distance: NDArray[np.floating], step: float
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """The deficit of the first voxel beside the mask, of the second one, and farther out."""
    zones = (0, step), (step, 2 * step), FAR
    beside, second, beyond = (deficit[(distance > low) & (distance <= high)] for low, high in zones)
    return beside, second, beyond


def _difference(beside: NDArray[np.floating], beyond: NDArray[np.floating]) -> tuple[float, float]:
    """The difference of the medians, and its standard error."""
    difference = float(np.median(beside) - np.median(beyond))
    return difference, float(np.hypot(_median_error(beside), _median_error(beyond)))


def rim_zone(case: Case, tight: NDArray[np.bool_], width: float) -> NDArray[np.bool_]:
    """The brain within a width (mm) of tight lesions, bool (z, y, x), and the next voxel."""
    around = ring(tight, spacing_zyx(case.scan), width) | next_voxels(tight)
    return around & case.alignment.brain & ~case.hole


def rim_voxels(
    case: Case, source: NDArray[np.floating], tight: NDArray[np.bool_], bright: bool = False
) -> NDArray[np.bool_]:
    """Known voxels that belong to the rim of tight lesions, bool (z, y, x): close to them and darker than the source.

    Close is within 2 mm, or the next voxel.

    Args:
        source: (z, y, x), the content to blend, in scan intensities.
        tight: bool (z, y, x), these lesions; at least one voxel.
        bright: whether lesions, and so their rims, are brighter than the source.
    """
    near = (ring(tight, spacing_zyx(case.scan), REACH) | next_voxels(tight)) & ~case.hole
    deficit = case.values - source if bright else source - case.values
    return near & (deficit > DARKER * case.slices.scale)


def _median_error(values: NDArray[np.floating]) -> float:
    """Standard error of the median of normally distributed, correlated values."""
    spread = 1.4826 * np.median(np.abs(values - np.median(values)))
    return float(1.2533 * spread / np.sqrt(len(values) / INDEPENDENT))
