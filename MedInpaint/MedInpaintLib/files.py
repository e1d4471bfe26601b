"""Volumes on disk: reading NIfTI, NRRD, MetaImage and DICOM, and writing so that no half a file is ever left."""

from __future__ import annotations

import gzip
import os
import tempfile
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .image import check_volume, like, same_grid

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")


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
    check_volume(image, f"'{path.name}'")
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
    return like(image, voxels)


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
    check_volume(image, f"The DICOM series in '{folder.name}'")
    position = "0020|0032"
    if all(reader.HasMetaDataKey(i, position) for i in range(len(files))):
        corners = np.array([reader.GetMetaData(i, position).split("\\") for i in range(len(files))], dtype=float)
        steps = np.linalg.norm(np.diff(corners, axis=0), axis=1)
        if not steps.min() > 0.9 * steps.max():
            raise InputError(
                f"The DICOM series in '{folder.name}' has missing, doubled or unevenly spaced slices: export it again."
            )
    return image


def make_folder(folder: Path) -> None:
    """Make the folder that --output names, if it is not there. Raises InputError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be made: choose another with --output.") from error


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

    Raises:
        InputError: the operating system refused to write or to rename.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}{''.join(path.suffixes[-2:]).lower()}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"'{path.name}' could not be written: free disk space or choose another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_image(image: sitk.Image, path: str | Path) -> None:
    """Write a volume, replacing an earlier file only once the new one was read back and found identical.

    Raises:
        InputError: the path cannot be written to, or its format cannot hold this volume's type or geometry.
    """
    path = check_writable(path)
    with replacing(path) as temporary:
        write_exactly(image, temporary, path.name)


def write_exactly(image: sitk.Image, path: Path, name: str) -> None:
    """Write a volume to a temporary path and read it back; messages call it by the name it is to have.

    Reading back is needed: on a full disk ITK's NIfTI writer reports success, and it straightens sheared axes.

    Raises:
        OSError: writing failed.
        InputError: the format cannot hold this volume's type or geometry.
    """
    check_volume(image, "The volume")
    try:
        with _quiet_itk():
            sitk.WriteImage(image, str(path), useCompression=True)
        back = _read_file(path)
    except (RuntimeError, EOFError, zlib.error) as error:
        raise OSError(str(error)) from error
    if not _identical(back, image):
        raise InputError(
            f"'{name}' cannot hold this volume's {image.GetPixelIDTypeAsString()} voxels and geometry exactly: "
            "save it as .nrrd or .mha."
        )


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
