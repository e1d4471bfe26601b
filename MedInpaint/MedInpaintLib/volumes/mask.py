"""Masks: the hole on the scan's grid, the ring around it, the box that holds it.

Arrays have numpy's order (z, y, x). Physical space is ITK's (LPS, in mm).
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import InputError
from .image import affine, check_volume, like, same_grid


def hole_on_grid(mask: sitk.Image, scan: sitk.Image, label: int | None = None) -> np.ndarray:
    """The lesion as bool (z, y, x) on the scan's grid, by nearest neighbour in physical space.

    A small lesion may contain no centre of a scan voxel. Then the scan voxels nearest to it are taken.

    Args:
        mask: a 3-D volume on any grid.
        scan: gives the grid.
        label: the value that marks the lesion; None takes every non-zero voxel.

    Raises:
        InputError: the mask is no 3-D volume of finite real numbers; it is empty or lacks the label; the lesion
            covers the whole scan, lies partly outside of it, or wholly between its voxels.
    """
    check_volume(mask, "The mask")
    lesion = _select_lesion(sitk.GetArrayViewFromImage(mask), label)
    hole = lesion if same_grid(mask, scan) else _resample(lesion, mask, scan)
    if hole.all():
        raise InputError("The mask covers the whole scan: mark the lesion alone, so that healthy tissue is left.")
    return hole


def enlarge(hole: np.ndarray, tissue: np.ndarray, spacing: np.ndarray, distance: float) -> np.ndarray:
    """The hole and the tissue within a distance of it, bool (z, y, x).

    Args:
        hole: bool (z, y, x).
        tissue: bool (z, y, x), the voxels that may be added.
        spacing: voxel size along (z, y, x), mm.
        distance: between the centres of voxels, mm; 0 adds nothing.
    """
    return hole | tissue & ring(hole, spacing, distance) if distance else hole


def ring(hole: np.ndarray, spacing: np.ndarray, width: float) -> np.ndarray:
    """The ring around the hole, bool (z, y, x): outer voxels at most a width (mm) from a voxel of the hole."""
    box = bounding_box(hole, np.ceil(width / spacing).astype(int))
    near = np.zeros_like(hole)
    near[box] = ndimage.distance_transform_edt(~hole[box], sampling=spacing) <= width
    return near & ~hole


def next_voxels(hole: np.ndarray) -> np.ndarray:
    """The voxels outside the hole that share a face, an edge or a corner with it, bool (z, y, x)."""
    return ndimage.binary_dilation(hole, np.ones((3, 3, 3))) & ~hole


def bounding_box(mask: np.ndarray, margin: int | np.ndarray) -> tuple[slice, ...]:
    """The bounding box of a mask that is not empty, enlarged by a margin in voxels (one number, or one per axis)."""
    box = []
    for axis, extra in enumerate(np.broadcast_to(margin, mask.ndim).tolist()):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(int(used[0]) - extra, 0), int(used[-1]) + 1 + extra))
    return tuple(box)


def _select_lesion(values: np.ndarray, label: int | None) -> np.ndarray:
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


def _resample(lesion: np.ndarray, mask: sitk.Image, scan: sitk.Image) -> np.ndarray:
    field = sitk.Image(scan.GetSize(), sitk.sitkUInt8) + 1
    field.CopyInformation(scan)
    if not _nearest(field, mask)[lesion].any():
        raise InputError("The mask's lesion does not overlap the scan: check that both show the same head and space.")
    outside = 1 - _nearest(sitk.ConstantPad(field, (1, 1, 1), (1, 1, 1), 1), mask)[lesion].mean()
    if outside > 0:
        raise InputError(
            f"{100 * outside:.2g} % of the mask's lesion lies outside the scan: crop the mask or give the whole scan."
        )

    # The lesions are numbered (int32: exact), so that after resampling one sees which of them no scan voxel met.
    numbers, _ = ndimage.label(lesion, np.ones((3, 3, 3)))
    sampled = _nearest(like(mask, numbers.astype(np.int32)), scan)
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
