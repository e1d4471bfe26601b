"""The Slicer module on real nodes, with real Qt and a real child process, in stand-ins for the desktop (desktop.py)."""

import ast
import hashlib
import re
import subprocess
import sys
import time
import types
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import get_args, get_origin
from urllib.parse import unquote, urlparse

import desktop
import MedInpaintLib
import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer_scene
import vtk
from MedInpaintLib import Cancelled, InputError, Settings
from MedInpaintLib.models.registry import shipped_models
from MedInpaintLib.pipeline import Result
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.volumes.image import affine
from MedInpaintLib.volumes.read import read_image
from scipy import ndimage
from slicer_scene import add_label_map, add_volume, contents, voxels

SOURCE = desktop.MODULE.read_text(encoding="utf-8")
PANEL = ElementTree.parse(resources_folder() / "UI" / "MedInpaint.ui")
WIDGETS = {widget.get("name"): widget for widget in PANEL.iter("widget")}
QUICK = Settings(iterations=1, device="cpu")

scene = slicer_scene.scene


@pytest.fixture
def module(monkeypatch, scene):
    """MedInpaint.py with `errors`, the sentences it would show in dialogues."""
    errors = []
    for name, stand_in in desktop.stand_ins().items():
        monkeypatch.setitem(sys.modules, name, stand_in)
    desktop.patch_slicer(monkeypatch, errors)
    monkeypatch.delitem(sys.modules, "MedInpaintLib.process", raising=False)
    loaded = desktop.load_module()
    loaded.errors = errors
    return loaded


def matrix_of(image):
    """The 4 x 4 matrix from voxel indices to RAS."""
    return np.diag([-1, -1, 1, 1]) @ affine(image)


def matrix_of_node(volume):
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


@pytest.fixture
def case(module, scene, small):
    """The 2 mm sample in the scene: the scan's node and its lesion's, a label map."""
    scan, lesion = read_image(small / "scan.nii.gz"), read_image(small / "mask.nii.gz")
    volume = add_volume(scene, sitk.GetArrayFromImage(scan), matrix_of(scan), "patient")
    labels = add_label_map(scene, sitk.GetArrayFromImage(lesion), matrix_of(lesion), "lesion")
    for n in range(3):
        scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode", f"layers {n}")
        scene.AddNewNodeByClass("vtkMRMLSliceNode", f"view {n}")
    return types.SimpleNamespace(volume=volume, labels=labels, hole=sitk.GetArrayFromImage(lesion) > 0)


@pytest.fixture
def panel(module, case):
    """The panel with the sample's scan and lesion chosen, set to one iteration."""
    widget = module.MedInpaintWidget()
    widget.setup()
    widget.enter()
    widget.parameters = widget.logic.getParameterNode()
    widget.parameters.lesion = case.labels
    widget.parameters.iterations = 1
    widget.parameters.device = module.Device.CPU
    yield widget
    widget.cleanup()


@pytest.fixture
def instant(monkeypatch):
    """Replaces the engine by a copy of the scan, with this report, for tests of what becomes of a result."""
    report = {
        "versions": {"medinpaint": "0"}, "model": {"name": "vae3"}, "settings": {}, "lesions": [], "warnings": []
    }  # fmt: skip

    def copy(image, mask, settings, progress):
        real = sitk.Cast(image, sitk.sitkFloat32)
        return Result(image, real, real if settings.residual else None, report)

    monkeypatch.setattr(MedInpaintLib, "inpaint", copy)
    return types.SimpleNamespace(report=report)


def click(button):
    button.inner.click()


def wait(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        desktop.application().processEvents()
        time.sleep(0.01)


def scalar_volumes():
    return slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")


# --- the code against the panel's file


def names_of_the_panel():
    return sorted(set(re.findall(r"self\.ui\.(\w+)|panel\.ui\.(\w+)", SOURCE)) - {""})


@pytest.mark.parametrize("name", sorted({a or b for a, b in names_of_the_panel()}))
def test_every_widget_that_the_code_names_is_in_the_panel(name):
    assert name in WIDGETS


def test_every_control_says_what_it_does():
    controls = [
        name for name, widget in WIDGETS.items()
        if not widget.get("class").endswith(("CollapsibleButton", "qMRMLWidget"))
        and not (widget.get("class") == "QLabel" and widget.find("property[@name='text']/string").text)
    ]  # fmt: skip
    assert len(controls) > 25
    assert [name for name in controls if WIDGETS[name].find("property[@name='toolTip']/string") is None] == []


def test_every_parameter_has_the_widget_that_slicer_connects_to_its_type(module):
    types_ = module.MedInpaintParameterNode.dataTypes
    for name, widget in WIDGETS.items():
        parameter = widget.findtext("property[@name='SlicerParameterName']/string")
        if parameter is None:
            continue
        kind = types_[parameter]
        kind = get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
        if kind in (int, float):
            assert hasattr(types_[parameter], "__metadata__"), f"{name} needs a range"
        if get_origin(kind) is not None or issubclass(kind, slicer.vtkMRMLNode):
            expected = "qMRMLNodeComboBox"
        elif issubclass(kind, Enum):
            expected = "QComboBox"
        else:
            expected = {int: "QSpinBox", float: "QDoubleSpinBox", bool: "QCheckBox"}[kind]
        assert widget.get("class") == expected, name


def test_every_parameter_is_in_the_panel_or_set_by_its_code(module):
    shown = {w.findtext("property[@name='SlicerParameterName']/string") for w in WIDGETS.values()}
    by_code = {"segmentId", "model", "modelFolder"}
    assert shown - {None} == set(module.MedInpaintParameterNode.dataTypes) - by_code
    for name in by_code:
        assert f"self._parameters.{name} = " in SOURCE


def test_the_scene_reaches_every_widget_that_lists_nodes():
    receivers = {
        connection.findtext("receiver") for connection in PANEL.iter("connection")
        if connection.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }  # fmt: skip
    assert receivers == {name for name, widget in WIDGETS.items() if widget.get("class") == "qMRMLNodeComboBox"}


def test_every_text_that_the_code_shows_can_be_translated():
    shown = {"setText", "setToolTip", "errorDisplay", "addItem", "_endRun"}
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in shown:
            bare = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str) and a.value]
            assert not bare, f"line {node.lineno} shows {bare}"


def test_loading_the_module_loads_no_torch():
    code = (
        "import sys, slicer, slicer.util, desktop\n"
        "sys.modules.update(desktop.stand_ins())\n"
        "desktop.load_module()\n"
        "print('torch' in sys.modules)"
    )
    folder = desktop.MODULE.parents[1] / "Testing" / "Python"
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert (run.stdout.split() or [run.stderr])[-1] == "False"


# --- choices


def test_an_untouched_panel_has_the_engines_defaults(module):
    assert module.MedInpaintLogic.settings(module.MedInpaintLogic().getParameterNode()) == Settings()


def test_every_choice_reaches_the_engine(module, case):
    parameters = module.MedInpaintLogic().getParameterNode()
    chosen = {
        "lesion": case.labels, "label": 3, "grow": 1.5, "modelFolder": "/my model", "device": module.Device.CPU,
        "iterations": 7, "restarts": 4, "average": 2, "priorWeight": 0.7, "window": 9, "weighting": False,
        "prior": False, "residual": False, "blending": module.Blending.SLICES, "texture": False, "seed": 5,
    }  # fmt: skip
    for name, value in chosen.items():
        setattr(parameters, name, value)
    assert module.MedInpaintLogic.settings(parameters) == Settings(
        "/my model", "cpu", 3, 1.5, 7, 4, 2, 0.7, 9, False, False, False, "2d", False, 5
    )


def test_all_devices_and_blendings_of_the_engine_can_be_chosen(module):
    from MedInpaintLib.settings import BLENDINGS, DEVICES

    assert tuple(device.value for device in module.Device) == DEVICES
    assert tuple(blending.value for blending in module.Blending) == BLENDINGS
    for choice in (*module.Device, *module.Blending):
        assert choice.label()


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


# --- the panel before a run


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


def test_how_far_a_lesion_grows_is_asked_below_the_lesion_whatever_marks_it(panel, module, scene):
    from MedInpaintLib.settings import MAXIMUM_GROWTH

    box = panel.ui.growSpinBox
    assert (box.value, box.minimum, box.maximum, box.singleStep) == (0, 0, MAXIMUM_GROWTH, 0.5)
    assert (box.text, box.decimals) == ("0.0 mm", 1)
    assert "1 mm is a good start for MS lesions" in box.toolTip
    assert panel.ui.growLabel.text == "Grow lesion by:"
    kind = module.MedInpaintParameterNode.dataTypes[box.property("SlicerParameterName")]
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


# --- runs from the panel


def test_a_run_from_the_panel_adds_the_result_and_compares_it(panel, module, case, scene):
    before = voxels(case.volume).copy()
    panel.parameters.keepGenerated = panel.parameters.keepUncertainty = True
    click(panel.ui.inpaintButton)
    assert panel.logic.running
    assert (panel.ui.inpaintButton.enabled, panel.ui.cancelButton.enabled) == (False, True)
    assert "under way" in panel.ui.inpaintButton.toolTip
    with pytest.raises(InputError, match="under way"):
        panel.logic.start(case.volume, case.labels, None, None, QUICK, False, False, print, print, print)
    shown = set()
    wait(lambda: shown.add(panel.ui.statusLabel.text.split(":")[0]) or not panel.logic.running)
    wait(lambda: panel.parameters.result is not None)
    assert {"aligning", "optimising"} <= shown
    assert module.errors == []
    result = panel.parameters.result
    assert [node.GetName() for node in scalar_volumes() if not node.IsA("vtkMRMLLabelMapVolumeNode")] == [
        "patient", "patient generated", "patient uncertainty", "patient inpainted"
    ]  # fmt: skip
    deviation = voxels(slicer.util.getNode("patient uncertainty"))
    assert not deviation[~case.hole].any()
    assert (deviation[case.hole] > 0).mean() > 0.9
    np.testing.assert_array_equal(voxels(case.volume), before)
    np.testing.assert_array_equal(voxels(result)[~case.hole], before[~case.hole])
    assert (voxels(result)[case.hole] != before[case.hole]).mean() > 0.9
    assert "1 lesion(s) filled" in panel.ui.statusLabel.text
    cells = row_by_heading(panel.ui.lesionTable.inner)
    assert float(cells["± SD"]) == pytest.approx(deviation[case.hole].mean(), rel=0.01)
    assert float(cells["Mean filled"]) == pytest.approx(voxels(result)[case.hole].mean(), rel=0.01)
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
    index = module.mrml.report_of(result)["lesions"][0]["index"]
    assert np.abs(centre - index).max() < 4
    for view in views:
        position = [view.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
        np.testing.assert_allclose(position, module.mrml.world_position(result, index), atol=1e-6)


def test_a_run_from_the_panel_fills_the_rim_of_a_lesion_that_grows(panel, module, case):
    before = voxels(case.volume).copy()
    panel.parameters.grow = 2.0
    click(panel.ui.inpaintButton)
    wait(lambda: panel.parameters.result is not None or module.errors)
    assert module.errors == []
    result = panel.parameters.result
    reach = ndimage.distance_transform_edt(~case.hole, sampling=2)
    rim = (reach == 2) & (before != 0)
    changed = voxels(result) != before
    assert not changed[(reach > 2) | (before == 0) & ~case.hole].any()
    assert changed[rim].mean() > 0.9
    assert module.mrml.report_of(result)["settings"]["grow"] == 2
    cells = row_by_heading(panel.ui.lesionTable.inner)
    assert f"{(case.hole | rim).sum() * 0.008:.2f}" in cells.values()
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    for view in views:
        view.JumpSliceByCentering(0, 0, 0)
    panel.ui.lesionTable.inner.setCurrentCell(0, 0)
    index = module.mrml.report_of(result)["lesions"][0]["index"]
    for view in views:
        position = [view.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
        np.testing.assert_allclose(position, module.mrml.world_position(result, index), atol=1e-6)


def row_by_heading(table):
    """The texts of a table's only row."""
    assert table.rowCount() == 1
    return {table.horizontalHeaderItem(n).text(): table.item(0, n).text() for n in range(table.columnCount())}


def test_what_a_report_does_not_know_is_a_dash_in_the_table(panel, module, case, instant):
    for lesion in ({"uncertainty": None}, {}):  # without conditioning; of an earlier version
        instant.report["lesions"] = [
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


def test_cancel_in_the_middle_leaves_the_scene_as_it_was(panel, module, scene):
    before = contents(scene)
    click(panel.ui.inpaintButton)
    wait(lambda: "aligning" in panel.ui.statusLabel.text)
    started = time.monotonic()
    click(panel.ui.cancelButton)
    assert time.monotonic() - started < 2
    assert not panel.logic.running
    assert panel.ui.statusLabel.text == "Cancelled: nothing was changed."
    assert (panel.ui.inpaintButton.enabled, panel.ui.cancelButton.enabled) == (True, False)
    desktop.application().processEvents()
    assert (contents(scene), module.errors) == (before, [])


def test_closing_the_scene_ends_a_run(panel, module, scene):
    click(panel.ui.inpaintButton)
    assert panel.logic.running
    scene.Clear(0)
    assert not panel.logic.running
    assert not panel.ui.inpaintButton.enabled
    assert module.errors == []


def test_unloading_the_module_ends_a_run(panel):
    click(panel.ui.inpaintButton)
    panel.cleanup()
    assert not panel.logic.running


def test_the_engines_own_sentence_is_shown_when_it_cannot_fill(panel, module, case, scene):
    corner = np.zeros(case.hole.shape, np.uint8)
    corner[:2, :2, :2] = 1
    panel.parameters.lesion = add_label_map(scene, corner, matrix_of_node(case.volume), "corner")
    before = contents(scene)
    click(panel.ui.inpaintButton)
    wait(lambda: module.errors)
    assert module.errors == ["The mask lies outside the brain: check that it belongs to this scan."]
    assert panel.ui.statusLabel.text == module.errors[0]
    assert contents(scene) == before
    assert panel.ui.inpaintButton.enabled


def test_a_scan_that_is_removed_during_the_run_leaves_no_result(panel, module, case, scene):
    click(panel.ui.inpaintButton)
    scene.RemoveNode(case.volume)
    wait(lambda: module.errors)
    assert len(module.errors) == 1
    assert [node.GetName() for node in scalar_volumes()] == ["lesion"]


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
    monkeypatch.setattr(module.MedInpaintLogic, "torchInstalled", staticmethod(lambda: False))
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
    monkeypatch.setattr(module.MedInpaintLogic, "torchInstalled", staticmethod(lambda: False))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    click(panel.ui.inpaintButton)
    assert module.errors == ["Install the PyTorch extension in the Extension Manager, then try again."]


# --- the console


def test_the_console_fills_the_scan_and_returns_the_new_volume(module, case):
    before, told = voxels(case.volume).copy(), []
    result = module.MedInpaintLogic().inpaint(
        case.volume, case.labels, settings=QUICK, progress=lambda *event: told.append(event)
    )
    assert result.GetName() == "patient inpainted"
    assert told[-1][0] == 1
    np.testing.assert_array_equal(voxels(case.volume), before)
    np.testing.assert_array_equal(voxels(result)[~case.hole], before[~case.hole])
    assert (voxels(result)[case.hole] != before[case.hole]).mean() > 0.9
    assert module.mrml.report_of(result)["settings"] == QUICK.to_dict()


def test_the_console_fills_a_volume_that_is_given_for_the_result(module, case, scene):
    other = add_volume(scene, np.zeros((3, 3, 3), np.float32), name="mine")
    before = contents(scene)
    result = module.MedInpaintLogic().inpaint(case.volume, case.labels, other, settings=QUICK)
    assert result is other
    assert result.GetName() == "mine"
    assert contents(scene) == before
    np.testing.assert_array_equal(voxels(result)[~case.hole], voxels(case.volume)[~case.hole])


@pytest.mark.parametrize(
    ("settings", "keep", "added"), [
        (QUICK, {}, []),
        (QUICK, {"keepUncertainty": True}, ["patient uncertainty"]),
        (QUICK, {"keepGenerated": True, "keepUncertainty": True}, ["patient generated", "patient uncertainty"]),
        (replace(QUICK, residual=False), {"keepUncertainty": True}, []),
    ],
)  # fmt: skip
def test_the_console_keeps_what_it_is_asked_to_keep(module, case, instant, settings, keep, added):
    module.MedInpaintLogic().inpaint(case.volume, case.labels, settings=settings, **keep)
    names = [node.GetName() for node in scalar_volumes() if not node.IsA("vtkMRMLLabelMapVolumeNode")]
    assert names == ["patient", *added, "patient inpainted"]


@pytest.mark.parametrize("name", ["generated_node", "uncertainty_node", "result_node"])
def test_a_failure_to_add_one_of_the_volumes_leaves_none_of_them(module, case, scene, instant, monkeypatch, name):
    real = getattr(module.mrml, name)

    def fail(*given):
        real(*given)
        raise MemoryError

    monkeypatch.setattr(module.mrml, name, fail)
    before = contents(scene)
    with pytest.raises(MemoryError):
        module.MedInpaintLogic().inpaint(
            case.volume, case.labels, settings=QUICK, keepGenerated=True, keepUncertainty=True
        )
    assert contents(scene) == before


def test_the_console_can_cancel(module, case, scene):
    def progress(fraction, stage, message):
        if stage == "optimising":
            raise Cancelled

    before = contents(scene)
    with pytest.raises(Cancelled):
        module.MedInpaintLogic().inpaint(case.volume, case.labels, settings=QUICK, progress=progress)
    assert contents(scene) == before


def test_the_result_never_takes_the_scans_place(module, case, scene):
    before = contents(scene)
    with pytest.raises(InputError, match="The output is the scan itself"):
        module.MedInpaintLogic().inpaint(case.volume, case.labels, case.volume, settings=QUICK)
    assert contents(scene) == before


def readme_examples():
    text = (desktop.MODULE.parents[1] / "README.md").read_text(encoding="utf-8")
    return [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "MedInpaintLogic" in block]


def test_the_readmes_example_of_the_console_runs(module, case, monkeypatch):
    loaded = types.SimpleNamespace(downloadSamples=lambda name: [case.volume, case.labels])
    monkeypatch.setitem(sys.modules, "SampleData", loaded)
    monkeypatch.setitem(sys.modules, "MedInpaint", module)
    names = {"slicer": slicer}
    exec(readme_examples()[0], names)
    assert names["filled"].GetName() == "patient inpainted"
    layers = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    assert layers.GetForegroundVolumeID() == names["filled"].GetID()


def test_the_readmes_loop_over_files_runs(module, case, monkeypatch, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a_T1w.nii.gz").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "MedInpaint", module)
    saved = []
    for name, stand_in in {
        "loadVolume": {str(Path("scans/a_T1w.nii.gz")): case.volume}.__getitem__,
        "loadLabelVolume": {str(Path("scans/a_lesions.nii.gz")): case.labels}.__getitem__,
        "saveNode": lambda node, path: saved.append((node.GetName(), path)),
    }.items():
        monkeypatch.setattr(slicer.util, name, stand_in)
    exec(readme_examples()[1], {"slicer": slicer})
    assert saved == [("patient inpainted", str(Path("scans/a_filled.nii.gz")))]
    assert scalar_volumes() == []


# --- sample data


def test_the_registered_samples_are_the_shipped_files(module):
    sources = desktop.SampleDataLogic.sources
    sources.clear()
    module.registerSampleData()
    assert [source["sampleName"] for source in sources] == ["MedInpaintMSPatient26", "MedInpaintHealthyHead"]
    for source in sources:
        assert (resources_folder() / "Icons" / source["thumbnailFileName"]).is_file()
        assert source["loadFileTypes"] == ["VolumeFile", "SegmentationFile"]
        for uri, name, checksum in zip(source["uris"], source["fileNames"], source["checksums"], strict=True):
            path = resources_folder() / "SampleData" / name
            assert unquote(urlparse(uri).path) == path.as_posix()
            assert checksum == "SHA256:" + hashlib.sha256(path.read_bytes()).hexdigest()
