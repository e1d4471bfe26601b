"""Volumes and masks with their geometry: checking, putting on one grid, writing voxels into them.

Arrays are in numpy's order (z, y, x), images are SimpleITK's; physical space is ITK's (LPS, in mm).
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import InputError
from .image import affine, check_volume, same_grid


def hole_on_grid(mask: sitk.Image, scan: sitk.Image, label: int | None = None) -> np.ndarray:
    """The lesion as a bool array (z, y, x) on the scan's grid, by nearest neighbour in physical space.

    A small lesion of the mask that holds no centre of a scan voxel takes the voxels nearest to it instead.

    Args:
        mask: a 3-D volume on any grid.
        scan: the volume whose grid is meant.
        label: the value that marks the lesion; None takes every non-zero voxel.

    Raises:
        InputError: the mask is no 3-D volume of finite real numbers; it is empty or lacks the label; it covers
            the whole scan, lies (partly) outside of it, or wholly between its voxels.
    """
    check_volume(mask, "The mask")
    lesion = _lesion(sitk.GetArrayViewFromImage(mask), label)
    hole = lesion if same_grid(mask, scan) else _resampled(lesion, mask, scan)
    if hole.all():
        raise InputError("The mask covers the whole scan: mark the lesion alone, so that healthy tissue is left.")
    return hole


def enlarge(hole: np.ndarray, tissue: np.ndarray, spacing: np.ndarray, reach: float) -> np.ndarray:
    """The lesion and the tissue within a distance of it, bool (z, y, x).

    Args:
        hole: bool (z, y, x), the lesion.
        tissue: bool (z, y, x), the only voxels that are added.
        spacing: of the voxels' centres along (z, y, x), mm.
        reach: the distance between centres, mm; 0 adds nothing.
    """
    return hole | tissue & ring(hole, spacing, reach) if reach else hole


def ring(hole: np.ndarray, spacing: np.ndarray, width: float) -> np.ndarray:
    """The voxels outside the hole, bool (z, y, x), whose centre lies within the width (mm) of a hole voxel's."""
    box = bounding_box(hole, np.ceil(width / spacing).astype(int))
    near = np.zeros_like(hole)
    near[box] = ndimage.distance_transform_edt(~hole[box], sampling=spacing) <= width
    return near & ~hole


def bounding_box(mask: np.ndarray, margin: int | np.ndarray) -> tuple[slice, ...]:
    """The bounding box of a mask that is not empty, with a margin: voxels, of all or of each axis."""
    box = []
    for axis, room in enumerate(np.broadcast_to(margin, mask.ndim).tolist()):
        met = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(int(met[0]) - room, 0), int(met[-1]) + 1 + room))
    return tuple(box)


def _lesion(values: np.ndarray, label: int | None) -> np.ndarray:
    if not np.isfinite(values).all():
        raise InputError("The mask has voxels that are not finite (NaN or infinite): save it as whole-number labels.")
    painted = values != 0
    if not painted.any():
        raise InputError("The mask is empty: paint the lesion or choose another mask.")
    if label is None:
        return painted
    lesion = values == label
    if not lesion.any():
        present = np.unique(values[painted])
        listed = ", ".join(f"{value:.10g}" for value in present[:10].tolist()) + (", ..." if present.size > 10 else "")
        raise InputError(f"The mask has no label {label}: choose one of its labels ({listed}).")
    return lesion


def _resampled(lesion: np.ndarray, mask: sitk.Image, scan: sitk.Image) -> np.ndarray:
    field = sitk.Image(scan.GetSize(), sitk.sitkUInt8) + 1
    field.CopyInformation(scan)
    if not _nearest(field, mask)[lesion].any():
        raise InputError("The mask's lesion does not overlap the scan: check that both show the same head and space.")
    outside = 1 - _nearest(sitk.ConstantPad(field, (1, 1, 1), (1, 1, 1), 1), mask)[lesion].mean()
    if outside > 0:
        raise InputError(
            f"{100 * outside:.2g} % of the mask's lesion lies outside the scan: crop the mask or give the whole scan."
        )

    # Resampling the lesions' numbers (int32: exact) rather than a mask tells which of them no scan voxel met.
    numbers, _ = ndimage.label(lesion, np.ones((3, 3, 3)))
    numbered = sitk.GetImageFromArray(numbers.astype(np.int32))
    numbered.CopyInformation(mask)
    sampled = _nearest(numbered, scan)
    hole = sampled > 0
    if not hole.any():
        raise InputError("The mask's lesion falls between the scan's voxels: draw it on the scan's own grid.")
    missed = np.argwhere(lesion & ~np.isin(numbers, np.unique(sampled)))[:, ::-1]
    to_scan = np.linalg.solve(affine(scan), affine(mask))
    voxels = np.rint(missed @ to_scan[:3, :3].T + to_scan[:3, 3]).astype(int)
    x, y, z = np.clip(voxels, 0, np.array(scan.GetSize()) - 1).T
    hole[z, y, x] = True
    return hole


def _nearest(image: sitk.Image, grid: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0))
