"""The nodes that MedInpaint adds to the scene: what they hold, where they lie, and what a failure leaves."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer_scene
import vtk
from MedInpaintLib.errors import InputError
from MedInpaintLib.settings import Settings
from MedInpaintLib.slicer.scene import images, nodes, results
from MedInpaintLib.volumes.image import with_voxels
from MedInpaintLib.volumes.mask import hole_on_grid
from slicer_scene import (
    GRID,
    GRIDS,
    SCALING,
    SHAPE,
    SIZE,
    TURN,
    add_label_map,
    add_linear,
    add_segmentation,
    add_volume,
    add_warp,
    bent,
    blob,
    contents,
    deleted,
    grid,
    oriented,
    put_under,
    some_voxels,
    voxels,
)
from synthetic import SCALAR_TYPES, bits
from vtk.util.numpy_support import vtk_to_numpy

REPORT = {
    "versions": {"medinpaint": "0.1.0"},
    "model": {"name": 'my "models"; 5 % <ü>:\n&'},
    "settings": Settings(seed=7).to_dict(),
    "seam": None,
}


# --- the result


def filled(volume, hole=None):
    """What the engine would return, with other voxels in the hole."""
    hole = blob() if hole is None else hole
    return with_voxels(images.scan_image(volume), np.arange(hole.sum()) % 90, hole)


@pytest.mark.parametrize("dtype", SCALAR_TYPES)
def test_the_result_holds_the_fill_and_every_other_voxel_bit_for_bit(scene, dtype):
    array = some_voxels(dtype)
    kind = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    array[0, 0, :2] = kind.min, kind.max
    if np.dtype(dtype).kind == "f":
        array[0, 0, 2:4] = -0.0, np.nan
    volume = add_volume(scene, array)
    node = results.result_node(volume, filled(volume), REPORT)
    assert node.GetImageData().GetScalarType() == volume.GetImageData().GetScalarType()
    np.testing.assert_array_equal(bits(voxels(node))[~blob()], bits(array)[~blob()])
    np.testing.assert_array_equal(voxels(node)[blob()], np.arange(blob().sum()) % 90)
    np.testing.assert_array_equal(bits(voxels(volume)), bits(array))


@pytest.mark.parametrize("vtk_type", [vtk.VTK_CHAR, vtk.VTK_LONG_LONG, vtk.VTK_UNSIGNED_LONG_LONG])
def test_vtks_other_names_for_the_same_types_are_kept(scene, vtk_type):
    dtype = {vtk.VTK_CHAR: "int8", vtk.VTK_LONG_LONG: "int64", vtk.VTK_UNSIGNED_LONG_LONG: "uint64"}[vtk_type]
    volume = add_volume(scene, some_voxels())
    volume.SetAndObserveImageData(slicer_scene.image_data(some_voxels(dtype), vtk_type))
    node = results.result_node(volume, filled(volume), REPORT)
    assert node.GetImageData().GetScalarType() == vtk_type
    np.testing.assert_array_equal(voxels(node)[~blob()], some_voxels(dtype)[~blob()])


def set_up_display(volume):
    display = volume.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    display.AutoWindowLevelOn()  # would follow the new voxels
    return display.GetWindow(), display.GetLevel()


@pytest.mark.parametrize("matrix", [None, TURN, SCALING], ids=["no transform", "turned", "scaled"])
def test_the_result_lies_where_the_scan_lies_and_looks_like_it(scene, matrix):
    parent = None if matrix is None else add_linear(scene, matrix)
    volume = add_volume(scene, some_voxels(), parent=parent)
    shown = set_up_display(volume)
    image = filled(volume)
    image[0, 0, 0] = 30000  # a range of which 0.1 % would be cut off, and more
    image[:10, :10, 0] = 20000
    node = results.result_node(volume, image, REPORT)
    before, after = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(before)
    node.GetIJKToRASMatrix(after)
    assert [after.GetElement(r, c) for r in range(4) for c in range(4)] == [
        before.GetElement(r, c) for r in range(4) for c in range(4)
    ]
    assert node.GetParentTransformNode() is parent
    display = node.GetDisplayNode()
    assert display is not volume.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == shown
    assert display.GetColorNodeID() == "vtkMRMLColorTableNodeIron"
    assert volume.GetDisplayNode().GetAutoWindowLevel()


def test_the_result_carries_its_report_and_refers_to_the_scan(scene):
    volume = add_volume(scene, some_voxels())
    volume.SetAttribute("Study", "A")
    node = results.result_node(volume, filled(volume), REPORT)
    assert results.report_of(node) == REPORT
    assert results.input_of(node) is volume
    assert node.GetAttribute("MedInpaint.Version") == "0.1.0"
    assert node.GetAttribute("MedInpaint.Model") == REPORT["model"]["name"]
    assert Settings(**json.loads(node.GetAttribute("MedInpaint.Settings"))) == Settings(seed=7)
    assert node.GetAttribute("Study") == "A"
    assert list(volume.GetAttributeNames()) == ["Study"]


def test_a_result_can_be_filled_again_and_names_stay_unique(scene):
    volume = add_volume(scene, some_voxels())
    first = results.result_node(volume, filled(volume), REPORT)
    second = results.result_node(volume, filled(volume), REPORT)
    third = results.result_node(first, filled(first), REPORT)
    generated = results.generated_node(first, sitk.Cast(filled(first), sitk.sitkFloat32))
    names = [node.GetName() for node in (first, second, third, generated)]
    assert names[0] == "head inpainted (synthetic)"
    assert names[1].startswith("head inpainted (synthetic)")
    assert len(set(names)) == 4
    assert results.input_of(third) is first
    assert results.input_of(generated) is first
    assert results.report_of(generated) is None


def test_what_was_not_made_by_medinpaint_has_no_input_and_no_report(scene):
    volume = add_volume(scene, some_voxels())
    assert results.input_of(None) is None
    assert results.report_of(None) is None
    assert results.input_of(volume) is None
    assert results.report_of(volume) is None
    for text in ("", "{", "[1]", "null", "3"):
        volume.SetAttribute("MedInpaint.Report", text)
        assert results.report_of(volume) is None


def test_a_result_outlives_its_scan(scene):
    volume = add_volume(scene, some_voxels())
    node = results.result_node(volume, filled(volume), REPORT)
    scene.RemoveNode(volume)
    assert results.input_of(node) is None
    assert results.report_of(node) == REPORT


def test_the_result_has_no_file_so_that_saving_never_writes_over_the_scans(scene, tmp_path):
    volume = add_volume(scene, some_voxels())
    for name in ("scan.nrrd", "other.nrrd"):
        storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
        storage.SetFileName(str(tmp_path / name))
        volume.AddAndObserveStorageNodeID(storage.GetID())
    before = contents(scene)
    node = results.result_node(volume, filled(volume), REPORT)
    assert node.GetNumberOfStorageNodes() == 0
    assert volume.GetNumberOfStorageNodes() == 2
    assert len(contents(scene)) == len(before) + 2


def test_g_of_z_is_a_float_volume_beside_an_integer_scan_shown_alike(scene):
    volume = add_volume(scene, some_voxels(), parent=add_linear(scene, TURN))
    shown = set_up_display(volume)
    image = sitk.Cast(filled(volume), sitk.sitkFloat32) + 0.25
    node = results.generated_node(volume, image)
    assert node.GetName() == "head generated (synthetic)"
    assert voxels(node).dtype == np.float32
    np.testing.assert_array_equal(voxels(node), sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(results.world_position(node, (1, 2, 3)), (TURN @ GRID @ (1, 2, 3, 1))[:3])
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == shown


def deviations(volume):
    """What the engine would return: different from voxel to voxel in the lesion, small at its rim; 0 outside."""
    values = np.zeros(SHAPE, np.float32)
    values[blob()] = np.linspace(0.001, 24, blob().sum())
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(images.scan_image(volume))
    return image


def colours(display, volume):
    """The display's own colours of the voxels, uint8 (z, y, x, RGBA)."""
    display.SetInputImageDataConnection(volume.GetImageDataConnection())
    display.UpdateImageDataPipeline()
    display.GetOutputImageDataConnection().GetProducer().Update()
    data = display.GetOutputImageData()
    return vtk_to_numpy(data.GetPointData().GetScalars()).reshape(*SHAPE, -1)


@pytest.mark.parametrize("shown", [True, False], ids=["the scan is shown", "the scan was never shown"])
def test_the_uncertainty_is_a_float_volume_whose_lesion_alone_is_seen_in_warm_colours(scene, shown):
    volume = add_volume(scene, some_voxels(), parent=add_linear(scene, TURN))
    if not shown:
        scene.RemoveNode(volume.GetDisplayNode())
    image = deviations(volume)
    node = results.uncertainty_node(volume, image)
    assert node.GetName() == "head uncertainty"
    assert voxels(node).dtype == np.float32
    np.testing.assert_array_equal(voxels(node), sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(results.world_position(node, (1, 2, 3)), (TURN @ GRID @ (1, 2, 3, 1))[:3])
    assert results.input_of(node) is volume
    assert results.report_of(node) is None

    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((0, 24))
    assert not display.GetAutoWindowLevel()
    assert not display.GetInterpolate()
    red, green, blue, alpha = np.moveaxis(colours(display, node), -1, 0)
    np.testing.assert_array_equal(alpha > 0, blob())
    assert (red[blob()] == 255).all()
    assert (blue[blob()] == 0).all()
    assert np.ptp(green[blob()].astype(int)) > 100
    assert (np.diff(green[blob()].astype(int)) >= 0).all()  # the more uncertain, the nearer to yellow


def test_the_scan_is_shown_as_before_beside_its_uncertainty(scene):
    volume = add_volume(scene, some_voxels())
    display = volume.GetDisplayNode()
    before = display.GetColorNodeID(), display.GetApplyThreshold(), display.GetInterpolate()
    results.uncertainty_node(volume, deviations(volume))
    assert (display.GetColorNodeID(), display.GetApplyThreshold(), display.GetInterpolate()) == before


def test_a_scan_that_was_never_shown_gives_a_result_that_can_be(scene):
    volume = add_volume(scene, some_voxels())
    scene.RemoveNode(volume.GetDisplayNode())
    assert results.result_node(volume, filled(volume), REPORT).GetDisplayNode().GetInputImageData() is not None


def hierarchy_with(scene, volume):
    """The subject hierarchy with the volume in a folder."""
    hierarchy = scene.GetSubjectHierarchyNode()
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "patient")
    hierarchy.CreateItem(folder, volume)
    return hierarchy, folder


def test_what_is_made_lies_beside_the_scan_in_the_subject_hierarchy(scene):
    volume = add_volume(scene, some_voxels())
    hierarchy, folder = hierarchy_with(scene, volume)
    made = [
        results.result_node(volume, filled(volume), REPORT),
        results.generated_node(volume, filled(volume)),
        results.uncertainty_node(volume, filled(volume)),
        results.new_lesion(volume)[0],
    ]
    assert [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in made] == [folder] * 4


def test_a_scene_without_a_subject_hierarchy_gets_none(scene):
    volume = add_volume(scene, some_voxels())
    scene.RemoveNode(scene.GetSubjectHierarchyNode())
    results.result_node(volume, filled(volume), REPORT)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSubjectHierarchyNode") == 0


# --- an output that is there already


def test_an_output_gets_everything_but_a_name(scene):
    parent = add_linear(scene, TURN)
    volume = add_volume(scene, some_voxels(), parent=parent)
    shown = set_up_display(volume)
    output = add_volume(scene, np.zeros((3, 4, 5)), grid(), "mine")
    display, before = output.GetDisplayNode(), contents(scene)
    assert results.result_node(volume, filled(volume), REPORT, output) is output
    assert contents(scene) == before
    assert output.GetName() == "mine"
    np.testing.assert_array_equal(voxels(output), sitk.GetArrayFromImage(filled(volume)))
    assert voxels(output).dtype == np.int16
    np.testing.assert_allclose(results.world_position(output, (1, 2, 3)), (TURN @ GRID @ (1, 2, 3, 1))[:3])
    assert output.GetDisplayNode() is display
    assert (display.GetWindow(), display.GetLevel()) == shown
    assert display.GetColorNodeID() == "vtkMRMLColorTableNodeIron"
    assert display.GetInputImageData().GetDimensions() == SIZE
    assert results.report_of(output) == REPORT
    assert results.input_of(output) is volume


def test_a_new_empty_output_is_filled_and_shown(scene):
    volume = add_volume(scene, some_voxels())
    output = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "new")
    results.result_node(volume, filled(volume), REPORT, output)
    np.testing.assert_array_equal(voxels(output), sitk.GetArrayFromImage(filled(volume)))
    assert output.GetDisplayNode().GetInputImageData().GetDimensions() == SIZE


def with_file(scene, volume, path):
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    volume.SetAndObserveStorageNodeID(storage.GetID())


def test_an_output_keeps_its_file_unless_that_is_the_scans(scene, tmp_path):
    volume, own, shared = (add_volume(scene, some_voxels(), name=name) for name in ("head", "own", "loaded twice"))
    for node, name in ((volume, "scan.nrrd"), (own, "own.nrrd"), (shared, "scan.nrrd")):
        with_file(scene, node, tmp_path / name)
    results.result_node(volume, filled(volume), REPORT, own)
    results.result_node(volume, filled(volume), REPORT, shared)
    assert own.GetStorageNode().GetFileName().endswith("own.nrrd")
    assert own.GetModifiedSinceRead()
    assert shared.GetStorageNode() is None
    assert volume.GetStorageNode() is not None
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeArchetypeStorageNode") == 2


BAD_OUTPUTS = {
    "the scan": lambda scene, volume: volume,
    "deleted": lambda scene, volume: deleted(scene),
    "a label map": lambda scene, volume: add_label_map(scene, some_voxels()),
    "colour": lambda scene, volume: scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode"),
    "a segmentation": lambda scene, volume: add_segmentation(scene),
}


@pytest.mark.parametrize("make", BAD_OUTPUTS.values(), ids=BAD_OUTPUTS)
def test_an_output_that_cannot_take_the_result_is_refused_and_nothing_changes(scene, make):
    volume = add_volume(scene, some_voxels())
    output = make(scene, volume)
    before = contents(scene)
    with pytest.raises(InputError, match=r"^The output is .*: choose .*\.$"):
        results.result_node(volume, filled(volume), REPORT, output)
    assert contents(scene) == before
    np.testing.assert_array_equal(voxels(volume), some_voxels())


# --- failures


def test_an_image_of_another_size_or_type_is_a_defect_of_the_caller_and_leaves_no_node(scene):
    volume = add_volume(scene, some_voxels())
    before = contents(scene)
    for wrong in (sitk.Image((20, 24, 27), sitk.sitkInt16), sitk.Image((28, 24, 20), sitk.sitkInt16)):
        with pytest.raises(ValueError, match=r"The scan has \(20, 24, 28\) voxels, the result"):
            results.result_node(volume, wrong, REPORT)
        with pytest.raises(ValueError, match=r"The scan has \(20, 24, 28\) voxels, the result"):
            results.generated_node(volume, wrong)
        with pytest.raises(ValueError, match=r"The scan has \(20, 24, 28\) voxels, the result"):
            results.uncertainty_node(volume, wrong)
    with pytest.raises(ValueError, match="The scan has int16 voxels, the result float32"):
        results.result_node(volume, sitk.Image(SIZE, sitk.sitkFloat32), REPORT)
    assert contents(scene) == before


@pytest.mark.parametrize("report", [{}, {**REPORT, "seam": {1, 2}}, {**REPORT, "settings": object()}])
def test_a_report_that_cannot_be_stored_leaves_no_node_and_an_output_as_it_was(scene, report):
    volume, output = add_volume(scene, some_voxels()), add_volume(scene, some_voxels("float64") + 1)
    before = contents(scene)
    for target in (None, output):
        with pytest.raises((KeyError, TypeError)):
            results.result_node(volume, filled(volume), report, target)
    assert contents(scene) == before
    np.testing.assert_array_equal(voxels(output), some_voxels("float64") + 1)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("step", ["keep_window", "show_as_overlay", "place_beside"])
def test_a_failure_half_way_leaves_no_node_and_no_item(scene, monkeypatch, step, error):
    volume = add_volume(scene, some_voxels())
    hierarchy, _ = hierarchy_with(scene, volume)
    image, real = filled(volume), getattr(nodes, step)

    def fail(*arguments):
        real(*arguments)
        raise error

    monkeypatch.setattr(nodes, step, fail)
    before, items = contents(scene), hierarchy.GetNumberOfItems()
    calls = [lambda: results.uncertainty_node(volume, image)]
    if step != "show_as_overlay":
        calls += [lambda: results.result_node(volume, image, REPORT), lambda: results.generated_node(volume, image)]
    if step == "place_beside":
        calls.append(lambda: results.new_lesion(volume))
    for call in calls:
        with pytest.raises(error):
            call()
        assert contents(scene) == before
        assert hierarchy.GetNumberOfItems() == items


def test_a_failure_half_way_leaves_the_output_as_it_was(scene, monkeypatch):
    volume, output = add_volume(scene, some_voxels()), add_volume(scene, some_voxels("float64") + 1, grid(), "mine")
    image, before = filled(volume), contents(scene)

    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(nodes, "keep_window", fail)
    with pytest.raises(MemoryError):
        results.result_node(volume, image, REPORT, output)
    assert contents(scene) == before
    np.testing.assert_array_equal(voxels(output), some_voxels("float64") + 1)
    assert results.world_position(output, (1, 2, 3)) == (1, 2, 3)
    assert results.report_of(output) is None


# --- a saved scene


def test_report_reference_and_voxels_survive_a_scene_file(scene, tmp_path):
    matrix = GRIDS["oblique"]  # a left-handed grid would be stored with its slices in the other order
    parent = add_linear(scene, TURN)
    volume = add_volume(scene, some_voxels(), matrix, parent=parent)
    result = results.result_node(volume, filled(volume), REPORT)
    segmentation, segment = results.new_lesion(volume)
    assert scene.WriteToMRB(str(tmp_path / "case.mrb"))

    opened = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(opened)
    files, cache = slicer.vtkDataIOManager(), slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(str(tmp_path))
    files.SetCacheManager(cache)
    opened.SetDataIOManager(files)
    assert opened.ReadFromMRB(str(tmp_path / "case.mrb"))

    again = opened.GetFirstNodeByName("head inpainted (synthetic)")
    assert results.report_of(again) == REPORT
    assert again.GetAttribute("MedInpaint.Model") == REPORT["model"]["name"]
    assert results.input_of(again) is opened.GetFirstNodeByName("head")
    np.testing.assert_array_equal(voxels(again), voxels(result))
    np.testing.assert_array_equal(voxels(results.input_of(again)), some_voxels())
    np.testing.assert_allclose(results.world_position(again, (3, 5, 7)), (TURN @ matrix @ (3, 5, 7, 1))[:3], atol=1e-4)
    drawn = opened.GetFirstNodeByName(segmentation.GetName())
    assert drawn.GetSegmentation().GetSegment(segment).GetName() == "lesion"


# --- a lesion to paint


@pytest.mark.parametrize("matrix", [None, TURN, SCALING], ids=["no transform", "turned", "scaled"])
def test_a_new_lesion_is_painted_on_the_scans_own_grid(scene, matrix):
    parent = None if matrix is None else add_linear(scene, matrix)
    volume = add_volume(scene, some_voxels(), parent=parent)
    segmentation, segment_id = results.new_lesion(volume)
    assert segmentation.GetName() == "head lesion"
    assert segmentation.GetParentTransformNode() is parent
    assert segmentation.GetNodeReference("referenceImageGeometryRef") is volume
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    assert segment.GetName() == "lesion"
    red, green, blue = segment.GetColor()
    assert red > 0.7 > 0.4 > max(green, blue)
    assert segmentation.GetDisplayNode().GetSegmentVisibility(segment_id)

    text = segmentation.GetSegmentation().GetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    )
    geometry = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry, True)
    assert geometry.GetDimensions() == SIZE
    corner = geometry.GetExtent()[::2]
    to_local = vtk.vtkMatrix4x4()
    geometry.GetImageToWorldMatrix(to_local)
    np.testing.assert_allclose(to_local.MultiplyPoint((*corner, 1)), GRID @ (0, 0, 0, 1), atol=1e-5)

    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(oriented(blob()), segmentation, segment_id)
    mask = images.lesion_image(volume, segmentation, segment_id)
    np.testing.assert_array_equal(hole_on_grid(mask, images.scan_image(volume)), blob())


def test_a_second_new_lesion_has_a_name_of_its_own(scene):
    volume = add_volume(scene, some_voxels())
    (first, _), (second, _) = results.new_lesion(volume), results.new_lesion(volume)
    assert first is not second
    assert first.GetName() != second.GetName()


# --- positions


def test_a_voxels_place_in_the_world_is_that_of_all_its_transforms(scene):
    volume, index = add_volume(scene, some_voxels()), (3, 5.5, 7)
    local = GRID @ (*index, 1)
    outer = add_linear(scene, SCALING)
    inner = add_linear(scene, TURN, outer)
    warp = add_warp(scene)
    for parent, world in (
        (None, local),
        (inner, SCALING @ TURN @ local),
        (warp, bent(local[:, None])[:, 0]),
    ):
        put_under(volume, parent)
        np.testing.assert_allclose(results.world_position(volume, index), world[:3], atol=1e-5)
    put_under(warp, outer)
    np.testing.assert_allclose(
        results.world_position(volume, index), (SCALING @ bent(local[:, None])[:, 0])[:3], atol=1e-5
    )
