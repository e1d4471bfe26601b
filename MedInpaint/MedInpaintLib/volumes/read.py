"""Volumes on disk: reading NIfTI, NRRD, MetaImage and DICOM, and writing so that no half a file is ever left."""

from __future__ import annotations

import locale
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, explain_out_of_memory, is_out_of_memory
from .image import check_volume
from .nifti import IMPOSSIBLE_GEOMETRY, MOST_BESIDES, check_nifti_header, restore_stored_voxels

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
MOST_VOXELS = 10**9  # a head at 0.2 mm; the largest published brain has half of it
DEFLATE = 1032  # at most so many bytes come of one that is compressed by gzip or zlib
SPACINGS = 1e-3, 1e3  # mm, the voxel sides of a scan
FARTHEST = 1e6  # mm from the origin of space
FLATTEST = 1e-3  # volume between the axes' unit vectors


@explain_out_of_memory()
def read_image(path: str | Path) -> sitk.Image:
    """Read a volume from a file (NIfTI, NRRD, MetaImage, ...) or from a folder that holds one DICOM series.

    A fourth dimension of size 1, common in NIfTI, is dropped. NIfTI's non-finite values are kept.

    Raises:
        InputError: there is no such file; it is damaged, too large or no image; it holds no 3-D volume of single
            real numbers; or the folder holds no DICOM series, several, or one with missing slices.
    """
    path = Path(path)
    check_path(path)
    try:
        if not path.exists():
            raise InputError(f"'{path.name}' does not exist: check the path.")
        if path.name.lower().endswith((".nii", ".nii.gz")) and not path.is_dir():
            check_nifti_header(path)
        image = _read_series(path) if path.is_dir() else read_file(path)
    except InputError:
        raise
    except (RuntimeError, ValueError, OSError, EOFError, zlib.error) as error:
        if is_out_of_memory(error):
            raise
        if "orthonormal" in str(error):
            cause = "has sheared axes: resample it onto a grid with perpendicular axes."
        else:
            cause = "cannot be read as an image: it is damaged, incomplete or of another format, choose another file."
        raise InputError(f"'{path.name}' {cause}") from error
    _check_geometry(image, path.name)
    return image


def check_path(path: Path) -> None:
    """Raise InputError for a path that is no text, of which SimpleITK would end the whole process."""
    try:
        valid = b"\0" not in str(path).encode()
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise InputError(f"The path {str(path)!a} is no valid text (UTF-8): rename the file or folder.")


def _check_geometry(image: sitk.Image, name: str) -> None:
    """Raise InputError unless a volume has a size and a place that a scan can have, with which ITK can compute."""
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    sides = (spacing >= SPACINGS[0]) & (spacing <= SPACINGS[1])
    volume = abs(np.linalg.det(np.reshape(image.GetDirection(), (3, 3))))
    if not (sides.all() and (np.abs(origin) <= FARTHEST).all() and volume >= FLATTEST):
        raise InputError(f"'{name}' {IMPOSSIBLE_GEOMETRY}")


def read_file(path: Path) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with quiet_itk():
        reader.ReadImageInformation()
        size = reader.GetSize()
        _check_announced(path, reader)
        if len(size) > 3 and set(size[3:]) == {1}:
            reader.SetExtractSize([*size[:3], *(0 for _ in size[3:])])
        image = reader.Execute()
    check_volume(image, f"'{path.name}'")
    if reader.GetImageIOFromFileName(str(path)) == "NiftiImageIO" and image.GetMetaData("nifti_type") == "1":
        image = restore_stored_voxels(path, image)
    return image


def _check_announced(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuse a header that announces more than makes sense, or than its file can hold, before memory is taken."""
    voxels = math.prod(reader.GetSize())
    if voxels > MOST_VOXELS:
        shape = " x ".join(map(str, reader.GetSize()))
        raise InputError(f"'{path.name}' is said to hold {shape} voxels, which is too many: crop or resample it.")
    name = path.name.lower()
    if name.endswith(IMAGE_SUFFIXES) and voxels > path.stat().st_size * (1 if name.endswith(".nii") else DEFLATE):
        raise EOFError("the file is too small for its voxels")
    if reader.HasMetaDataKey("vox_offset") and not 0 <= float(reader.GetMetaData("vox_offset")) <= MOST_BESIDES:
        raise ValueError("the voxels begin nowhere near the header")


def _read_series(folder: Path) -> sitk.Image:
    """Read a DICOM series. The slices' tags are not copied: they name the patient."""
    reader = sitk.ImageSeriesReader()
    with quiet_itk():
        series = reader.GetGDCMSeriesIDs(str(folder))
        if not series:
            raise InputError(f"The folder '{folder.name}' holds no DICOM series: choose an image or another folder.")
        if len(series) > 1:
            raise InputError(
                f"The folder '{folder.name}' holds {len(series)} DICOM series: move the one to use into its own folder."
            )
        files = reader.GetGDCMSeriesFileNames(str(folder), series[0])
        if len(files) == 1:
            return read_file(Path(files[0]))
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


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Silence ITK's warnings: what matters in them is checked here, and said in one sentence.

    Its NRRD reader and writer take the locale's decimal point, and would read a voxel of 1.5 mm as one of 1 mm under a
    decimal comma, which Qt, for one, sets on start. A process has one locale: other threads see the change, too.
    """
    shown, numbers = sitk.ProcessObject.GetGlobalWarningDisplay(), locale.setlocale(locale.LC_NUMERIC)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    locale.setlocale(locale.LC_NUMERIC, "C")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_NUMERIC, numbers)
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
