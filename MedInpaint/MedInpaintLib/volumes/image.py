"""Images with geometry: checks, voxels as arrays, and new voxels in an image's geometry.

Arrays have numpy's order (z, y, x). Images are SimpleITK's. Physical space is ITK's (LPS, in mm).
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
GRID_TOLERANCE = 0.01  # voxels; more than the rounding of NIfTI's 32-bit origins and of decimals in other formats


def affine(image: sitk.Image) -> np.ndarray:
    """The 4 x 4 matrix from voxel indices (x, y, z, 1) to physical space (LPS, mm)."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def spacing_zyx(image: sitk.Image) -> np.ndarray:
    """The voxel size in mm, in the order of the array's axes (z, y, x)."""
    return np.array(image.GetSpacing()[::-1])


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """Whether two volumes have the same size and the same corners, to 1 % of a voxel."""
    if a.GetSize() != b.GetSize():
        return False
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in a.GetSize()))])
    distances = np.linalg.norm(corners @ (affine(a) - affine(b)).T, axis=1)
    return bool(distances.max() <= GRID_TOLERANCE * min(b.GetSpacing()))


def physical_points(image: sitk.Image, voxels: np.ndarray) -> np.ndarray:
    """The positions of the voxels of a mask, bool (z, y, x), in mm: (n, 3), x, y, z."""
    matrix = affine(image)
    return np.argwhere(voxels)[:, ::-1] @ matrix[:3, :3].T + matrix[:3, 3]


def move(image: sitk.Image, motion: sitk.Transform) -> sitk.Image:
    """The same voxels at other places: a rigid transform moves the origin and turns the axes."""
    moved = sitk.Image(image)
    turned = [
        np.subtract(motion.TransformPoint(axis), motion.TransformPoint((0.0,) * 3)) for axis in np.eye(3).tolist()
    ]
    moved.SetDirection((np.transpose(turned) @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    moved.SetOrigin(motion.TransformPoint(image.GetOrigin()))
    return moved


def check_volume(image: sitk.Image, name: str) -> None:
    """Raise InputError unless this is a 3-D volume with one real number per voxel. The message starts with the name."""
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
    """Raise InputError unless this is a 3-D volume of real numbers with at least two different finite values."""
    check_volume(image, "The scan")
    values = _as_float32(image)
    finite = np.isfinite(values)
    if values.min(where=finite, initial=np.inf) >= values.max(where=finite, initial=-np.inf):
        raise InputError("The scan has the same value in every voxel: choose a scan with a picture in it.")


def scan_values(image: sitk.Image, hole: np.ndarray) -> np.ndarray:
    """The voxels as float32 (z, y, x), with 0 where the scan has no finite value.

    Voxels without a finite value may lie in the hole and in the background, which is connected through faces and
    reaches the border of the volume.

    Raises:
        InputError: they also lie elsewhere.
    """
    values = _as_float32(image)
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
    """A copy of the scan with new values in the hole. All other voxels stay bit-identical.

    Args:
        scan: gives the geometry, the pixel type and the metadata.
        values: 1-D, finite, in the order of `array[hole]`. For an integer scan they are rounded and clipped.
        hole: bool (z, y, x).
    """
    if values.shape != (np.count_nonzero(hole),) or not np.isfinite(values).all():
        raise ValueError(f"{np.count_nonzero(hole)} finite values are needed, one per voxel of the hole.")
    voxels = sitk.GetArrayFromImage(scan)
    limits = np.iinfo(voxels.dtype) if voxels.dtype.kind in "iu" else np.finfo(voxels.dtype)
    new = values.astype(np.float64)
    if voxels.dtype.kind in "iu":
        new = np.rint(new)
    # float64 rounds the largest int64 up to 2^63, so values at or above the limit are set to it separately.
    below = new < float(limits.max)
    clipped = np.full(new.shape, limits.max, voxels.dtype)
    clipped[below] = np.maximum(new[below], float(limits.min)).astype(voxels.dtype)
    voxels[hole] = clipped
    return like(scan, voxels)


def like(image: sitk.Image, voxels: np.ndarray) -> sitk.Image:
    """These voxels as an image with the geometry and the metadata of another image."""
    result = sitk.GetImageFromArray(voxels)
    result.CopyInformation(image)
    for key in image.GetMetaDataKeys():
        value = image.GetMetaData(key)
        if not value.startswith("[UNKNOWN_PRINT"):  # SimpleITK's answer for a value that is neither text nor number
            # SimpleITK gives bytes that are no UTF-8, such as Latin-1 in a description, but does not take them back.
            result.SetMetaData(key, value.encode(errors="surrogateescape").decode(errors="replace"))
    return result


def _as_float32(image: sitk.Image) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # float64 values beyond 3e38 become infinite
        return sitk.GetArrayViewFromImage(image).astype(np.float32)
