"""The DICOM files of a scan: their headers, their stored pixels, and which voxels of the scan they hold.

The standard's parts are cited by their section: https://dicom.nema.org/medical/dicom/current
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ..image import affine

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

INSTEAD = "choose an output file such as filled.nii.gz"
OFF_GRID = 0.4  # voxels; the positions of a series have rounding errors, and ITK spaces its slices evenly


@dataclass(frozen=True)
class SourceSlice:
    """One file of a series.

    Attributes:
        dataset: its header and its pixels, which are not compressed.
        uid: the SOP Instance UID.
        voxels: three int arrays (rows, columns) or scalars: the index (z, y, x) of each pixel in the scan.
        slope, intercept: a voxel of the scan is slope * stored + intercept.
    """

    dataset: Dataset
    uid: str
    voxels: tuple[np.ndarray, ...]
    slope: float
    intercept: float


def read_slices(files: Sequence[Path], scan: sitk.Image) -> list[SourceSlice]:
    """Read the files of a scan, in the order given, and find each pixel in the scan.

    Args:
        files: the files of one series.
        scan: the volume that was read from them, by any reader, in LPS; its axes may be flipped or swapped.

    Raises:
        InputError: pydicom is missing; a file is no single-frame image of grey levels, or is compressed in a way that
            pydicom cannot unpack; or the files hold other voxels than the scan.
    """
    check_pydicom()
    values = sitk.GetArrayViewFromImage(scan)
    found = np.zeros(values.shape, bool)
    slices = []
    for file in files:
        slices.append(_read_slice(Path(file), values, affine(scan)))
        found[slices[-1].voxels] = True
    if len({each.dataset.SeriesInstanceUID for each in slices}) > 1:
        raise InputError("The DICOM files are of several series: give those of one series.")
    if not found.all():
        raise InputError("The DICOM files hold a part of the scan only: give all files of its series.")
    return slices


def check_pydicom() -> None:
    """Raise InputError unless pydicom is installed."""
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise InputError(f"A DICOM series is written with pydicom: `pip install pydicom`, or {INSTEAD}.") from error


def pixels(dataset: Dataset) -> np.ndarray:
    """The stored values (rows, columns), int64: bits that do not belong to a pixel are masked (PS3.5, 8.1.1)."""
    raw = np.frombuffer(dataset.PixelData, f"<u{dataset.BitsAllocated // 8}", dataset.Rows * dataset.Columns)
    stored = raw.reshape(dataset.Rows, dataset.Columns).astype(np.int64) & ((1 << dataset.BitsStored) - 1)
    if dataset.PixelRepresentation:
        stored -= (stored >> (dataset.BitsStored - 1)) << dataset.BitsStored
    return stored


def limits(dataset: Dataset) -> tuple[int, int]:
    """The smallest and the largest value that can be stored."""
    if dataset.PixelRepresentation:
        return -(1 << (dataset.BitsStored - 1)), (1 << (dataset.BitsStored - 1)) - 1
    return 0, (1 << dataset.BitsStored) - 1


def _read_slice(file: Path, values: np.ndarray, matrix: np.ndarray) -> SourceSlice:
    import pydicom

    try:
        dataset = pydicom.dcmread(file)
        uid = str(dataset.SOPInstanceUID)  # pydicom changes it when it unpacks
        _check_kind(dataset)
        _unpack(dataset)
        where = _voxels(dataset, values.shape, matrix)
        stored = pixels(dataset)
    except InputError:
        raise
    except (OSError, AttributeError, ValueError, TypeError, KeyError, pydicom.errors.InvalidDicomError) as error:
        raise InputError(
            f"The DICOM series has a damaged or incomplete file: export it again, or {INSTEAD}."
        ) from error
    # Readers apply the rescaling for some kinds of images only: take what explains the voxels.
    stated = float(dataset.get("RescaleSlope", 1) or 1), float(dataset.get("RescaleIntercept", 0) or 0)
    for slope, intercept in (stated, (1.0, 0.0)):
        difference = np.abs(stored * slope + intercept - values[where])
        if difference.max() <= 0.01 * abs(slope):
            return SourceSlice(dataset, uid, where, slope, intercept)
    raise InputError("The DICOM files hold other values than the scan: give the files that it was read from.")


def _check_kind(dataset: Dataset) -> None:
    if int(dataset.get("NumberOfFrames") or 1) > 1 or "SharedFunctionalGroupsSequence" in dataset:
        problem = "is a multi-frame (enhanced) file: convert it to single frames"
    elif dataset.SamplesPerPixel != 1 or not dataset.PhotometricInterpretation.startswith("MONOCHROME"):
        problem = "is not of plain grey levels: choose another series"
    elif dataset.BitsAllocated not in (8, 16) or dataset.HighBit != dataset.BitsStored - 1:
        problem = f"stores its pixels in an unusual way ({dataset.BitsAllocated} bits): convert it"
    elif not dataset.file_meta.TransferSyntaxUID.is_little_endian:
        problem = "has the retired byte order 'big endian': convert it"
    else:
        return
    raise InputError(f"The DICOM series {problem}, or {INSTEAD}.")


def _unpack(dataset: Dataset) -> None:
    """Unpack compressed pixels."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    try:
        stored = dataset.pixel_array.astype(f"<u{dataset.BitsAllocated // 8}", casting="unsafe").tobytes()
        dataset.decompress()  # sets the transfer syntax; pydicom 2 leaves packed pixels there
    except Exception as error:  # the plug-ins of pydicom have errors of many kinds
        raise InputError(
            f"The DICOM series is compressed ({syntax.name}), and pydicom cannot unpack it here: "
            f"`pip install pylibjpeg[all]`, or {INSTEAD}."
        ) from error
    dataset.PixelData = stored + b"\0" * (len(stored) % 2)
    dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"


def _voxels(dataset: Dataset, shape: tuple[int, ...], matrix: np.ndarray) -> tuple[np.ndarray, ...]:
    """The index in the scan of each pixel, by the Image Plane Module (PS3.3, C.7.6.2.1.1)."""
    across, down = np.reshape(np.array(dataset.ImageOrientationPatient, float), (2, 3))
    row_spacing, column_spacing = map(float, dataset.PixelSpacing)
    steps = np.stack([down * row_spacing, across * column_spacing], axis=1)
    to_index = np.linalg.inv(matrix)
    first = to_index[:3, :3] @ np.array(dataset.ImagePositionPatient, float) + to_index[:3, 3]
    steps = to_index[:3, :3] @ steps
    whole_first, whole_steps = np.rint(first).astype(int), np.rint(steps).astype(int)
    far = np.array([dataset.Rows - 1, dataset.Columns - 1])
    off = max(np.abs(first - whole_first).max(), np.abs((steps - whole_steps) @ np.diag(far)).max())
    ends = np.stack([whole_first, whole_first + whole_steps @ far])
    if off > OFF_GRID or ends.min() < 0 or (ends.max(axis=0) >= shape[::-1]).any():
        raise InputError("The DICOM files lie elsewhere than the scan: give the files that it was read from.")
    rows, columns = np.indices((dataset.Rows, dataset.Columns))
    x, y, z = whole_first[:, None, None] + whole_steps[:, :1, None] * rows + whole_steps[:, 1:, None] * columns
    return z, y, x
