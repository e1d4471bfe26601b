"""Volumes and masks with their geometry: reading, checking, putting on one grid, writing.

Arrays are in numpy's order (z, y, x), images are SimpleITK's; physical space is ITK's (LPS, in mm).
"""

from __future__ import annotations

import gzip
import os
import tempfile
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .errors import InputError

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
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


def read_image(path: str | Path) -> sitk.Image:
    """Read a volume from a file (NIfTI, NRRD, MetaImage, ...) or from a folder that holds one DICOM series.

    A fourth dimension of size 1, common in NIfTI, is dropped. NIfTI's non-finite values are kept.

    Raises:
        InputError: there is no such file; it is damaged or no image; it holds no 3-D volume of single real
            numbers; or the folder holds no DICOM series, several, or one with missing slices.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise InputError(f"'{path.name}' does not exist: check the path.")
        return _read_series(path) if path.is_dir() else _read_file(path)
    except (RuntimeError, OSError, EOFError, zlib.error) as error:
        if "orthonormal" in str(error):
            cause = "has sheared axes: resample it onto a grid with perpendicular axes."
        else:
            cause = "cannot be read as an image: it is damaged, incomplete or of another format, choose another file."
        raise InputError(f"'{path.name}' {cause}") from error


def _read_file(path: Path) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _quiet_itk():
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) > 3 and set(size[3:]) == {1}:
            reader.SetExtractSize([*size[:3], *(0 for _ in size[3:])])
        image = reader.Execute()
    _check_volume(image, f"'{path.name}'")
    if reader.GetImageIOFromFileName(str(path)) == "NiftiImageIO" and image.GetMetaData("nifti_type") == "1":
        image = _as_stored(path, image)
    return image


def _as_stored(path: Path, image: sitk.Image) -> sitk.Image:
    """Make up for two silences of ITK's NIfTI reader: what a cut-off file lacks, and what is not finite, become 0."""
    with path.open("rb") as file:
        content = file.read()
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    start, bits = (int(float(image.GetMetaData(key))) for key in ("vox_offset", "bitpix"))
    if len(content) < start + image.GetNumberOfPixels() * bits // 8:
        raise EOFError("voxels are missing at the end of the file")
    kind = {"16": "f4", "64": "f8"}.get(image.GetMetaData("datatype"))
    if kind is None:
        return image
    # A NIfTI file opens with its header's size, 348 or 540, which tells the byte order.
    order = "<" if int.from_bytes(content[:4], "little") in (348, 540) else ">"
    stored = np.frombuffer(content, order + kind, image.GetNumberOfPixels(), start).reshape(image.GetSize()[::-1])
    zeroed = ~np.isfinite(stored)
    if not zeroed.any():
        return image
    voxels = sitk.GetArrayFromImage(image)
    voxels[zeroed] = stored[zeroed]
    return _like(image, voxels)


def _read_series(folder: Path) -> sitk.Image:
    """Read a DICOM series. The slices' tags are not copied: they name the patient."""
    reader = sitk.ImageSeriesReader()
    with _quiet_itk():
        series = reader.GetGDCMSeriesIDs(str(folder))
        if not series:
            raise InputError(f"The folder '{folder.name}' holds no DICOM series: choose an image or another folder.")
        if len(series) > 1:
            raise InputError(
                f"The folder '{folder.name}' holds {len(series)} DICOM series: move the one to use into its own folder."
            )
        files = reader.GetGDCMSeriesFileNames(str(folder), series[0])
        if len(files) == 1:
            return _read_file(Path(files[0]))
        reader.SetFileNames(files)
        reader.MetaDataDictionaryArrayUpdateOn()
        image = reader.Execute()
    _check_volume(image, f"The DICOM series in '{folder.name}'")
    position = "0020|0032"
    if all(reader.HasMetaDataKey(i, position) for i in range(len(files))):
        corners = np.array([reader.GetMetaData(i, position).split("\\") for i in range(len(files))], dtype=float)
        steps = np.linalg.norm(np.diff(corners, axis=0), axis=1)
        if not steps.min() > 0.9 * steps.max():
            raise InputError(
                f"The DICOM series in '{folder.name}' has missing, doubled or unevenly spaced slices: export it again."
            )
    return image


def _check_volume(image: sitk.Image, name: str) -> None:
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
    _check_volume(image, "The scan")
    values = _float32(image)
    finite = values[np.isfinite(values)]
    if finite.size == 0 or finite.min() == finite.max():
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
    _check_volume(mask, "The mask")
    lesion = _lesion(sitk.GetArrayViewFromImage(mask), label)
    hole = lesion if same_grid(mask, scan) else _resampled(lesion, mask, scan)
    if hole.all():
        raise InputError("The mask covers the whole scan: mark the lesion alone, so that healthy tissue is left.")
    return hole


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
    return _like(scan, voxels)


def _like(image: sitk.Image, voxels: np.ndarray) -> sitk.Image:
    """An image of these voxels with another's geometry and metadata."""
    result = sitk.GetImageFromArray(voxels)
    result.CopyInformation(image)
    for key in image.GetMetaDataKeys():
        value = image.GetMetaData(key)
        if not value.startswith("[UNKNOWN_PRINT"):  # what SimpleITK gives for a value that is no text or number
            result.SetMetaData(key, value)
    return result


def check_writable(path: str | Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Path:
    """Raise InputError unless a file of one of these types can be written at the path; return it as a Path."""
    path = Path(path)
    if not path.name.lower().endswith(suffixes):
        raise InputError(f"'{path.name}' has no supported file extension: use {' or '.join(suffixes)}.")
    try:
        if path.is_dir():
            raise InputError(f"'{path.name}' is a folder: give the name of a file.")
        if not path.parent.is_dir():
            raise InputError(f"The folder '{path.parent}' for '{path.name}' does not exist: choose or create one.")
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise InputError(f"The folder '{path.parent}' cannot be written to: choose another.") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a hidden temporary path beside the target, of the same type; it takes the target's place on success.

    On any failure, a keyboard interrupt included, the temporary file goes and an earlier target stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}{''.join(path.suffixes[-2:]).lower()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_image(image: sitk.Image, path: str | Path) -> None:
    """Write a volume, replacing an earlier file only once the new one was read back and found identical.

    Reading back is needed: on a full disk ITK's NIfTI writer reports success, and it straightens sheared axes.

    Raises:
        InputError: the path cannot be written to, or its format cannot hold this volume's type or geometry.
    """
    path = check_writable(path)
    _check_volume(image, "The volume")
    try:
        with replacing(path) as temporary:
            with _quiet_itk():
                sitk.WriteImage(image, str(temporary), useCompression=True)
            if not _identical(_read_file(temporary), image):
                raise InputError(
                    f"'{path.name}' cannot hold this volume's {image.GetPixelIDTypeAsString()} voxels and geometry "
                    "exactly: save it as .nrrd or .mha."
                )
    except (RuntimeError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"'{path.name}' could not be written: free disk space or choose another folder.") from error


def _identical(a: sitk.Image, b: sitk.Image) -> bool:
    """The same grid, the same type and the same bits in every voxel, so that NaN equals NaN."""
    if a.GetPixelID() != b.GetPixelID() or not same_grid(a, b):
        return False
    first, second = (sitk.GetArrayViewFromImage(image) for image in (a, b))
    bits = f"u{first.dtype.itemsize}"
    return np.array_equal(first.view(bits), second.view(bits))


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """Silence ITK's warnings: what matters in them is checked here, and said in one sentence."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
