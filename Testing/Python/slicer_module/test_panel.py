"""The panel on real nodes, with real Qt, a real child process once, and scripts in its place elsewhere."""

import sys
import time
import types
from typing import get_args

import desktop
import numpy as np
import pytest
import slicer
from desktop import COPY, click, wait
from MedInpaintLib import InputError
from MedInpaintLib.models.registry import shipped_models
from MedInpaintLib.settings import MAXIMUM_GROWTH
from MedInpaintLib.slicer.logic import MedInpaintLogic
from MedInpaintLib.slicer.parameters import MedInpaintParameterNode
from MedInpaintLib.slicer.scene import results
from qt_stand_in import application
from scipy import ndimage
from slicer_scene import QUICK, add_label_map, contents, scans, voxels

AT_WORK = """
print(json.dumps({"event": "progress", "fraction": 0.5, "stage": "aligning", "message": "brain"}), flush=True)
time.sleep(60)
"""


def row_by_heading(table):
    """The texts of a table's only row."""
    assert table.rowCount() == 1
    return {table.horizontalHeaderItem(n).text(): table.item(0, n).text() for n in range(table.columnCount())}


# --- choices


def test_the_shipped_models_are_offered_and_described(panel):
    box = panel.ui.modelComboBox
    assert [box.itemData(n) for n in range(box.count)] == [model.name for model in shipped_models()]
    assert box.currentText == "vae3"
    box.setCurrentIndex(1)
    assert panel.parameters.model == "gan7"
    assert panel.ui.modelDescriptionLabel.text.startswith("GAN with kernels of 7 pixels, trained on 48 scans")


def test_a_models_own_folder_goes_before_the_shipped_ones(panel):
    panel.ui.modelFolderPathLineEdit.setCurrentPath("/nowhere")
    assert panel.logic.settings(panel.parameters).model == "/nowhere"
    assert not panel.ui.modelComboBox.enabled
    assert "There is no model '/nowhere'" in panel.ui.modelDescriptionLabel.text


def test_the_button_says_what_is_missing(panel):
    button = panel.ui.inpaintButton
    assert button.enabled
    panel.parameters.lesion = None
    assert (button.enabled, button.toolTip) == (
        False, "Paint the lesion, or choose the segmentation or label map that marks it."
    )  # fmt: skip
    panel.parameters.inputVolume = None
    assert (button.enabled, button.toolTip) == (False, "Load a T1-weighted brain MRI and choose it as the scan.")
    assert not panel.ui.paintButton.enabled


def test_how_far_a_lesion_grows_is_asked_below_the_lesion_whatever_marks_it(panel, scene):
    box = panel.ui.growSpinBox
    assert (box.value, box.minimum, box.maximum, box.singleStep) == (0, 0, MAXIMUM_GROWTH, 0.5)
    assert (box.text, box.decimals) == ("0.0 mm", 1)
    assert "1 mm is a good start for MS lesions" in box.toolTip
    assert panel.ui.growLabel.text == "Grow lesion by:"
    kind = MedInpaintParameterNode.dataTypes[box.property("SlicerParameterName")]
    assert get_args(kind) == (float, (0, MAXIMUM_GROWTH))  # a field of the parameter node is saved with the scene

    form = panel.ui.inputsCollapsibleButton.inner.layout()
    row = form.getWidgetPosition(box.inner)[0]
    assert form.labelForField(box.inner) is panel.ui.growLabel.inner
    assert form.getWidgetPosition(panel.ui.labelSpinBox.inner)[0] == row - 1
    assert form.getWidgetPosition(panel.ui.segmentEditor.inner)[0] == row + 1
    for mark in (panel.parameters.lesion, scene.AddNewNodeByClass("vtkMRMLSegmentationNode"), None):
        panel.parameters.lesion = mark
        assert box.inner.isVisibleTo(panel.container)


def test_the_first_scan_is_chosen_and_no_label_map(module, scene, case):
    add_label_map(scene, np.zeros((4, 4, 4), np.uint8), name="first label map")
    widget = module.MedInpaintWidget()
    widget.setup()
    assert widget.logic.getParameterNode().inputVolume is case.volume


def test_paint_new_makes_a_segmentation_for_the_scan_and_takes_up_the_brush(panel, case):
    click(panel.ui.paintButton)
    segmentation = panel.parameters.lesion
    assert segmentation.GetName() == "patient lesion"
    assert panel.ui.segmentEditor.segmentationNode() is segmentation
    assert panel.ui.segmentEditor.sourceVolumeNode() is case.volume
    assert ("setActiveEffectByName", "Paint") in panel.ui.segmentEditor.inner.asked
    box = panel.ui.segmentComboBox
    assert [box.itemText(n) for n in range(box.count)] == ["all segments", "lesion"]
    assert box.itemData(box.currentIndex) == panel.parameters.segmentId
    assert panel.ui.segmentEditor.inner.isVisibleTo(panel.container)
    assert not panel.ui.labelSpinBox.inner.isVisibleTo(panel.container)


def test_segments_that_come_and_go_are_listed(panel):
    click(panel.ui.paintButton)
    segmentation = panel.parameters.lesion.GetSegmentation()
    other = segmentation.AddEmptySegment("", "other")
    box = panel.ui.segmentComboBox
    assert box.count == 3
    box.setCurrentIndex(2)
    assert panel.parameters.segmentId == other
    segmentation.RemoveSegment(other)
    assert (box.count, box.currentIndex, panel.parameters.segmentId) == (2, 0, "")


def test_the_editor_is_hidden_for_a_label_map_and_has_its_own_parameters(panel, scene):
    assert not panel.ui.segmentEditor.inner.isVisibleTo(panel.container)
    assert panel.ui.labelSpinBox.inner.isVisibleTo(panel.container)
    editor = panel.ui.segmentEditor.mrmlSegmentEditorNode()
    assert editor is scene.GetSingletonNode("MedInpaint", "vtkMRMLSegmentEditorNode")


# --- runs


def test_a_run_from_the_panel_fills_the_lesion_and_its_rim_adds_the_volumes_and_compares_them(panel, module, case):
    before = voxels(case.volume).copy()
    panel.parameters.keepGenerated = panel.parameters.keepUncertainty = True
    panel.parameters.grow = 2.0
    click(panel.ui.inpaintButton)
    assert panel.logic.running
    assert (panel.ui.inpaintButton.enabled, panel.ui.cancelButton.enabled) == (False, True)
    assert "under way" in panel.ui.inpaintButton.toolTip
    with pytest.raises(InputError, match="under way"):
        panel.logic.start(case.volume, case.labels, None, None, QUICK, False, False, print, print, print)
    shown = set()
    wait(lambda: shown.add(panel.ui.statusLabel.text.split(":")[0]) or not panel.logic.running)
    assert {"aligning", "optimising"} <= shown
    assert module.errors == []
    assert scans() == ["patient", "patient generated", "patient uncertainty", "patient inpainted"]

    result = panel.parameters.result
    distance = ndimage.distance_transform_edt(~case.hole, sampling=2)
    filled = case.hole | ((distance == 2) & (before != 0))  # the rim does not reach out of the brain
    np.testing.assert_array_equal(voxels(case.volume), before)
    np.testing.assert_array_equal(voxels(result)[~filled], before[~filled])
    for part in (case.hole, filled & ~case.hole):
        assert (voxels(result)[part] != before[part]).mean() > 0.9
    deviation = voxels(slicer.util.getNode("patient uncertainty"))
    assert not deviation[~filled].any()
    assert (deviation[filled] > 0).mean() > 0.9

    report = results.report_of(result)
    assert report["settings"]["grow"] == 2
    assert "1 lesion(s) filled" in panel.ui.statusLabel.text
    cells = row_by_heading(panel.ui.lesionTable.inner)
    assert f"{filled.sum() * 0.008:.2f}" in cells.values()
    assert float(cells["± SD"]) == pytest.approx(deviation[filled].mean(), rel=0.01)
    assert float(cells["Mean filled"]) == pytest.approx(voxels(result)[filled].mean(), rel=0.01)
    layers = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {view.GetBackgroundVolumeID() for view in layers} == {case.volume.GetID()}
    assert {view.GetForegroundVolumeID() for view in layers} == {result.GetID()}
    assert not panel.ui.compareCollapsibleButton.collapsed
    click(panel.ui.flipButton)
    assert {view.GetForegroundOpacity() for view in layers} == {0}
    panel.ui.fadeSliderWidget.setValue(30)
    assert {view.GetForegroundOpacity() for view in layers} == {0.3}
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    for view in views:
        view.JumpSliceByCentering(0, 0, 0)
    panel.ui.lesionTable.inner.setCurrentCell(0, 0)
    centre = np.argwhere(case.hole).mean(axis=0)[::-1]
    index = report["lesions"][0]["index"]
    assert np.abs(centre - index).max() < 4
    for view in views:
        position = [view.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
        np.testing.assert_allclose(position, results.world_position(result, index), atol=1e-6)


def test_what_a_report_does_not_know_is_a_dash_in_the_table(panel, case, engine):
    for lesion in ({"uncertainty": None}, {}):  # without the residual; of an earlier version
        engine.report["lesions"] = [
            {"volume_ml": 1.2, "index": [1, 2, 3], "ring": 5, "fill": 7, "seam": None, **lesion}
        ]
        panel.parameters.result = panel.logic.inpaint(case.volume, case.labels, settings=QUICK)
        cells = row_by_heading(panel.ui.lesionTable.inner)
        assert cells == {**cells, "Mean around": "5", "Mean filled": "7", "± SD": "-", "Seam": "-"}


def test_the_uncertainty_can_be_kept_only_if_it_is_computed(panel):
    assert panel.ui.keepUncertaintyCheckBox.enabled
    panel.parameters.residual = False
    assert not panel.ui.keepUncertaintyCheckBox.enabled
    panel.parameters.residual = True
    assert panel.ui.keepUncertaintyCheckBox.enabled


def test_cancel_in_the_middle_leaves_the_scene_as_it_was(panel, module, scene, child):
    child(AT_WORK)
    before = contents(scene)
    click(panel.ui.inpaintButton)
    wait(lambda: "aligning" in panel.ui.statusLabel.text)
    started = time.monotonic()
    click(panel.ui.cancelButton)
    assert time.monotonic() - started < 2
    assert not panel.logic.running
    assert panel.ui.statusLabel.text == "Cancelled: nothing was changed."
    assert (panel.ui.inpaintButton.enabled, panel.ui.cancelButton.enabled) == (True, False)
    application().processEvents()
    assert (contents(scene), module.errors) == (before, [])


def test_closing_the_scene_ends_a_run(panel, module, scene, child):
    child(AT_WORK)
    click(panel.ui.inpaintButton)
    assert panel.logic.running
    scene.Clear(0)
    assert not panel.logic.running
    assert not panel.ui.inpaintButton.enabled
    assert module.errors == []


def test_unloading_the_module_ends_a_run(panel, child):
    child(AT_WORK)
    click(panel.ui.inpaintButton)
    panel.cleanup()
    assert not panel.logic.running


def test_the_sentence_of_the_engine_is_shown_when_it_cannot_fill(panel, module, scene, child):
    child("""
        print(json.dumps({"event": "error", "message": "The mask lies outside the brain: check it."}))
        sys.exit(2)""")
    before = contents(scene)
    click(panel.ui.inpaintButton)
    wait(lambda: module.errors)
    assert module.errors == ["The mask lies outside the brain: check it."]
    assert panel.ui.statusLabel.text == module.errors[0]
    assert contents(scene) == before
    assert panel.ui.inpaintButton.enabled


def test_a_scan_that_is_removed_during_the_run_leaves_no_result(panel, module, case, scene, child):
    child(COPY)
    click(panel.ui.inpaintButton)
    scene.RemoveNode(case.volume)
    wait(lambda: module.errors)
    assert len(module.errors) == 1
    assert (scans(), case.labels.GetScene()) == ([], scene)


def test_an_empty_segment_starts_nothing(panel, module):
    click(panel.ui.paintButton)
    click(panel.ui.inpaintButton)
    assert not panel.logic.running
    assert module.errors == ["The segment 'lesion' is empty: paint the lesion first."]


def test_a_wrong_choice_starts_nothing(panel, module):
    panel.parameters.window = 8
    click(panel.ui.inpaintButton)
    assert not panel.logic.running
    assert module.errors == ["The context window must be an odd number of 3 pixels or more, not 8."]


# --- PyTorch


def test_without_pytorch_the_panel_says_so_and_offers_to_install_it(panel, module, monkeypatch):
    asked = []
    monkeypatch.setattr(MedInpaintLogic, "torchInstalled", staticmethod(lambda: False))
    panel.enter()
    assert "PyTorch is not installed" in panel.ui.statusLabel.text
    assert panel.ui.inpaintButton.enabled

    logic = types.SimpleNamespace(installTorch=lambda **options: asked.append(options))
    extension = desktop.module_named("PyTorchUtils", PyTorchUtilsLogic=lambda: logic)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    click(panel.ui.inpaintButton)
    assert asked == [{"askConfirmation": True, "torchVersionRequirement": ">=2.2"}]
    assert not panel.logic.running
    assert module.errors == []


def test_without_the_pytorch_extension_the_panel_says_what_to_install(panel, module, monkeypatch):
    monkeypatch.setattr(MedInpaintLogic, "torchInstalled", staticmethod(lambda: False))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    click(panel.ui.inpaintButton)
    assert module.errors == ["Install the PyTorch extension in the Extension Manager, then try again."]
