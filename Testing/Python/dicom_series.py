"""DICOM series for the tests: a volume as single-frame MR images, with all that the standard wants of them."""

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

ABOUT = {
    "PatientName": "DOE^JANE", "PatientID": "MRN-7741903", "PatientBirthDate": "", "PatientSex": "F",
    "StudyDate": "20200102", "StudyTime": "101112", "StudyID": "7", "AccessionNumber": "",
    "ReferringPhysicianName": "", "Modality": "MR", "SeriesNumber": 3, "SeriesDescription": "MPRAGE sagittal",
    "SeriesDate": "20200102", "SeriesTime": "101500", "ContentDate": "20200102", "ContentTime": "101500",
    "Manufacturer": "Scanner maker", "ManufacturerModelName": "3 T", "PositionReferenceIndicator": "",
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"], "ScanningSequence": "GR", "SequenceVariant": "SP",
    "ScanOptions": "", "MRAcquisitionType": "3D", "RepetitionTime": "2000", "EchoTime": "2.5", "EchoTrainLength": "1",
    "AcquisitionDate": "20200102", "AcquisitionTime": "101300", "LossyImageCompression": "00",
    "SpecificCharacterSet": "ISO_IR 100", "PatientPosition": "HFS", "Laterality": "",
}  # fmt: skip


def write_dicom(scan, folder, kind="uint16", bits=12, **more):
    """Write a volume as a DICOM series; the file names are in reverse order. Returns the files in order of position.

    Args:
        scan: the stored values, which must fit the type.
        kind: of the pixels.
        bits: stored of each pixel.
        more: further elements by name, or other values of those in ABOUT.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    voxels = sitk.GetArrayFromImage(scan)
    direction = np.reshape(scan.GetDirection(), (3, 3))
    kind = np.dtype(kind)
    files = []
    for index, plane in enumerate(voxels):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = MRImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        for name, value in {**ABOUT, **more}.items():
            setattr(data, name, value)
        data.InstanceNumber = index + 1
        data.ImagePositionPatient = [f"{x:.10g}" for x in scan.TransformIndexToPhysicalPoint((0, 0, index))]
        data.ImageOrientationPatient = [f"{x:.10g}" for x in direction.T[:2].ravel()]
        data.PixelSpacing = [f"{x:.10g}" for x in scan.GetSpacing()[1::-1]]
        data.SliceThickness = f"{scan.GetSpacing()[2]:.10g}"
        data.Rows, data.Columns = plane.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 8 * kind.itemsize, bits, bits - 1
        data.PixelRepresentation = int(kind.kind == "i")
        stored = plane.astype(kind)
        assert (stored == plane).all()
        content = stored.tobytes()
        data.PixelData = content + b"\0" * (len(content) % 2)
        data["PixelData"].VR = "OW" if kind.itemsize == 2 else "OB"
        files.append(folder / f"{len(voxels) - index:04}.dcm")
        data.save_as(files[-1], **FORMAT, **ENCODING)
    return files


NEW = int(pydicom.__version__.split(".")[0]) >= 3
FORMAT = {"enforce_file_format": True} if NEW else {"write_like_original": False}
ENCODING = {"implicit_vr": False, "little_endian": True} if NEW else {}
