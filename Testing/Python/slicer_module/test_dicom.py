"""A result in Slicer as a derived DICOM series; the scan is read by Slicer's own reader."""

import types

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import slicer
import vtk
from dicom_series import write_dicom
from MedInpaintLib import InputError
from MedInpaintLib.slicer.logic import MedInpaintLogic
from MedInpaintLib.slicer.scene import results
from MedInpaintLib.volumes.image import same_grid
from MedInpaintLib.volumes.read import read_image
from slicer_scene import voxels
from synthetic import GEOMETRIES, random_array, volume

SHAPE = (6, 7, 8)
REPORT = {"versions": {"medinpaint": "0"}, "model": {"name": "vae3"}, "settings": {}}


@pytest.fixture
def loaded(module, scene, tmp_path, monkeypatch):
    """Loads a series as the DICOM module does: the files of a series, and their UIDs in an attribute of the node."""

    def load(direction, **options):
        files = write_dicom(volume(random_array("int16", SHAPE), direction), tmp_path / "series", **options)
        logic = slicer.vtkSlicerVolumesLogic()
        logic.SetMRMLScene(scene)
        names = vtk.vtkStringArray()
        for file in files:
            names.InsertNextValue(str(file))
        node = logic.AddArchetypeVolume(str(files[0]), "series", 0, names)
        by_uid = {pydicom.dcmread(file).SOPInstanceUID: str(file) for file in files}
        node.SetAttribute("DICOM.instanceUIDs", " ".join(by_uid))
        database = types.SimpleNamespace(fileForInstance=lambda uid: by_uid.get(uid, ""))
        monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
        return node

    return load


def fill(node, value):
    """A result with another value in a corner of the volume, and the image that the files should show."""
    image = sitk.GetImageFromArray(voxels(node))
    array = sitk.GetArrayFromImage(image)
    array[1:3, 2:4, 3:7] = value
    return results.result_node(node, sitk.GetImageFromArray(array), REPORT)


@pytest.mark.parametrize("slope", [None, "0.5"])
@pytest.mark.parametrize("direction", GEOMETRIES.values(), ids=GEOMETRIES)
def test_a_result_of_a_dicom_scan_is_exported_on_the_grid_of_its_files(loaded, tmp_path, direction, slope):
    options = {"RescaleSlope": slope, "RescaleIntercept": "-3"} if slope else {}
    node = loaded(direction, **options)
    result = fill(node, 700)
    MedInpaintLogic().exportDicom(result, str(tmp_path / "out"))
    before, after = read_image(tmp_path / "series"), read_image(tmp_path / "out")
    assert same_grid(after, before)
    old, new = sitk.GetArrayFromImage(before), sitk.GetArrayFromImage(after)
    assert np.count_nonzero(new != old) == 2 * 2 * 4
    assert set(new[new != old].tolist()) == {700}
    # Each changed voxel lies where it lies in the result.
    matrix = vtk.vtkMatrix4x4()
    result.GetIJKToRASMatrix(matrix)
    for z, y, x in np.argwhere(voxels(result) == 700):
        ras = matrix.MultiplyPoint((x, y, z, 1))[:3]
        index = after.TransformPhysicalPointToIndex((-ras[0], -ras[1], ras[2]))
        assert after[index] == 700
    assert {pydicom.dcmread(file)[0x0008001C].value for file in (tmp_path / "out").iterdir()} == {"YES"}
    assert "model vae3" in pydicom.dcmread(next((tmp_path / "out").iterdir())).DerivationDescription


def test_what_is_no_result_of_a_dicom_scan_is_refused(loaded, tmp_path):
    node = loaded(np.eye(3))
    result = fill(node, 700)
    with pytest.raises(InputError, match=r"is no result of MedInpaint, or its scan is gone: choose a result\.$"):
        MedInpaintLogic().exportDicom(node, str(tmp_path / "out"))
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    with pytest.raises(InputError, match="are gone: import them again"):
        MedInpaintLogic().exportDicom(result, str(tmp_path / "out"))
    node.RemoveAttribute("DICOM.instanceUIDs")
    with pytest.raises(InputError, match="was not loaded from DICOM: save the result as"):
        MedInpaintLogic().exportDicom(result, str(tmp_path / "out"))
    slicer.mrmlScene.RemoveNode(node)
    with pytest.raises(InputError, match="its scan is gone"):
        MedInpaintLogic().exportDicom(result, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_result_under_a_transform_is_exported_where_its_files_are(loaded, scene, tmp_path):
    node = loaded(GEOMETRIES["oblique"])
    moved = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 50)
    moved.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(moved.GetID())
    MedInpaintLogic().exportDicom(fill(node, 700), str(tmp_path / "out"))
    assert same_grid(read_image(tmp_path / "out"), read_image(tmp_path / "series"))
