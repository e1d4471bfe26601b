"""Volumes and masks with their geometry: checking, putting on one grid, writing voxels into them.

Arrays are in numpy's order (z, y, x), images are SimpleITK's; physical space is ITK's (LPS, in mm).
"""

from __future__ import annotations

from itertools import product

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import InputError

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
