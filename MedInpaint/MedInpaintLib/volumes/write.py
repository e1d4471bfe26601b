"""Volumes on disk: reading NIfTI, NRRD, MetaImage and DICOM, and writing so that no half a file is ever left."""

from __future__ import annotations

import hashlib
import os
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

STALE = 3600  # seconds after which a temporary file is nobody's any more


def make_folder(folder: Path) -> None:
    """Make the folder that --output names, if it is not there. Raises InputError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be made: choose another with --output.") from error


def check_writable(path: str | Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Path:
    """Raise InputError unless a file of one of these types can be written at the path; return it as a Path."""
    path = Path(path)
    check_path(path)
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


@explain_out_of_memory()
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
    """The same grid, the same type and the same bits in every voxel, so that NaN equals NaN."""
    if a.GetPixelID() != b.GetPixelID() or not same_grid(a, b):
        return False
    first, second = (sitk.GetArrayViewFromImage(image) for image in (a, b))
    bits = f"u{first.dtype.itemsize}"
    return np.array_equal(first.view(bits), second.view(bits))
