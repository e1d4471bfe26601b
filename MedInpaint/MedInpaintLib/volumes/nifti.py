"""What ITK's NIfTI reader does not check: the header, missing voxels, and voxels without a finite value."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .image import like

NIFTI_TYPES = {
    "2": "u1", "4": "i2", "8": "i4", "16": "f4", "64": "f8", "256": "i1", "512": "u2", "768": "u4", "1024": "i8",
    "1280": "u8",
}  # fmt: skip
OTHER_NIFTI_TYPES = {"32", "128", "1536", "1792", "2048", "2304"}  # complex numbers, colours, more than 64 bits
LARGEST_EXTRA = 10**8  # bytes of a NIfTI file before its voxels, and after them
IMPOSSIBLE_GEOMETRY = "states a voxel size, position or orientation that no scan has: export it again from its source."
PIECE = 2**20  # bytes read at once


def check_nifti_header(path: Path) -> None:
    """Refuse a NIfTI-1 header that ITK would complain about on the console or would silently correct.

    Raises:
        InputError: the geometry is not finite.
        ValueError: the header's size or the first axis is missing, or the voxel type is unknown.
    """
    with unpacked(path) as content:
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
        raise InputError(f"'{path.name}' {IMPOSSIBLE_GEOMETRY}")


def restore_stored_voxels(path: Path, image: sitk.Image) -> sitk.Image:
    """The image that ITK read from a NIfTI file, with the file's voxels where ITK put 0 in place of NaN or infinity.

    ITK also puts 0 where a truncated file has no voxels; such a file is refused. The file is read in small pieces,
    because a small file may unpack to any length. It is read to its end, because gzip's check sum is there.

    Raises:
        EOFError: voxels are missing.
        ValueError: more than 100 MB follow the voxels.
    """
    start = int(float(image.GetMetaData("vox_offset")))
    voxels, done = None, 0
    with unpacked(path) as content:
        # A NIfTI file starts with the size of its header, 348 or 540, which shows the byte order.
        order: Literal["<", ">"] = "<" if int.from_bytes(content.read(4), "little") in (348, 540) else ">"
        kind = np.dtype(NIFTI_TYPES[image.GetMetaData("datatype")]).newbyteorder(order)
        content.seek(start)
        for piece in pieces(content, image.GetNumberOfPixels() * kind.itemsize):
            stored = np.frombuffer(piece, kind)
            zeroed = np.flatnonzero(~np.isfinite(stored))
            if zeroed.size:
                voxels = sitk.GetArrayFromImage(image) if voxels is None else voxels
                voxels.reshape(-1)[done + zeroed] = stored[zeroed]
            done += stored.size
        if done < image.GetNumberOfPixels():
            raise EOFError("voxels are missing at the end of the file")
        if sum(map(len, pieces(content, LARGEST_EXTRA + 1))) > LARGEST_EXTRA:
            raise ValueError("there is far more in the file than its voxels")
    return image if voxels is None else like(image, voxels)


@contextmanager
def unpacked(path: Path) -> Iterator[gzip.GzipFile | BufferedReader]:
    """The content of a file, unpacked while it is read if gzip packed it."""
    with path.open("rb") as file, gzip.open(file) if file.peek(2)[:2] == b"\x1f\x8b" else file as content:
        yield content


def pieces(content: gzip.GzipFile | BufferedReader, length: int) -> Iterator[bytes]:
    """The next bytes of a file, up to a length or the file's end, in pieces of whole voxels."""
    while length > 0 and (piece := content.read(min(length, PIECE))):
        length -= len(piece)
        yield piece
