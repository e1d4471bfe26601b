"""Read a volume from a file (NIfTI, NRRD, MetaImage) or from a folder with a DICOM series."""

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
from .nifti import IMPOSSIBLE_GEOMETRY, LARGEST_EXTRA, check_nifti_header, restore_stored_voxels
from .nifti2 import as_nifti1

NIFTI_SUFFIXES = (".nii", ".nii.gz")
IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".mha")
MOST_VOXELS = 10**9  # a head at 0.2 mm; the largest published brain has half as many
LARGEST_RATIO = 1032  # unpacked bytes per packed byte of gzip and zlib
SPACING_RANGE = 1e-3, 1e3  # mm, the voxel size of a scan
FARTHEST_ORIGIN = 1e6  # mm along an axis
SMALLEST_DETERMINANT = 1e-3  # of the axes' unit vectors: 1 if perpendicular, 0 if all lie in a plane


@explain_out_of_memory()
def read_image(path: str | Path, series: str | None = None) -> sitk.Image:
    """Read a volume from a file (NIfTI, NRRD, MetaImage, ...) or from a folder with a DICOM series.

    A fourth dimension of size 1, common in NIfTI, is dropped. NaN and infinite values of NIfTI are kept.

    Args:
        path: the file or folder.
        series: the Series Instance UID of the DICOM series to read; None: there must be only one.

    Raises:
        InputError: the file does not exist, is damaged, too large or no 3-D volume with one real number per voxel; the
            folder has no DICOM series, several, or one with missing slices; or memory does not suffice.
    """
    path = Path(path)
    check_path(path)
    try:
        if not path.exists():
            raise InputError(f"'{path.name}' does not exist: check the path.")
        if path.name.lower().endswith(NIFTI_SUFFIXES) and not path.is_dir():
            check_nifti_header(path)
        if series and not path.is_dir():
            raise InputError(f"'{path.name}' is no folder of DICOM files: drop the series UID or give the folder.")
        image = _read_series(path, series) if path.is_dir() else read_file(path)
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
    """Raise InputError for a path that is no valid text: SimpleITK would end the whole process."""
    try:
        valid = b"\0" not in str(path).encode()
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise InputError(f"The path {str(path)!a} is no valid text (UTF-8): rename the file or folder.")


def read_file(path: Path) -> sitk.Image:
    """Read a volume from a file. Raises InputError, or an error of Python or SimpleITK if the file is damaged."""
    with as_nifti1(path) as readable:
        return _read_file(readable)


def _read_file(path: Path) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with quiet_itk():
        reader.ReadImageInformation()
        size = reader.GetSize()
        _check_header(path, reader)
        if len(size) > 3 and set(size[3:]) == {1}:
            reader.SetExtractSize([*size[:3], *(0 for _ in size[3:])])
        image = reader.Execute()
    check_volume(image, f"'{path.name}'")
    if reader.GetImageIOFromFileName(str(path)) == "NiftiImageIO" and image.GetMetaData("nifti_type") == "1":
        image = restore_stored_voxels(path, image)
    return image


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Silence ITK's warnings and use a decimal point. What matters in the warnings is checked here.

    ITK's NRRD reader and writer follow the locale. With a decimal comma, which Qt may set at its start, 1.5 mm would be
    read as 1 mm. A process has one locale, so other threads see the change, too.
    """
    warnings, numbers = sitk.ProcessObject.GetGlobalWarningDisplay(), locale.setlocale(locale.LC_NUMERIC)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    locale.setlocale(locale.LC_NUMERIC, "C")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_NUMERIC, numbers)
        sitk.ProcessObject.SetGlobalWarningDisplay(warnings)


def series_files(folder: str | Path, series: str | None = None) -> list[str]:
    """The files of a DICOM series in a folder, in the order of their positions.

    Args:
        folder: the folder; its own folders are not searched.
        series: the Series Instance UID; None: there must be only one series.

    Raises:
        InputError: there is no series, not this one, or several to choose from, which the message lists.
    """
    folder, reader = Path(folder), sitk.ImageSeriesReader()
    with quiet_itk():
        found = reader.GetGDCMSeriesIDs(str(folder))
        if not found:
            raise InputError(f"The folder '{folder.name}' holds no DICOM series: choose an image or another folder.")
        files = {each: list(reader.GetGDCMSeriesFileNames(str(folder), each)) for each in found}
        chosen = series or found[0]
        if chosen in files and (series or len(found) == 1):
            return files[chosen]
        listed = ", ".join(f"{each} ({_title(names[0])}, {len(names)} files)" for each, names in files.items())
    if series:
        raise InputError(f"The folder '{folder.name}' holds no DICOM series {series}: choose one of {listed}.")
    raise InputError(
        f"The folder '{folder.name}' holds {len(found)} DICOM series: choose one by its UID (--series), {listed}."
    )


def _title(file: str) -> str:
    """The description of a file's series."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    key = "0008|103e"
    title = reader.GetMetaData(key).strip() if reader.HasMetaDataKey(key) else ""
    return title.encode("ascii", "replace").decode() or "no description"


def _read_series(folder: Path, series: str | None) -> sitk.Image:
    """Read a DICOM series, without the tags of its slices, which name the patient."""
    files = series_files(folder, series)
    reader = sitk.ImageSeriesReader()
    with quiet_itk():
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


def _check_header(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuse a header with too many voxels, or more than the file can hold, before memory is allocated."""
    voxels = math.prod(reader.GetSize())
    if voxels > MOST_VOXELS:
        shape = " x ".join(map(str, reader.GetSize()))
        raise InputError(f"'{path.name}' states {shape} voxels, which is too many: crop or resample it.")
    name = path.name.lower()
    if name.endswith(IMAGE_SUFFIXES) and voxels > path.stat().st_size * (1 if name.endswith(".nii") else LARGEST_RATIO):
        raise EOFError("the file is too small for its voxels")
    if reader.HasMetaDataKey("vox_offset") and not 0 <= float(reader.GetMetaData("vox_offset")) <= LARGEST_EXTRA:
        raise ValueError("the voxels begin nowhere near the header")


def _check_geometry(image: sitk.Image, name: str) -> None:
    """Raise InputError unless a scan can have this voxel size, position and orientation and ITK can use them."""
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    allowed = (spacing >= SPACING_RANGE[0]) & (spacing <= SPACING_RANGE[1])
    determinant = abs(np.linalg.det(np.reshape(image.GetDirection(), (3, 3))))
    if not (allowed.all() and (np.abs(origin) <= FARTHEST_ORIGIN).all() and determinant >= SMALLEST_DETERMINANT):
        raise InputError(f"'{name}' {IMPOSSIBLE_GEOMETRY}")
