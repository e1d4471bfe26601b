"""From a result in the scene to a derived DICOM series, for a scan that was loaded from DICOM. No Qt."""

from __future__ import annotations

from pathlib import Path

import slicer

from ...errors import InputError
from . import nodes, results
from .images import check_scan_node, local_image

INSTANCES = "DICOM.instanceUIDs"  # attribute of a volume that Slicer's DICOM module has loaded, separated by spaces


def export_series(result: slicer.vtkMRMLScalarVolumeNode, folder: str | Path) -> None:
    """Write a result as a derived DICOM series into a new folder; see `volumes.dicom.derived.export_series`.

    Raises:
        InputError: the node is no result, or its scan is gone or was not loaded from DICOM; the files are gone or hold
            other values; or the folder cannot be written.
    """
    from ...volumes.dicom.derived import export_series

    check_scan_node(result)
    scan = results.input_of(result)
    if scan is None or not results.is_synthetic(result):
        raise InputError(f"'{result.GetName()}' is no result of MedInpaint, or its scan is gone: choose a result.")
    check_scan_node(scan)
    if nodes.array(scan.GetImageData()).shape != nodes.array(result.GetImageData()).shape:
        raise InputError(f"The scan '{scan.GetName()}' was changed after it was filled: load and fill it again.")
    model = result.GetAttribute(results.PREFIX + "Model")
    about = f"model {model}" if model else ""
    export_series(_files(scan), local_image(scan), local_image(result), folder, about)


def _files(scan: slicer.vtkMRMLScalarVolumeNode) -> list[str]:
    """The files of a scan in Slicer's DICOM database."""
    instances = (scan.GetAttribute(INSTANCES) or "").split()
    if not instances:
        raise InputError(f"'{scan.GetName()}' was not loaded from DICOM: save the result as a NIfTI or NRRD file.")
    database = slicer.dicomDatabase
    files = [database.fileForInstance(instance) for instance in instances]
    if not all(file and Path(file).is_file() for file in files):
        raise InputError(f"The DICOM files of '{scan.GetName()}' are gone: import them again in the DICOM module.")
    return files
