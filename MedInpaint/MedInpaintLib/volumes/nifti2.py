"""NIfTI-2, which ITK cannot read: the same volume as NIfTI-1 in a temporary file, where numbers are shorter.

The fields of both headers: https://nifti.nimh.nih.gov (nifti1.h, nifti2.h).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .nifti import LARGEST_EXTRA, NIFTI_TYPES, check_nifti_header, pieces, unpacked

SIZE = 540  # bytes of the header
FIELDS = [  # those that say what is where: the type and the offset in NIfTI-2, then in NIfTI-1, the count
    ("i2", 12, "i2", 70, 2),  # datatype, bits of a voxel
    ("i8", 16, "i2", 40, 8),  # the axes
    ("f8", 104, "f4", 76, 8),  # the voxel size
    ("f8", 176, "f4", 112, 2),  # slope and intercept
    ("i4", 344, "i2", 252, 2),  # the codes of qform and sform
    ("f8", 352, "f4", 256, 18),  # quaternion, offset and matrix
]


@contextmanager
def as_nifti1(path: Path) -> Iterator[Path]:
    """A path of the same name whose file ITK can read: that of a temporary copy if the file is a NIfTI-2, else itself.

    Raises:
        ValueError: NIfTI-1 cannot hold so many voxels.
        InputError, ValueError: see `check_nifti_header`.
        EOFError: voxels are missing.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        yield path
        return
    with unpacked(path) as content:
        header = content.read(SIZE)
        if header[4:8] != b"n+2\0" or len(header) < SIZE:
            yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "scan.nii")
            order = "<" if header[:4] == SIZE.to_bytes(4, "little") else ">"
            start = max(int(np.frombuffer(header, f"{order}i8", 1, 168)[0]), SIZE)
            if start > LARGEST_EXTRA:
                raise ValueError("the voxels begin nowhere near the header")
            with copy.open("wb") as target:
                target.write(_header(header, order))
                content.seek(start)
                for piece in pieces(content, _length(header, order)):
                    target.write(piece)
            check_nifti_header(copy)
            yield copy


def _length(header: bytes, order: str) -> int:
    """The bytes of the voxels."""
    axes = np.frombuffer(header, f"{order}i8", 8, 16).tolist()
    kind = NIFTI_TYPES.get(str(np.frombuffer(header, f"{order}i2", 1, 12)[0]))
    if not 0 < axes[0] < 8 or min(axes[1 : axes[0] + 1]) <= 0 or kind is None:
        raise ValueError("the axes or the type are not known")
    if max(axes) >= 2**15:
        raise ValueError("an axis is too long for NIfTI-1")
    return int(np.prod(axes[1 : axes[0] + 1])) * np.dtype(kind).itemsize


def _header(header: bytes, order: str) -> bytes:
    """A NIfTI-1 header that states the same type, axes, geometry and scaling."""
    shorter = bytearray(352)
    shorter[:4] = np.array(348, f"{order}i4").tobytes()
    shorter[344:348] = b"n+1\0"
    shorter[108:112] = np.array(352, f"{order}f4").tobytes()
    with np.errstate(over="ignore", invalid="ignore"):
        for kind, offset, new_kind, new_offset, count in FIELDS:
            values = np.frombuffer(header, order + kind, count, offset).astype(order + new_kind).tobytes()
            shorter[new_offset : new_offset + len(values)] = values
    return bytes(shorter)
