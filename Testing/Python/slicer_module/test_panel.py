"""The panel on real nodes, with real Qt, a real child process once, and scripts in its place elsewhere."""

import os
import signal
import sys
import time
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from desktop import COPY, DONE, click, exists, wait
from MedInpaintLib import InputError, Settings
from MedInpaintLib.models.registry import shipped_models
from MedInpaintLib.settings import MAXIMUM_GROWTH
from MedInpaintLib.slicer.child.process import InpaintingProcess
from MedInpaintLib.slicer.logic import Job
from MedInpaintLib.slicer.panel.words import statusText, statusToolTip
from MedInpaintLib.slicer.parameters import MedInpaintParameterNode
from MedInpaintLib.slicer.scene import results
from MedInpaintLib.slicer.scene.images import lesion_image
from qt_stand_in import application
from scipy import ndimage
from slicer_scene import (
    QUICK,
    add_label_map,
    add_segmentation,
    add_volume,
    blob,
    contents,
    image_data,
    oriented,
    scans,
    voxels,
)

PREPARE = InpaintingProcess.prepare  # the fixture `module` puts nothing in its place
AT_WORK = """
print(json.dumps({"event": "progress", "fraction": 0.5, "stage": "aligning", "message": "brain"}), flush=True)
time.sleep(60)
"""


def is_visible(panel, widget):
    return widget.inner.isVisibleTo(panel.container)


def row_by_heading(table):
    """The texts of a table's only row."""
    assert table.rowCount() == 1
    return {table.horizontalHeaderItem(n).text(): table.item(0, n).text() for n in range(table.columnCount())}


# --- choices


def test_the_default_model_comes_first_under_a_name_that_needs_no_explanation(panel):
    box = panel.ui.modelComboBox
    assert (box.currentIndex, box.currentText) == (0, "default (recommended)")
    assert box.itemData(0) == Settings().model
    assert sorted(box.itemData(n) for n in range(box.count)) == [model.name for model in shipped_models()]
    box.setCurrentIndex(2)
    assert panel.parameters.model == "gan7"
    assert panel.ui.modelDescriptionLabel.text.startswith("GAN with kernels of 7 pixels, trained on 48 scans")


def test_the_settings_of_the_study_are_those_of_the_preset(panel):
    panel.parameters.seed = 7
    panel.ui.studyButton.click()
    assert panel.logic.settings(panel.parameters) == Settings.preset(
        "study", seed=7, device=panel.parameters.device.value
    )
    assert panel.ui.modelComboBox.itemData(panel.ui.modelComboBox.currentIndex) == "vae3"


def test_a_models_own_folder_goes_before_the_shipped_ones(panel):
    panel.ui.modelFolderPathLineEdit.setCurrentPath("/nowhere")
    assert panel.logic.settings(panel.parameters).model == "/nowhere"
    assert not panel.ui.modelComboBox.enabled
    assert "There is no model '/nowhere'" in panel.ui.modelDescriptionLabel.text


def test_the_cursor_stays_where_the_path_of_a_model_is_edited(panel):
    line = panel.ui.modelFolderPathLineEdit.inner.line
    line.setText("/models")
    line.setCursorPosition(1)
    line.insert("x")
    assert (panel.parameters.modelFolder, line.cursorPosition()) == ("/xmodels", 2)
    panel.parameters.modelFolder = ""
    assert line.text() == ""


@pytest.mark.parametrize("name", ["modelComboBox", "modelFolderPathLineEdit", "iterationsSpinBox", "seedSpinBox"])
def test_model_and_search_are_settings_for_experts(panel, name):
    advanced = panel.ui.advancedCollapsibleButton
    assert advanced.inner.isAncestorOf(getattr(panel.ui, name).inner)
    assert advanced.collapsed


def test_the_button_says_what_is_missing(panel, scene):
    button = panel.ui.inpaintButton
    assert button.enabled
    panel.parameters.lesion = None
    assert (button.enabled, button.toolTip) == (
        False, "Paint the lesion, or choose the segmentation or label map that marks it."
    )  # fmt: skip
    panel.parameters.lesion = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert (button.enabled, button.toolTip) == (False, "Select the segment that is the lesion.")
    panel.parameters.inputVolume = None
    assert (button.enabled, button.toolTip) == (False, "Load a T1-weighted brain MRI and choose it as the scan.")
    assert not panel.ui.paintButton.enabled


def test_how_far_a_lesion_grows_is_asked_below_the_lesion_whatever_marks_it(panel, scene):
    box = panel.ui.growSpinBox
    assert (box.value, box.minimum, box.maximum, box.singleStep) == (0, 0, MAXIMUM_GROWTH, 0.5)
    assert (box.text, box.decimals) == ("0.0 mm", 1)
    assert "1 mm is a good start for MS lesions" in box.toolTip
    assert panel.ui.growLabel.text == "Grow lesion by:"
    kind, limits = get_args(MedInpaintParameterNode.dataTypes[box.property("SlicerParameterName")])
    # A field of the parameter node is saved with the scene.
    assert (kind, limits.minimum, limits.maximum) == (float, 0, MAXIMUM_GROWTH)

    form = panel.ui.inputsCollapsibleButton.inner.layout()
    row = form.getWidgetPosition(box.inner)[0]
    assert form.labelForField(box.inner) is panel.ui.growLabel.inner
    assert form.getWidgetPosition(panel.ui.labelSpinBox.inner)[0] == row - 1
    for mark in (panel.parameters.lesion, scene.AddNewNodeByClass("vtkMRMLSegmentationNode"), None):
        panel.parameters.lesion = mark
        assert is_visible(panel, box)


def test_button_progress_and_status_are_above_the_editor(panel):
    layout = panel.ui.editorFrame.inner.parentWidget().layout()
    places = [layout.indexOf(widget.inner) for widget in (panel.ui.progressBar, panel.ui.statusLabel)]
    assert -1 < min(places) < max(places) < layout.indexOf(panel.ui.editorFrame.inner)
    buttons = next(n for n in range(layout.count()) if layout.itemAt(n).layout())
    assert layout.itemAt(buttons).layout().indexOf(panel.ui.inpaintButton.inner) == 0
    assert buttons < min(places)


def test_the_panel_says_that_the_tissue_is_invented(panel):
    assert is_visible(panel, panel.ui.syntheticLabel)
    assert "invented" in panel.ui.syntheticLabel.text


# --- what is chosen by itself


def test_the_first_scan_is_chosen_and_no_label_map(module, scene, case):
    add_label_map(scene, np.zeros((4, 4, 4), np.uint8), name="second label map")
    widget = module.MedInpaintWidget()
    widget.setup()
    parameters = widget.logic.getParameterNode()
    assert (parameters.inputVolume, parameters.lesion) == (case.volume, None)


def test_the_scan_on_the_screen_is_chosen_and_the_only_segmentation(module, scene, case):
    other = add_volume(scene, np.zeros((4, 4, 4), np.uint8), name="other")
    segmentation, _ = add_segmentation(scene, case.hole)
    slicer.util.setSliceViewerLayers(background=other)
    widget = module.MedInpaintWidget()
    widget.setup()
    parameters = widget.logic.getParameterNode()
    assert (parameters.inputVolume, parameters.lesion) == (other, segmentation)


def test_a_scan_and_a_lesion_that_come_while_the_panel_is_open_are_chosen(module, scene):
    widget = module.MedInpaintWidget()
    widget.setup()
    widget.enter()
    parameters = widget.logic.getParameterNode()
    volume = add_volume(scene, np.zeros((4, 4, 4), np.uint8))
    labels = add_label_map(scene, np.zeros((4, 4, 4), np.uint8))
    application().processEvents()
    assert (parameters.inputVolume, parameters.lesion) == (volume, labels)
    widget.cleanup()


def test_what_is_chosen_is_not_changed_by_what_comes_later(panel, scene, case):
    add_volume(scene, np.zeros((4, 4, 4), np.uint8))
    add_segmentation(scene, case.hole)
    application().processEvents()
    assert (panel.parameters.inputVolume, panel.parameters.lesion) == (case.volume, case.labels)


# --- painting


def test_without_a_segmentation_the_editor_gets_no_scan_as_it_would_complain(panel, scene, case):
    """The stand-in for the editor refuses what the editor logs as an error."""
    assert panel.lesion.editor.sourceVolumeNode() is None
    panel.parameters.lesion, _ = add_segmentation(scene, case.hole)
    assert panel.lesion.editor.sourceVolumeNode() is case.volume
    panel.parameters.lesion = None
    panel.parameters.seed = 3


def test_paint_new_makes_a_segmentation_for_the_scan_and_takes_up_the_brush(panel, case):
    click(panel.ui.paintButton)
    segmentation, editor = panel.parameters.lesion, panel.lesion.editor
    assert segmentation.GetName() == "patient lesion"
    assert editor.segmentationNode() is segmentation
    assert editor.sourceVolumeNode() is case.volume
    assert editor.mrmlSegmentEditorNode().GetActiveEffectName() == "Paint"
    assert panel.ui.segmentNameLabel.text == "lesion"
    assert panel.lesion.segmentId == editor.currentSegmentID()
    assert is_visible(panel, editor)
    assert not is_visible(panel, panel.ui.labelSpinBox)


def test_paint_new_keeps_what_was_painted_and_does_not_add_a_second_empty_segment(panel, case, scene):
    click(panel.ui.paintButton)
    segmentation, first = panel.parameters.lesion, panel.lesion.segmentId
    click(panel.ui.paintButton)
    assert (panel.parameters.lesion, panel.lesion.segmentId) == (segmentation, first)
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(oriented(blob()), segmentation, first)
    click(panel.ui.paintButton)
    assert panel.parameters.lesion is segmentation
    assert panel.ui.segmentNameLabel.text == "lesion 2"
    assert list(segmentation.GetSegmentation().GetSegmentIDs()) == [first, panel.lesion.segmentId]
    mask = lesion_image(case.volume, segmentation, first)
    assert sitk.GetArrayViewFromImage(mask).sum() == blob().sum()


def test_the_segment_that_is_selected_in_the_editor_is_the_lesion(panel):
    click(panel.ui.paintButton)
    segments = panel.parameters.lesion.GetSegmentation()
    other = segments.AddEmptySegment("", "other")
    panel.lesion.editor.setCurrentSegmentID(other)
    assert (panel.lesion.segmentId, panel.ui.segmentNameLabel.text) == (other, "other")
    segments.GetSegment(other).SetName("tumour")
    assert panel.ui.segmentNameLabel.text == "tumour"
    panel.ui.allSegmentsCheckBox.setChecked(True)
    assert (panel.lesion.segmentId, panel.ui.segmentNameLabel.text) == (None, "all segments")
    panel.ui.allSegmentsCheckBox.setChecked(False)
    segments.RemoveSegment(other)
    assert panel.ui.segmentNameLabel.text == "select one below"
    assert not panel.ui.inpaintButton.enabled


def test_a_run_gets_the_selected_segment_or_all(panel, module, monkeypatch):
    asked = []
    monkeypatch.setattr(panel.logic, "start", lambda job, *listeners: asked.append(job.segmentId))
    click(panel.ui.paintButton)
    click(panel.ui.inpaintButton)
    panel.parameters.allSegments = True
    click(panel.ui.inpaintButton)
    assert asked == [panel.parameters.lesion.GetSegmentation().GetNthSegmentID(0), None]


def test_the_editor_is_hidden_for_a_label_map_and_has_its_own_parameters(panel, scene):
    assert not is_visible(panel, panel.lesion.editor)
    assert not is_visible(panel, panel.ui.allSegmentsCheckBox)
    assert is_visible(panel, panel.ui.labelSpinBox)
    node = panel.lesion.editor.mrmlSegmentEditorNode()
    assert node is scene.GetSingletonNode("MedInpaint", "vtkMRMLSegmentEditorNode")


def test_the_names_of_widgets_in_the_editor_do_not_hide_those_of_the_panel(panel):
    assert not panel.ui.modelComboBox.inner.isAncestorOf(panel.lesion.editor.inner)
    assert "segmentEditor" not in vars(panel.ui)
    assert panel.ui.editorFrame.inner.isAncestorOf(panel.lesion.editor.inner)


# --- the panel's life


def test_a_panel_that_is_reloaded_leaves_no_shortcuts_and_observes_nothing(panel, scene):
    click(panel.ui.paintButton)
    editor = panel.lesion.editor.inner
    assert editor.shortcuts
    assert editor.observesViews
    panel.cleanup()  # Slicer does not call exit() then
    assert not editor.shortcuts
    assert not editor.observesViews
    assert editor.mrmlSegmentEditorNode() is None
    assert panel.Observations == panel.lesion.Observations == panel.mark.Observations == []
    assert slicer.app.slots == slicer.app.layoutManager().slots == []
    layout = slicer.app.layoutManager()
    windows = [layout.sliceWidget(name).sliceView().renderWindow() for name in layout.sliceViewNames()]
    props = [window.GetRenderers().GetItemAsObject(0).GetViewProps().GetNumberOfItems() for window in windows]
    assert props == [0, 0, 0]


def test_a_developers_reload_loads_the_library_again(panel):
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "MedInpaintLib"}
    try:
        panel.onReload()
        assert sys.modules["MedInpaint"].MedInpaintWidget is not type(panel)
        assert sys.modules["MedInpaintLib.settings"] is not kept["MedInpaintLib.settings"]
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "MedInpaintLib"]:
            del sys.modules[name]
        sys.modules.update(kept)


def test_closing_the_scene_ends_a_run(panel, module, scene, child):
    child(AT_WORK)
    click(panel.ui.inpaintButton)
    assert panel.logic.running
    scene.Clear(0)
    assert not panel.logic.running
    assert not panel.ui.inpaintButton.enabled
    assert module.errors == []


def test_the_editor_lets_go_of_a_scene_that_closes_while_a_tool_is_active(panel):
    click(panel.ui.paintButton)
    panel.onSceneStartClose()
    assert panel.lesion.editor.segmentationNode() is None
    assert not panel.ui.inpaintButton.enabled


def test_unloading_the_module_ends_a_run(panel, child):
    child(AT_WORK)
    click(panel.ui.inpaintButton)
    panel.cleanup()
    assert not panel.logic.running


@pytest.fixture
def ready(module, case, child, monkeypatch):
    """An open panel whose child waits."""
    monkeypatch.setattr(InpaintingProcess, "prepare", PREPARE)
    child("")
    widget = module.MedInpaintWidget()
    widget.setup()
    assert child_of(widget) is None
    widget.enter()
    yield widget
    widget.cleanup()


def child_of(panel):
    """The process id of the panel's child; None if there is none."""
    process = panel.logic._process._process
    return process and process.processId()


posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@posix
def test_a_child_waits_as_soon_as_the_module_is_entered_and_stays_when_it_is_left(ready):
    child = child_of(ready)
    assert exists(child)
    ready.exit()
    ready.enter()
    assert child_of(ready) == child
    assert not ready.logic.running


@posix
@pytest.mark.parametrize("end", [
    lambda panel, scene: panel.cleanup(),
    lambda panel, scene: slicer.app.emit("aboutToQuit()"),
], ids=["module", "application"])  # fmt: skip
def test_the_waiting_child_ends_with_the_module_and_the_application(ready, scene, end):
    child = child_of(ready)
    end(ready, scene)
    assert not exists(child)
    assert child_of(ready) is None


@posix
def test_the_waiting_child_ends_with_the_scene_whose_scan_it_knows_and_the_next_scene_has_another(ready, scene):
    child = child_of(ready)
    scene.Clear(0)
    assert not exists(child)
    assert exists(child_of(ready))


@posix
def test_after_cancel_and_after_a_crash_a_new_child_waits(ready, child, module, case):
    ready.logic.getParameterNode().lesion = case.labels
    children = [child_of(ready)]
    child(AT_WORK)
    for end, said in (
        (lambda: click(ready.ui.cancelButton), "Cancelled"),
        (lambda: os.kill(child_of(ready), signal.SIGKILL), "crashed"),
    ):
        click(ready.ui.inpaintButton)
        wait(lambda: "aligning" in ready.ui.statusLabel.text)
        end()
        wait(lambda: not ready.logic.running)
        assert said in ready.ui.statusLabel.text
        children.append(child_of(ready))
        assert exists(children[-1])
    assert len(set(children)) == 3
    assert len(module.errors) == 1


def test_without_torch_no_child_is_started(module, case, monkeypatch):
    widget = module.MedInpaintWidget()
    widget.setup()
    monkeypatch.setattr(widget.logic, "torchProblem", lambda: "PyTorch is not installed.")
    widget.enter()
    assert child_of(widget) is None
    widget.cleanup()


def test_the_child_loads_the_model_that_is_chosen(panel, monkeypatch):
    loaded = []
    monkeypatch.setattr(panel.logic._process, "prepare", loaded.append)
    panel.enter()
    panel.parameters.modelFolder = "/mine"
    panel.enter()
    assert loaded == [Settings().model, "/mine"]


# --- runs


def test_a_run_from_the_panel_fills_the_lesion_and_its_rim_adds_the_volumes_and_compares_them(panel, module, case):
    before = voxels(case.volume).copy()
    panel.parameters.keepGenerated = True
    panel.parameters.grow = 2.0
    click(panel.ui.inpaintButton)
    assert panel.logic.running
    assert (panel.ui.inpaintButton.enabled, panel.ui.cancelButton.enabled) == (False, True)
    assert "under way" in panel.ui.inpaintButton.toolTip
    with pytest.raises(InputError, match="under way"):
        panel.logic.start(Job(case.volume, case.labels, QUICK), print, print, print)
    shown = set()
    wait(lambda: shown.add(panel.ui.statusLabel.text.split(":")[0]) or not panel.logic.running)
    assert {"aligning", "optimising"} <= shown
    assert module.errors == []
    names = ["patient generated (synthetic)", "patient uncertainty", "patient inpainted (synthetic)"]
    assert scans() == ["patient", *names]

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
    assert "Alignment with the model: good." in panel.ui.statusLabel.text
    assert f"Alignment {report['alignment']['quality']:.2f}" in panel.ui.statusLabel.toolTip
    cells = row_by_heading(panel.ui.lesionTable.inner)
    assert cells["ml"] == f"{filled.sum() * 0.008:.2f}"
    mean, sd = map(float, cells["Filled"].split(" ± "))
    assert sd == pytest.approx(deviation[filled].mean(), rel=0.01)
    assert mean == pytest.approx(voxels(result)[filled].mean(), rel=0.01)
    assert cells["Border"] == "good"
    layers = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {view.GetBackgroundVolumeID() for view in layers} == {case.volume.GetID()}
    assert {view.GetForegroundVolumeID() for view in layers} == {result.GetID()}
    assert not panel.ui.compareCollapsibleButton.collapsed
    centre = np.argwhere(case.hole).mean(axis=0)[::-1]
    index = report["lesions"][0]["index"]
    assert np.abs(centre - index).max() < 4
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        position = [view.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
        np.testing.assert_allclose(position, results.world_position(result, index), atol=1e-6)


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


def test_the_sentence_of_the_engine_is_shown_when_it_cannot_fill(panel, module, scene, child):
    child("""
        print(json.dumps({"event": "error", "message": "The mask lies outside the brain: check it."}))""")
    before = contents(scene)
    click(panel.ui.inpaintButton)
    wait(lambda: module.errors)
    assert module.errors == ["The mask lies outside the brain: check it."]
    assert panel.ui.statusLabel.text == module.errors[0]
    assert contents(scene) == before
    assert panel.ui.inpaintButton.enabled


def test_a_scan_that_is_removed_during_the_run_leaves_no_result(panel, module, case, scene, child):
    child(COPY + DONE)
    click(panel.ui.inpaintButton)
    scene.RemoveNode(case.volume)
    wait(lambda: module.errors)
    assert len(module.errors) == 1
    assert (scans(), case.labels.GetScene()) == ([], scene)


@pytest.mark.parametrize("change", [lambda array: array[1:], lambda array: array.astype(np.float32)])
def test_a_scan_that_is_cropped_or_cast_during_the_run_ends_it_with_a_sentence(panel, module, case, child, change):
    child(COPY + DONE)
    click(panel.ui.inpaintButton)
    case.volume.SetAndObserveImageData(image_data(change(voxels(case.volume))))
    wait(lambda: module.errors)
    assert module.errors == ["The scan was changed while it was being filled: press Inpaint again."]
    assert panel.ui.inpaintButton.enabled
    assert scans() == ["patient"]


def test_a_result_that_cannot_be_added_ends_the_run_with_a_sentence(panel, module, child, scene, monkeypatch):
    def fail(*given):
        raise MemoryError("no memory")

    monkeypatch.setattr(results, "result_node", fail)
    child(COPY + DONE)
    before = contents(scene)
    click(panel.ui.inpaintButton)
    wait(lambda: module.errors)
    assert module.errors == ["The result could not be added (no memory): see the application log."]
    assert panel.ui.statusLabel.text == module.errors[0]
    assert (contents(scene), panel.ui.inpaintButton.enabled) == (before, True)


def test_a_result_that_cannot_be_shown_is_there_and_the_panel_says_so(panel, module, engine, case, monkeypatch):
    result = panel.logic.inpaint(case.volume, case.labels, settings=QUICK)
    monkeypatch.setattr(panel.comparison, "show", lambda result: 1 / 0)
    panel.onDone(result)
    assert module.errors == [panel.ui.statusLabel.text]
    assert "was added, but it cannot be shown (division by zero)" in module.errors[0]


def test_after_a_tight_mask_one_click_fills_the_rim_too(panel, engine, case, monkeypatch):
    engine.report["rim"] = {"tight": False, "deficit": 0.001, "error": 0.002, "width": 0.0, "lesions": None}
    panel.onDone(panel.logic.inpaint(case.volume, case.labels, settings=QUICK))
    assert panel.ui.growButton.isHidden()
    engine.report["rim"] = {"tight": True, "deficit": 0.03, "error": 0.002, "width": 1.0, "lesions": None}
    panel.onDone(panel.logic.inpaint(case.volume, case.labels, settings=replace(QUICK, grow=0.5)))
    assert not panel.ui.growButton.isHidden()
    asked = []
    monkeypatch.setattr(panel.logic, "start", lambda *arguments: asked.append(arguments[0].settings))
    click(panel.ui.growButton)
    assert [settings.grow for settings in asked] == [1.5]
    assert panel.ui.growButton.isHidden()  # until the new run says whether there is a rim still


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


def test_poor_quality_is_told_in_words_and_its_numbers_in_the_tooltip(engine):
    report = {**engine.report, "seam": 2.25, "warnings": ["Look at it."]}
    report["alignment"] = {"quality": 0.412, "poor": True, "reused": False}
    assert "Alignment with the model: check it. Border of the fill: check it. Look at it." in statusText(report)
    again = {**report, "alignment": {**report["alignment"], "reused": True}}
    assert "Alignment with the model: check it (that of the run before). Border" in statusText(again)
    assert not any(digits in statusText(report) for digits in ("0.41", "2.25"))
    assert "Alignment 0.41" in statusToolTip(report)
    assert "Seam 2.25" in statusToolTip(report)
    assert "Looks like FLAIR." in statusText({**report, "contrast": {"name": "FLAIR"}})
    assert "Unknown contrast." in statusText({**report, "contrast": {"name": "other"}})
    assert "Border" not in statusText({**report, "seam": None})
