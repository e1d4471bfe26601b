"""Fixtures for several test files: the shipped sample at 2 mm, on which a run takes seconds."""

import threads  # noqa: F401  first

# isort: split
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.models.folder import Model
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
def scan(small) -> sitk.Image:
    """The scan of the small sample; tests that need another one have a fixture of their own under this name."""
    return read_image(small / "scan.nii.gz")


@pytest.fixture(scope="session")
def mask(small) -> sitk.Image:
    return read_image(small / "mask.nii.gz")


@pytest.fixture
def folder(small, tmp_path) -> Path:
    """A new folder with a copy of the small sample."""
    for path in small.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def small_scan(small) -> np.ndarray:
    return sitk.GetArrayFromImage(read_image(small / "scan.nii.gz"))


@pytest.fixture(scope="session")
def small_hole(small) -> np.ndarray:
    return sitk.GetArrayFromImage(read_image(small / "mask.nii.gz")) > 0


@pytest.fixture(scope="module")
def fast_engine():
    """An engine that loads each model once, kriges with 500 known pixels, and searches two slices beside the hole."""
    with pytest.MonkeyPatch.context() as patch:
        for name, method in _LOADERS.items():
            patch.setattr(Model, name, method)
        patch.setattr("MedInpaintLib.blending.residual.MAXIMUM_KNOWN", 500)
        patch.setattr("MedInpaintLib.space.slices.NEIGHBOURS", 1)
        yield


def _remember(method):
    results = {}

    def remembered(model, *arguments):
        key = model.folder, *map(str, arguments)
        if key not in results:
            results[key] = method(model, *arguments)
        return results[key]

    return remembered


_LOADERS = {name: _remember(getattr(Model, name)) for name in ("network", "template")}
