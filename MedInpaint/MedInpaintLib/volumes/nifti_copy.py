"""A result as a copy of the scan's NIfTI file: new voxels in the hole, every other byte as it was.

ITK writes a header of its own: it drops the extensions, cal_min, cal_max and the intent, and sets the codes, the units
and the scaling anew. The header: https://nifti.nimh.nih.gov (nifti1.h, nifti2.h).
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .nifti import NIFTI_TYPES, unpacked
from .read import read_file

LEVEL = 4  # of gzip; in a head of 5.9 million voxels level 6, the usual one, takes four times as long for 0.1 % less


@dataclass(frozen=True)
class NiftiFile:
    """What a NIfTI file has besides the values of its voxels.

    Attributes:
        before, after: all bytes before the first voxel (header and extensions) and after the last one.
        kind: the type of the voxels with its byte order.
        slope, intercept: a voxel's value is slope * stored + intercept.
        stored: (z, y, x), the voxels as they are stored if they are scaled; else None: the values say it.
    """

    before: bytes
    after: bytes
    kind: np.dtype
    slope: float
    intercept: float
    stored: np.ndarray | None

    def encode(self, values: np.ndarray) -> np.ndarray:
        """What to store for these scaled values: whole numbers are rounded to the nearest one and clipped."""
        stored = (values.astype(np.float64) - self.intercept) / self.slope
        if self.kind.kind == "f":
            largest = float(np.finfo(self.kind).max)
            return np.clip(stored, -largest, largest).astype(self.kind)
        limits = np.iinfo(self.kind)
        largest = float(limits.max)
        if int(largest) > limits.max:  # float64 rounds the largest 64-bit integer up
            largest = float(np.nextafter(largest, 0))
        return np.clip(np.rint(stored), float(limits.min), largest).astype(self.kind)


def nifti_file(path: Path, scan: sitk.Image) -> NiftiFile | None:
    """What to keep of the file that a scan was read from; None if it is no NIfTI with header and voxels in one file.

    Raises InputError if the file is no longer the one that was read.
    """
    if path.is_dir():
        return None
    order: Literal["<", ">"]
    with unpacked(path) as content:
        header = content.read(540)
        if header[344:348] == b"n+1\0":
            order = "<" if header[:4] == (348).to_bytes(4, "little") else ">"
            kind = np.frombuffer(header, f"{order}i2", 1, 70)[0]
            offset, slope, intercept = np.frombuffer(header, f"{order}f4", 3, 108)
            start = max(int(offset), 348)
        elif header[4:8] == b"n+2\0":
            order = "<" if header[:4] == (540).to_bytes(4, "little") else ">"
            kind = np.frombuffer(header, f"{order}i2", 1, 12)[0]
            start = max(int(np.frombuffer(header, f"{order}i8", 1, 168)[0]), 540)
            slope, intercept = np.frombuffer(header, f"{order}f8", 2, 176)
        else:
            return None
        stored_type = np.dtype(NIFTI_TYPES[str(kind)]).newbyteorder(order)
        content.seek(0)
        before = content.read(start)
        voxels = content.read(scan.GetNumberOfPixels() * stored_type.itemsize)
        after = content.read()
    if len(voxels) < scan.GetNumberOfPixels() * stored_type.itemsize:
        raise InputError(f"'{path.name}' was changed while it was read: run it again.")
    if not np.isfinite(slope) or slope == 0:  # the standard: the voxels are not scaled
        slope, intercept = 1, 0
    intercept = intercept if np.isfinite(intercept) else 0
    scaled = (slope, intercept) != (1, 0)
    stored = np.frombuffer(voxels, stored_type).reshape(scan.GetSize()[::-1]) if scaled else None
    return NiftiFile(before, after, stored_type, float(slope), float(intercept), stored)


def write_filled_copy(file: NiftiFile, path: Path, image: sitk.Image, hole: np.ndarray) -> None:
    """Write a filled scan with all bytes of the scan's file outside the hole, and read it back.

    Args:
        file: of the scan.
        path: the new file, packed if its name ends in .gz.
        image: the filled scan, of the grid and the type that ITK read from the file.
        hole: bool (z, y, x), the filled voxels.

    Raises:
        OSError: the system refused to write.
        InputError: the file is not the one that was read.
    """
    values = sitk.GetArrayViewFromImage(image)
    if file.stored is None:
        voxels = values.astype(file.kind)
    else:
        voxels = file.stored.copy()
        voxels[hole] = file.encode(values[hole])
    with _packed(path) as target:
        for part in (file.before, voxels.data, file.after):
            target.write(part)
    written = read_file(path)
    back = sitk.GetArrayViewFromImage(written)  # a view does not keep its image alive
    bits = f"u{values.dtype.itemsize}"
    same = back.shape == values.shape and back.dtype == values.dtype and (back.view(bits) == values.view(bits))
    if not np.all(same if file.stored is None else same | hole):
        raise InputError("The scan's file was changed while it was read: run it again.")


@contextmanager
def _packed(path: Path) -> Iterator[gzip.GzipFile | BufferedWriter]:
    """A new file, packed if its name says so; without the time, so that equal results are equal files."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("wb"))
        if path.name.endswith(".gz"):
            yield stack.enter_context(gzip.GzipFile("", "wb", LEVEL, file, mtime=0))
        else:
            yield file
