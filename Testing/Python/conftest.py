"""Fixtures that several test files share: the shipped sample at 2 mm, on which a run takes seconds."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.volumes.read import read_image
from MedInpaintLib.volumes.write import write_image


@pytest.fixture(scope="session")
def samples() -> Path:
    return resources_folder() / "SampleData"


@pytest.fixture(scope="session")
def small(samples, tmp_path_factory) -> Path:
    """A folder with scan.nii.gz and mask.nii.gz: the patient's brain at 2 mm with its largest lesion."""
    folder = tmp_path_factory.mktemp("small")
    scan = sitk.BinShrink(sitk.Cast(read_image(samples / "MSPatient26_T1.nii.gz"), sitk.sitkFloat32), [2, 2, 2])
    lesions = sitk.BinShrink(read_image(samples / "MSPatient26_lesions.nii.gz") * 100, [2, 2, 2]) > 50
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(lesions), sortByObjectSize=True) == 1
    write_image(sitk.Cast(scan, sitk.sitkInt16), folder / "scan.nii.gz")
    write_image(largest, folder / "mask.nii.gz")
    return folder


@pytest.fixture(scope="session")
def small_scan(small) -> np.ndarray:
    return sitk.GetArrayFromImage(read_image(small / "scan.nii.gz"))


@pytest.fixture(scope="session")
def small_hole(small) -> np.ndarray:
    return sitk.GetArrayFromImage(read_image(small / "mask.nii.gz")) > 0
