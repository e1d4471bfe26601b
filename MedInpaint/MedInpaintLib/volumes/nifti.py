"""Volumes on disk: reading NIfTI, NRRD, MetaImage and DICOM, and writing so that no half a file is ever left."""

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
MOST_BESIDES = 10**8  # bytes of a NIfTI file before its voxels, and after them
IMPOSSIBLE_GEOMETRY = "states a voxel size, position or orientation that no scan has: export it again from its source."
PART = 2**20  # bytes read at once


def restore_stored_voxels(path: Path, image: sitk.Image) -> sitk.Image:
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


def check_nifti_header(path: Path) -> None:
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
        raise InputError(f"'{path.name}' {IMPOSSIBLE_GEOMETRY}")


def _parts(content: gzip.GzipFile | BufferedReader, length: int) -> Iterator[bytes]:
    """So many bytes from where a file stands, in parts of whole voxels, or what there is of them."""
    while length > 0 and (part := content.read(min(length, PART))):
        length -= len(part)
        yield part
