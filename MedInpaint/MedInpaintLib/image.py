"""Volumes and masks with their geometry: checking, putting on one grid, writing voxels into them.

Arrays are in numpy's order (z, y, x), images are SimpleITK's; physical space is ITK's (LPS, in mm).
"""

from __future__ import annotations

from itertools import product

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .errors import InputError

SCALAR_TYPES = {
    sitk.sitkInt8, sitk.sitkInt16, sitk.sitkInt32, sitk.sitkInt64,
    sitk.sitkUInt8, sitk.sitkUInt16, sitk.sitkUInt32, sitk.sitkUInt64,
    sitk.sitkFloat32, sitk.sitkFloat64,
}  # fmt: skip
GRID_TOLERANCE = 0.01  # voxels; NIfTI's 32-bit origins and file formats' rounded decimals stay well below


def affine(image: sitk.Image) -> np.ndarray:
    """The 4 x 4 matrix that takes a voxel index (x, y, z, 1) to physical space (LPS, mm)."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def spacing_zyx(image: sitk.Image) -> np.ndarray:
    """The voxel's sides in mm, in the order of the array's axes (z, y, x)."""
    return np.array(image.GetSpacing()[::-1])


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """Whether two volumes have the same size and their corner voxels coincide, to 1 % of a voxel."""
    if a.GetSize() != b.GetSize():
        return False
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in a.GetSize()))])
    apart = np.linalg.norm(corners @ (affine(a) - affine(b)).T, axis=1)
    return bool(apart.max() <= GRID_TOLERANCE * min(b.GetSpacing()))


def check_volume(image: sitk.Image, name: str) -> None:
    """Raise InputError, its message begun with the name, unless this is a 3-D volume of one real number per voxel."""
    if image.GetNumberOfComponentsPerPixel() > 1:
        problem = f"holds {image.GetNumberOfComponentsPerPixel()} values per voxel (colour or vectors)"
    elif image.GetPixelID() not in SCALAR_TYPES:
        problem = f"holds {image.GetPixelIDTypeAsString()} voxels"
    elif image.GetDimension() != 3:
        problem = f"has {image.GetDimension()} dimensions"
    elif min(image.GetSize()) < 2:
        problem = f"is a single slice ({' x '.join(map(str, image.GetSize()))} voxels)"
    else:
        return
    raise InputError(f"{name} {problem}: give a 3-D volume with one real number per voxel.")


def check_scan(image: sitk.Image) -> None:
    """Raise InputError unless this is a 3-D volume of a real scalar type with some contrast in it."""
    check_volume(image, "The scan")
    values = _float32(image)
    finite = np.isfinite(values)
    if values.min(where=finite, initial=np.inf) >= values.max(where=finite, initial=-np.inf):
        raise InputError("The scan has the same value in every voxel: choose a scan with a picture in it.")


def _float32(image: sitk.Image) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond 3e38 becomes infinite
        return sitk.GetArrayViewFromImage(image).astype(np.float32)


def scan_values(image: sitk.Image, hole: np.ndarray) -> np.ndarray:
    """The voxels to compute with: float32 (z, y, x), with 0 where the scan has no finite value.

    Raises:
        InputError: voxels without a finite value lie neither in the hole nor in a background of such voxels,
            connected through faces, that reaches the volume's border.
    """
    values = _float32(image)
    bad = ~np.isfinite(values)
    if bad.any():
        regions, _ = ndimage.label(np.pad(bad, 1, constant_values=True))
        background = (regions == regions[0, 0, 0])[1:-1, 1:-1, 1:-1]
        inside = np.count_nonzero(bad & ~background & ~hole)
        if inside:
            raise InputError(
                f"The scan has {inside} non-finite voxels (NaN, infinite or beyond 3e38) within the head: "
                "correct them or add them to the mask."
            )
        values[bad] = 0
    return values


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


def grown(hole: np.ndarray, tissue: np.ndarray, spacing: np.ndarray, reach: float) -> np.ndarray:
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
    box = box_round(hole, np.ceil(width / spacing).astype(int))
    near = np.zeros_like(hole)
    near[box] = ndimage.distance_transform_edt(~hole[box], sampling=spacing) <= width
    return near & ~hole


def box_round(mask: np.ndarray, margin: int | np.ndarray) -> tuple[slice, ...]:
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


def with_voxels(scan: sitk.Image, values: np.ndarray, hole: np.ndarray) -> sitk.Image:
    """A copy of the scan in which the hole's voxels have new values, and all others are bit-identical.

    Args:
        scan: gives the geometry, the pixel type and the metadata.
        values: 1-D, finite, in the order of `array[hole]`; for an integer scan rounded, and clipped to its range.
        hole: bool (z, y, x).
    """
    if values.shape != (np.count_nonzero(hole),) or not np.isfinite(values).all():
        raise ValueError(f"{np.count_nonzero(hole)} finite values are needed, one per voxel of the hole.")
    voxels = sitk.GetArrayFromImage(scan)
    limits = np.iinfo(voxels.dtype) if voxels.dtype.kind in "iu" else np.finfo(voxels.dtype)
    new = values.astype(np.float64)
    if voxels.dtype.kind in "iu":
        new = np.rint(new)
    # A float64 cannot hold the largest int64 (it rounds up to 2^63), so whatever reaches the limit is set to it.
    below = new < float(limits.max)
    filled = np.full(new.shape, limits.max, voxels.dtype)
    filled[below] = np.maximum(new[below], float(limits.min)).astype(voxels.dtype)
    voxels[hole] = filled
    return like(scan, voxels)


def like(image: sitk.Image, voxels: np.ndarray) -> sitk.Image:
    """An image of these voxels with another's geometry and metadata."""
    result = sitk.GetImageFromArray(voxels)
    result.CopyInformation(image)
    for key in image.GetMetaDataKeys():
        value = image.GetMetaData(key)
        if not value.startswith("[UNKNOWN_PRINT"):  # what SimpleITK gives for a value that is no text or number
            result.SetMetaData(key, value)
    return result
