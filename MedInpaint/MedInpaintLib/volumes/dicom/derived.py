"""A filled scan as a derived DICOM series, which nobody can take for an acquisition.

The headers are those of the source, the patient's data included; study and frame of reference stay. What changes says
that the series is new, derived, synthetic and for research. Sections are those of the DICOM standard, PS3.3.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ... import __version__
from ..write import check_new_folder, replacing_folder
from .source import SourceSlice, limits, pixels, read_slices

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SYNTHETIC_DATA = 0x0008001C  # C.12.1; older versions of pydicom do not know its name
SMALLEST, LARGEST = 0x00280106, 0x00280107  # of an image
SMALLEST_IN_SERIES, LARGEST_IN_SERIES = 0x00280108, 0x00280109
# The old picture in small, signatures of the old content, and states of the old instance.
STALE = ("IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence", "SOPInstanceStatus",
         "SOPAuthorizationDateTime", "SOPAuthorizationComment", "AuthorizationEquipmentCertificationNumber",
         "InstanceCreatorUID")  # fmt: skip
LONGEST_NAME, LONGEST_TEXT = 64, 1024  # characters of the value representations LO and ST
SERIES_STEP = 1000  # added to the series number


def export_series(
    files: Sequence[str | Path], scan: sitk.Image, filled: sitk.Image, folder: str | Path, about: str = ""
) -> None:
    """Write a filled scan as a derived DICOM series into a new folder. On any failure there is no folder.

    Args:
        files: the DICOM files that the scan was read from, one slice each.
        scan: the volume that was read from them, before filling.
        filled: the result, on the same grid: `inpaint(scan, mask).image`.
        folder: does not exist, or is empty.
        about: words for the description of the derivation, such as the name of the model.

    Raises:
        InputError: pydicom is missing, the files are of another kind than the export can copy or do not hold this scan,
            or the folder cannot be written.
    """
    target = check_new_folder(folder)
    slices = read_slices([Path(file) for file in files], scan)
    with replacing_folder(target) as temporary:
        write_series(slices, scan, filled, temporary, about)


def write_series(slices: Sequence[SourceSlice], scan: sitk.Image, filled: sitk.Image, folder: Path, about: str) -> None:
    """Write the files of the derived series, 0001.dcm and so on, into an empty folder. Pixels outside the hole stay.

    A value that cannot be stored becomes the nearest one that can. Raises OSError, or ValueError if the grids differ.
    """
    from pydicom.uid import generate_uid

    before, after = sitk.GetArrayViewFromImage(scan), sitk.GetArrayViewFromImage(filled)
    if before.shape != after.shape:
        raise ValueError("The filled scan has another size than the scan.")
    series, now = generate_uid(prefix=None), _now(slices[0].dataset)
    derived = []
    for source in slices:
        dataset = copy.deepcopy(source.dataset)
        _fill(dataset, source, before[source.voxels], after[source.voxels])
        _set_identity(dataset, source, series, now, about)
        derived.append(dataset)
    _correct_extremes(derived)
    for number, dataset in enumerate(derived, 1):
        dataset.save_as(folder / f"{number:04}.dcm")


def _fill(dataset: Dataset, source: SourceSlice, before: np.ndarray, after: np.ndarray) -> None:
    """Replace the pixels of changed voxels, and only those; the bits of all others stay."""
    hole = before != after
    if not hole.any():
        return
    stored = np.rint((after[hole].astype(np.float64) - source.intercept) / source.slope)
    stored = np.clip(stored, *limits(dataset)).astype(np.int64)
    kind = np.dtype(f"<u{dataset.BitsAllocated // 8}")
    content = bytearray(dataset.PixelData)  # its end may be padded
    raw = np.frombuffer(content, kind, hole.size).reshape(hole.shape)
    raw[hole] = (stored & ((1 << dataset.BitsAllocated) - 1)).astype(kind)  # a negative value keeps its sign bits
    dataset.PixelData = bytes(content)


def _set_identity(dataset: Dataset, source: SourceSlice, series: str, now: datetime, about: str) -> None:
    """Make the header that of a new, derived, synthetic instance."""
    from pydicom.uid import generate_uid

    made_by = f"MedInpaint {__version__}" + (f" ({about})" if about else "")
    for name in STALE:
        if name in dataset:
            delattr(dataset, name)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.preamble = bytes(128)
    dataset.SeriesInstanceUID = series
    dataset.SeriesNumber = int(dataset.get("SeriesNumber") or 0) + SERIES_STEP
    dataset.SeriesDescription = f"SYNTHETIC MedInpaint {dataset.get('SeriesDescription', '')}".strip()[:LONGEST_NAME]
    for name in ("InstanceCreation", "Series", "Content"):
        setattr(dataset, f"{name}Date", now.strftime("%Y%m%d"))
        setattr(dataset, f"{name}Time", now.strftime("%H%M%S"))
    dataset.ImageType = ["DERIVED", "SECONDARY", *list(dataset.get("ImageType") or [])[2:]]  # C.7.6.1.1.2
    dataset.add_new(SYNTHETIC_DATA, "CS", "YES")
    dataset.ContentQualification = "RESEARCH"  # C.12.1
    earlier = dataset.get("DerivationDescription") or ""
    text = f"Lesion filled with synthetic tissue by {made_by}. Not an acquisition. For research only."
    dataset.DerivationDescription = f"{text} {earlier}".strip()[:LONGEST_TEXT]
    dataset.SourceImageSequence = [_source_image(dataset, source)]
    dataset.ContributingEquipmentSequence = [*(dataset.get("ContributingEquipmentSequence") or []), _equipment(now)]


def _source_image(dataset: Dataset, source: SourceSlice) -> Dataset:
    """The instance that was filled (C.7.6.1.1.4); its pixels lie at the same place."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = dataset.SOPClassUID
    item.ReferencedSOPInstanceUID = source.uid
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = [_code("121322", "Source image for image processing operation")]
    return item


def _equipment(now: datetime) -> Dataset:
    """This program, as equipment that modified the image (C.12.1.1.5)."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code("109103", "Modifying Equipment")]
    item.Manufacturer = "MedInpaint developers"
    item.ManufacturerModelName = "MedInpaint"
    item.SoftwareVersions = __version__
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    item.ContributionDescription = "Filled a lesion with synthetic tissue; for research only"
    return item


def _code(value: str, meaning: str) -> Dataset:
    """A code of the standard's own vocabulary (PS3.16, annex D)."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _correct_extremes(derived: Sequence[Dataset]) -> None:
    """Correct the smallest and the largest pixel value of each image and of the series, where they are stated."""
    extremes = [(int(stored.min()), int(stored.max())) for stored in map(pixels, derived)]
    whole = min(low for low, _ in extremes), max(high for _, high in extremes)
    for dataset, own in zip(derived, extremes, strict=True):
        kind = "SS" if dataset.PixelRepresentation else "US"
        for tag, value in zip((SMALLEST, LARGEST, SMALLEST_IN_SERIES, LARGEST_IN_SERIES), (*own, *whole), strict=True):
            if tag in dataset:
                dataset.add_new(tag, kind, value)


def _now(dataset: Dataset) -> datetime:
    """The time of now, in the time zone that the series states (C.12.1)."""
    with suppress(ValueError):
        return datetime.now(datetime.strptime(str(dataset.get("TimezoneOffsetFromUTC")), "%z").tzinfo)
    return datetime.now()
