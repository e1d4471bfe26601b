"""The slice views after a run, with Slicer's real slice and slice composite nodes."""

import numpy as np
import pytest
import slicer_scene
from MedInpaintLib.slicer.scene import results, views
from slicer_scene import GRID, SIZE, TURN, add_linear, add_volume


@pytest.fixture
def composites(scene):
    return [slice_view(scene, name)[1] for name in ("Red", "Yellow", "Green")]


def slice_view(scene, name, group=0):
    view = scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
    view.SetLayoutName(name)
    view.SetViewGroup(group)
    view.SetFieldOfView(100, 80, 1)
    view.SetOrientation({"Red": "Axial", "Yellow": "Sagittal"}.get(name, "Coronal"))
    composite = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode", name)
    composite.SetLayoutName(name)
    return view, composite


def head(scene, **options):
    return add_volume(scene, np.ones(SIZE[::-1], np.int16), **options)


def test_comparing_shows_the_result_over_the_original_in_every_view(scene, composites):
    original, result = head(scene), head(scene, name="result")
    composites[1].SetForegroundOpacity(0.3)
    composites[2].SetCompositing(composites[2].Subtract)
    views.compare(original, result)
    for view in composites:
        assert view.GetBackgroundVolumeID() == original.GetID()
        assert view.GetForegroundVolumeID() == result.GetID()
        assert view.GetForegroundOpacity() == 1
        assert view.GetCompositing() == view.Alpha
        assert not view.GetLinkedControl()


def test_comparing_leaves_the_outline_of_the_lesion(scene, composites):
    labels = slicer_scene.add_label_map(scene, np.ones(SIZE[::-1], np.uint8))
    composites[0].SetLabelVolumeID(labels.GetID())
    views.compare(head(scene), head(scene))
    assert composites[0].GetLabelVolumeID() == labels.GetID()


def test_a_result_whose_scan_is_gone_is_shown_alone(scene, composites):
    result = head(scene)
    views.compare(head(scene), result)
    views.compare(None, result)
    assert composites[0].GetBackgroundVolumeID() is None
    assert composites[0].GetForegroundVolumeID() == result.GetID()


@pytest.mark.parametrize(("asked", "got"), [(0, 0), (0.25, 0.25), (1, 1), (-1, 0), (3, 1)])
def test_fading_sets_every_view_within_0_and_1(composites, asked, got):
    views.fade(asked)
    assert [view.GetForegroundOpacity() for view in composites] == [got] * 3


@pytest.mark.parametrize("matrix", [None, TURN], ids=["no transform", "turned"])
def test_every_slice_is_centred_on_the_voxel(scene, matrix):
    planes = [slice_view(scene, name, group)[0] for name, group in (("Red", 0), ("Yellow", 0), ("Green", 1))]
    volume = head(scene, parent=None if matrix is None else add_linear(scene, matrix))
    views.centre_on(volume, (3, 14, 20))
    place = ((np.eye(4) if matrix is None else matrix) @ GRID @ (3, 14, 20, 1))[:3]
    for plane in planes:
        to_ras = plane.GetSliceToRAS()
        np.testing.assert_allclose([to_ras.GetElement(row, 3) for row in range(3)], place, atol=1e-6)


def test_nothing_happens_where_there_are_no_views(scene):
    volume = head(scene)
    views.compare(volume, volume)
    views.fade(0.5)
    views.centre_on(volume, (0, 0, 0))
    assert results.world_position(volume, (0, 0, 0)) == pytest.approx(tuple(GRID[:3, 3]))
