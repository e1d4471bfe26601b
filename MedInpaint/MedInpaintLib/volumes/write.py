"""Write volumes and other files so that an earlier file is replaced only by a complete one."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, explain_out_of_memory, is_out_of_memory
from .image import check_volume, same_grid
from .read import IMAGE_SUFFIXES, check_path, quiet_itk, read_file

STALE = 3600  # seconds after which a temporary file belongs to no running process


def make_folder(folder: Path) -> None:
    """Make the folder that --output names, unless it exists. Raises InputError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be made: choose another with --output.") from error


def check_writable(path: str | Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Path:
    """Return the path as a Path. Raise InputError unless a file of one of these types can be written there."""
    path = Path(path)
    check_path(path)
    if not path.name.lower().endswith(suffixes):
        raise InputError(f"'{path.name}' has no supported file extension: use {' or '.join(suffixes)}.")
    with _writable_folder_of(path):
        if path.is_dir():
            raise InputError(f"'{path.name}' is a folder: give the name of a file.")
    return path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a hidden temporary path beside the target, with the same suffix. On success it replaces the target.

    On any failure, a keyboard interrupt included, the temporary file is deleted and an earlier target stays as it was.
    Temporary files of a killed process are deleted when the same target is written again after an hour or more.

    Raises:
        InputError: the operating system refused to write or to rename.
    """
    path = Path(path)
    suffix = ".nii.gz" if path.name.lower().endswith(".nii.gz") else f".{path.name.lower().rpartition('.')[2]}"
    temporary = _beside(path, suffix)
    try:
        _delete_stale(path)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"'{path.name}' could not be written: free disk space or choose another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_new_folder(path: str | Path) -> Path:
    """Return the path as a Path. Raise InputError unless it is free, or an empty folder, and a folder can be made."""
    path = Path(path)
    check_path(path)
    with _writable_folder_of(path):
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise InputError(f"'{path.name}' exists already: give the name of a new folder.")
    return path


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a hidden temporary folder beside the target, which gets the target's name on success.

    On any failure, a keyboard interrupt included, the temporary folder is deleted. That of a killed process is deleted
    when the same target is written again after an hour or more.

    Raises:
        InputError: the operating system refused to write or to rename, or the target holds files now.
    """
    temporary = _beside(path, "")
    try:
        _delete_stale(path)
        temporary.mkdir()
        yield temporary
        if path.is_dir():
            path.rmdir()  # it is empty; Windows does not rename onto it
        os.rename(temporary, path)
    except OSError as error:
        raise InputError(f"'{path.name}' could not be written: free disk space or choose another folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _writable_folder_of(path: Path) -> Iterator[None]:
    """After the checks of the path in the block, check that a file can be written beside it. Raises InputError."""
    try:
        yield
        if not path.parent.is_dir():
            raise InputError(f"The folder '{path.parent}' for '{path.name}' does not exist: choose or create one.")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"The folder '{path.parent}' cannot be written to: choose another.") from error


def _stem(path: Path) -> str:
    """How the names of a target's temporary files begin; short, as the target's may have the greatest length."""
    return f".medinpaint-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-"


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{_stem(path)}{uuid.uuid4().hex}{suffix}")


def _delete_stale(path: Path) -> None:
    """Delete what killed runs left of a target."""
    for stale in path.parent.glob(f"{_stem(path)}*"):
        with suppress(OSError):  # another run may delete it first, or it may belong to another user
            if stale.stat().st_mtime < time.time() - STALE:
                if stale.is_dir():
                    shutil.rmtree(stale)
                else:
                    stale.unlink()


@explain_out_of_memory()
def write_image(image: sitk.Image, path: str | Path) -> None:
    """Write a volume. An earlier file is replaced only after the new one was read back and is identical.

    Raises:
        InputError: the path cannot be written to, its format cannot hold this volume's type or geometry, or memory does
            not suffice.
    """
    path = check_writable(path)
    with replacing(path) as temporary:
        write_exactly(image, temporary, path.name)


def write_exactly(image: sitk.Image, path: Path, name: str) -> None:
    """Write a volume to a temporary path and read it back. Messages use the final name.

    .nii.gz and .nrrd are compressed. MetaImages are not, because Slicer's panel waits while its child writes them.
    The file is read back because ITK's NIfTI writer reports success on a full disk and straightens sheared axes.

    Raises:
        OSError: writing failed.
        MemoryError, RuntimeError: memory does not suffice.
        InputError: the format cannot hold this volume's type or geometry.
    """
    check_volume(image, "The volume")
    try:
        with quiet_itk():
            sitk.WriteImage(image, str(path), useCompression=path.suffix.lower() != ".mha")
        back = read_file(path)
    except (RuntimeError, EOFError, zlib.error) as error:
        if is_out_of_memory(error):
            raise
        raise OSError(str(error)) from error
    if not _identical(back, image):
        raise InputError(
            f"'{name}' cannot hold this volume's {image.GetPixelIDTypeAsString()} voxels and geometry exactly: "
            "save it as .nrrd or .mha."
        )


def _identical(a: sitk.Image, b: sitk.Image) -> bool:
    """Whether two volumes have the same grid, type and bits in every voxel (so that NaN equals NaN)."""
    if a.GetPixelID() != b.GetPixelID() or not same_grid(a, b):
        return False
    first, second = (sitk.GetArrayViewFromImage(image) for image in (a, b))
    bits = f"u{first.dtype.itemsize}"
    return np.array_equal(first.view(bits), second.view(bits))
