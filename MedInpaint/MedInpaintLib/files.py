"""Volumes on disk: reading NIfTI, NRRD, MetaImage and DICOM, and writing so that no half a file is ever left."""

from __future__ import annotations

import gzip
import hashlib
import locale
import math
import os
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .fallback import enough_memory, out_of_memory
from .image import check_volume, like, same_grid

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
NIFTI_TYPES = {
    "2": "u1", "4": "i2", "8": "i4", "16": "f4", "64": "f8", "256": "i1", "512": "u2", "768": "u4", "1024": "i8",
    "1280": "u8",
}  # fmt: skip
OTHER_NIFTI_TYPES = {"32", "128", "1536", "1792", "2048", "2304"}  # complex numbers, colours, more than 64 bits
MOST_VOXELS = 10**9  # a head at 0.2 mm; the largest published brain has half of it
MOST_BESIDES = 10**8  # bytes of a NIfTI file before its voxels, and after them
DEFLATE = 1032  # at most so many bytes come of one that is compressed by gzip or zlib
SPACINGS = 1e-3, 1e3  # mm, the voxel sides of a scan
FARTHEST = 1e6  # mm from the origin of space
FLATTEST = 1e-3  # volume between the axes' unit vectors
SENSELESS = "states a voxel size, position or orientation that no scan has: export it again from its source."
PART = 2**20  # bytes read at once
STALE = 3600  # seconds after which a temporary file is nobody's any more


@enough_memory()
def read_image(path: str | Path) -> sitk.Image:
    """Read a volume from a file (NIfTI, NRRD, MetaImage, ...) or from a folder that holds one DICOM series.

    A fourth dimension of size 1, common in NIfTI, is dropped. NIfTI's non-finite values are kept.

    Raises:
        InputError: there is no such file; it is damaged, too large or no image; it holds no 3-D volume of single
            real numbers; or the folder holds no DICOM series, several, or one with missing slices.
    """
    path = Path(path)
    _check_name(path)
    try:
        if not path.exists():
            raise InputError(f"'{path.name}' does not exist: check the path.")
        if path.name.lower().endswith((".nii", ".nii.gz")) and not path.is_dir():
            _check_nifti(path)
        image = _read_series(path) if path.is_dir() else _read_file(path)
    except InputError:
        raise
    except (RuntimeError, ValueError, OSError, EOFError, zlib.error) as error:
        if out_of_memory(error):
            raise
        if "orthonormal" in str(error):
            cause = "has sheared axes: resample it onto a grid with perpendicular axes."
        else:
            cause = "cannot be read as an image: it is damaged, incomplete or of another format, choose another file."
        raise InputError(f"'{path.name}' {cause}") from error
    _check_geometry(image, path.name)
    return image


def _check_name(path: Path) -> None:
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
        raise InputError(f"'{name}' {SENSELESS}")


def _read_file(path: Path) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _quiet_itk():
        reader.ReadImageInformation()
        size = reader.GetSize()
        _check_announced(path, reader)
        if len(size) > 3 and set(size[3:]) == {1}:
            reader.SetExtractSize([*size[:3], *(0 for _ in size[3:])])
        image = reader.Execute()
    check_volume(image, f"'{path.name}'")
    if reader.GetImageIOFromFileName(str(path)) == "NiftiImageIO" and image.GetMetaData("nifti_type") == "1":
        image = _as_stored(path, image)
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


def _as_stored(path: Path, image: sitk.Image) -> sitk.Image:
    """Make up for two silences of ITK's NIfTI reader: what a cut-off file lacks, and what is not finite, become 0.

    The file is gone through in small parts, and not far beyond its voxels: a small one may unpack to any length. Its
    end is read all the same, for gzip's check sum.
    """
    start = int(float(image.GetMetaData("vox_offset")))
    voxels, done = None, 0
    with _unpacked(path) as content:
        # A NIfTI file opens with its header's size, 348 or 540, which tells the byte order.
        order: Literal["<", ">"] = "<" if int.from_bytes(content.read(4), "little") in (348, 540) else ">"
        kind = np.dtype(NIFTI_TYPES[image.GetMetaData("datatype")]).newbyteorder(order)
        content.seek(start)
        for part in _parts(content, image.GetNumberOfPixels() * kind.itemsize):
            stored = np.frombuffer(part, kind)
            zeroed = np.flatnonzero(~np.isfinite(stored))
            if zeroed.size:
                voxels = sitk.GetArrayFromImage(image) if voxels is None else voxels
                voxels.reshape(-1)[done + zeroed] = stored[zeroed]
            done += stored.size
        if done < image.GetNumberOfPixels():
            raise EOFError("voxels are missing at the end of the file")
        if sum(map(len, _parts(content, MOST_BESIDES + 1))) > MOST_BESIDES:
            raise ValueError("there is far more in the file than its voxels")
    return image if voxels is None else like(image, voxels)


@contextmanager
def _unpacked(path: Path) -> Iterator[gzip.GzipFile | BufferedReader]:
    """A file's content, unpacked as it is read if gzip packed it."""
    with path.open("rb") as file, gzip.open(file) if file.peek(2)[:2] == b"\x1f\x8b" else file as content:
        yield content


def _check_nifti(path: Path) -> None:
    """Refuse a NIfTI-1 header without its size, a first axis, a known type or a finite geometry, of which ITK complains
    aloud or makes up others.

    Raises:
        InputError: the geometry is not finite.
        ValueError: another of them is missing.
    """
    with _unpacked(path) as content:
        header = content.read(348)
    order = {(348).to_bytes(4, "little"): "<", (348).to_bytes(4, "big"): ">"}.get(header[:4])
    if order is None or len(header) < 348:
        if header[344:] in (b"n+1\0", b"ni1\0"):
            raise ValueError("the header does not state its size")
        return
    quaternion, matrix = np.frombuffer(header, f"{order}i2", 2, 252) > 0
    numbers = np.frombuffer(header, f"{order}f4", 18, 256)
    used = np.concatenate([numbers[:6] if quaternion else [], numbers[6:] if matrix else []])
    sides = np.frombuffer(header, f"{order}f4", 3, 80)
    axes, length = np.frombuffer(header, f"{order}i2", 2, 40)
    (kind,) = np.frombuffer(header, f"{order}i2", 1, 70)
    if not 0 < axes < 8 or length <= 0:
        raise ValueError("there is no first axis")
    if str(kind) not in NIFTI_TYPES.keys() | OTHER_NIFTI_TYPES:
        raise ValueError("the type is not known")
    if not (np.isfinite(used).all() and np.isfinite(sides).all()):
        raise InputError(f"'{path.name}' {SENSELESS}")


def _parts(content: gzip.GzipFile | BufferedReader, length: int) -> Iterator[bytes]:
    """So many bytes from where a file stands, in parts of whole voxels, or what there is of them."""
    while length > 0 and (part := content.read(min(length, PART))):
        length -= len(part)
        yield part


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
    _check_name(path)
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

    On any failure, a keyboard interrupt included, the temporary file goes and an earlier target stays as it was. What a
    process that was killed has left of this target goes after an hour, when it is written again.

    Raises:
        InputError: the operating system refused to write or to rename.
    """
    path = Path(path)
    suffix = ".nii.gz" if path.name.lower().endswith(".nii.gz") else f".{path.name.lower().rpartition('.')[2]}"
    stem = f".medinpaint-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-"  # no longer than a name may be
    temporary = path.with_name(f"{stem}{uuid.uuid4().hex}{suffix}")
    try:
        for left in path.parent.glob(f"{stem}*"):
            with suppress(OSError):  # another run may be quicker, or it may be another user's
                if left.stat().st_mtime < time.time() - STALE:
                    left.unlink()
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"'{path.name}' could not be written: free disk space or choose another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


@enough_memory()
def write_image(image: sitk.Image, path: str | Path) -> None:
    """Write a volume, replacing an earlier file only once the new one was read back and found identical.

    Raises:
        InputError: the path cannot be written to, its format cannot hold this volume's type or geometry, or memory does
            not suffice.
    """
    path = check_writable(path)
    with replacing(path) as temporary:
        write_exactly(image, temporary, path.name)


def write_exactly(image: sitk.Image, path: Path, name: str) -> None:
    """Write a volume to a temporary path and read it back; messages call it by the name it is to have.

    .nii.gz and .nrrd are compressed. A MetaImage is not: Slicer's panel waits for those of its child process.
    Reading back is needed: on a full disk ITK's NIfTI writer reports success, and it straightens sheared axes.

    Raises:
        OSError: writing failed.
        MemoryError, RuntimeError: memory does not suffice.
        InputError: the format cannot hold this volume's type or geometry.
    """
    check_volume(image, "The volume")
    try:
        with _quiet_itk():
            sitk.WriteImage(image, str(path), useCompression=path.suffix.lower() != ".mha")
        back = _read_file(path)
    except (RuntimeError, EOFError, zlib.error) as error:
        if out_of_memory(error):
            raise
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
