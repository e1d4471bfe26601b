"""The effect Inpaint of the Segment Editor: on real nodes, with stand-ins for the editor, and scripts as child."""

import sys

import desktop
import editor_effects
import numpy as np
import pytest
import slicer
from desktop import AT_WORK, FILL, click, wait
from MedInpaintLib.slicer.effect import SOURCE
from MedInpaintLib.slicer.logic import forgetSharedLogic, sharedLogic
from MedInpaintLib.slicer.scene import results, views
from slicer_scene import add_segmentation, contents, voxels


@pytest.fixture
def factory(module, monkeypatch):
    factory = editor_effects.install(monkeypatch)
    parent = desktop.module_named("parent")
    module.MedInpaint(parent)
    assert factory.effects == {}
    slicer.app.emit("startupCompleted()")
    return factory


@pytest.fixture
def effect(factory, scene, case):
    """The effect in an editor that has the scan and its lesion."""
    effect = factory.activated("Inpaint", scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")).self()
    segmentation, segment = add_segmentation(scene, case.hole, slicer_matrix(case.volume))
    node = effect.scriptedEffect.parameterSetNode()
    node.SetAndObserveSegmentationNode(segmentation)
    node.SetAndObserveSourceVolumeNode(case.volume)
    node.SetSelectedSegmentID(segment)
    yield effect
    effect.cleanup()
    forgetSharedLogic()


def slicer_matrix(volume):
    from MedInpaintLib.slicer.scene.nodes import ijk_to_ras

    return ijk_to_ras(volume)


def test_the_effect_is_registered_once_the_application_has_started_and_works_on_a_segment(factory):
    effect = factory.effects["Inpaint"]
    assert (effect.perSegment, effect.requireSegments) == (True, True)
    assert effect.source == SOURCE.as_posix()
    assert "invented" in effect.self().helpText()
    clone = effect.self().clone()
    assert clone is not effect
    assert (clone.name, clone.source) == ("Inpaint", effect.source)
    clone.self().cleanup()  # the original and unused clones have no options


def test_the_growth_is_a_parameter_of_the_editor(effect):
    assert effect.growSpinBox.value == 0
    effect.growSpinBox.setValue(1.5)
    assert effect.scriptedEffect.parameterSetNode().GetAttribute("Inpaint.Grow") == "1.5"
    effect.scriptedEffect.setParameter("Grow", 2.0)
    effect.updateGUIFromMRML()
    assert effect.growSpinBox.value == 2
    effect.scriptedEffect.parameterSetNode().RemoveAttribute("Inpaint.Grow")  # while a scene is closed
    effect.updateGUIFromMRML()
    assert effect.growSpinBox.value == 0


def test_apply_fills_the_selected_segment_of_the_source_volume(effect, case, child, module):
    child("import SimpleITK as sitk\nopen('../told.json', 'w').write(json.dumps([order['settings'], "
          "int(sitk.GetArrayFromImage(sitk.ReadImage('mask.mha')).sum())]))" + FILL)  # fmt: skip
    effect.growSpinBox.setValue(1.5)
    click(effect.applyButton)
    assert sharedLogic().running
    assert (effect.applyButton.enabled, effect.cancelButton.enabled) == (False, True)
    wait(lambda: not sharedLogic().running)
    assert module.errors == []
    assert "1 lesion(s) filled" in effect.statusLabel.text
    assert (effect.applyButton.enabled, effect.cancelButton.enabled) == (True, False)
    result = slicer.util.getNode("patient inpainted (synthetic)")
    np.testing.assert_array_equal(voxels(result), voxels(case.volume))
    assert results.input_of(result) is case.volume
    assert results.report_of(result)["settings"]["grow"] == 1.5
    assert views.is_shown(result)
    assert effect._mark.isShownIn("Red")


@pytest.fixture
def shown(effect, child, case):
    """A result that is shown, and the display node of the segments, which have a fill before."""
    child(FILL)
    node = effect.scriptedEffect.parameterSetNode()
    node.SetActiveEffectName("Inpaint")
    node.GetSegmentationNode().CreateDefaultDisplayNodes()
    click(effect.applyButton)
    wait(lambda: not sharedLogic().running)
    return slicer.util.getNode("patient inpainted (synthetic)"), node.GetSegmentationNode().GetDisplayNode()


@pytest.mark.parametrize(("tool", "opacity"), [("Paint", 0), ("", 1)])
def test_the_fill_is_seen_below_the_outline_until_another_tool_is_taken_up(effect, shown, tool, opacity):
    _result, display = shown
    view = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    assert (display.GetVisibility2DFill(), view.GetForegroundOpacity()) == (0, 1)
    effect.scriptedEffect.parameterSetNode().SetActiveEffectName(tool)
    effect.deactivate()
    assert (display.GetVisibility2DFill(), view.GetForegroundOpacity()) == (1, opacity)


def test_a_fill_that_the_user_has_hidden_stays_hidden(effect, shown):
    _result, display = shown
    effect.deactivate()
    display.SetVisibility2DFill(False)
    effect._showOutline()
    effect.deactivate()
    assert not display.GetVisibility2DFill()


def test_a_result_that_cannot_be_shown_is_there_and_the_effect_says_so(effect, shown, module, monkeypatch):
    result, _display = shown
    monkeypatch.setattr(views, "compare", lambda *given: 1 / 0)
    effect.onDone(result)
    assert module.errors == [
        "The result 'patient inpainted (synthetic)' was added, but it cannot be shown (division by zero): see the "
        "application log."
    ]
    assert result.GetScene() is not None
    assert effect.applyButton.enabled


def test_cancel_leaves_the_scene_as_it_was(effect, child, scene, module):
    child(AT_WORK)
    before = contents(scene)
    click(effect.applyButton)
    wait(lambda: "aligning" in effect.statusLabel.text)
    click(effect.cancelButton)
    assert not sharedLogic().running
    assert effect.statusLabel.text == "Cancelled: nothing was changed."
    assert effect.applyButton.enabled
    assert [each for each in contents(scene) if each not in before and "ScriptedModule" not in each] == []
    assert module.errors == []


def test_panel_and_effect_share_one_child_and_one_run(effect, child, panel, case, module):
    child(AT_WORK)
    assert panel.logic is sharedLogic()
    click(effect.applyButton)
    panel.ui.inpaintButton.inner.click()
    panel._update()
    assert "under way" in panel.ui.inpaintButton.toolTip
    click(panel.ui.cancelButton)
    assert effect.statusLabel.text == "Cancelled: nothing was changed."
    click(panel.ui.inpaintButton)
    effect.onApply()
    assert module.errors == ["Inpainting is under way: wait for it or cancel it."]
    effect.cleanup()
    assert panel.logic.running  # it is the run of the panel
    panel.logic.cancel()


def test_what_cannot_be_filled_is_said(effect, module, scene):
    node = effect.scriptedEffect.parameterSetNode()
    node.SetSelectedSegmentID(node.GetSegmentationNode().GetSegmentation().AddEmptySegment("", "empty"))
    click(effect.applyButton)
    node.SetAndObserveSourceVolumeNode(None)
    click(effect.applyButton)
    assert module.errors == [
        "The segment 'empty' is empty: paint the lesion first.",
        "There is no source volume: choose the T1-weighted brain MRI above.",
    ]
    assert effect.applyButton.enabled


@pytest.mark.parametrize("end", ["scene", "editor"])
def test_a_run_ends_with_the_scene_and_with_the_editor(effect, child, scene, module, end):
    child(AT_WORK)
    click(effect.applyButton)
    scene.Clear(0) if end == "scene" else effect.cleanup()
    assert not sharedLogic().running
    assert module.errors == []


def test_an_editor_that_is_destroyed_leaves_no_observers_and_no_marks(effect, scene):
    observers = [scene.HasObserver(scene.StartCloseEvent)]
    effect._mark = sys.modules["MedInpaintEffect"].SyntheticMark()
    mark = effect._mark
    effect.cleanup()
    assert observers == [1]
    assert mark.Observations == []
    assert effect._mark is None
    scene.Clear(0)  # nobody is called who is gone
