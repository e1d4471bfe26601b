"""The section "Compare" on real nodes, and the mark in the views that show invented tissue."""

import numpy as np
import pytest
import slicer
from desktop import click
from MedInpaintLib.slicer.scene import results
from PySide6.QtGui import QKeySequence
from qt_stand_in import application
from slicer_scene import QUICK, add_segmentation


def layers():
    return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")


def shown():
    """What every slice view shows: background, foreground and its opacity."""
    (state,) = {
        (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID(), view.GetForegroundOpacity()) for view in layers()
    }
    return state


def marks():
    """Whether each slice view says that it shows invented tissue."""
    layout = slicer.app.layoutManager()
    views = [layout.sliceWidget(name).sliceView() for name in layout.sliceViewNames()]
    texts = [view.renderWindow().GetRenderers().GetItemAsObject(0).GetViewProps().GetItemAsObject(0) for view in views]
    assert {text.GetInput() for text in texts} == {"Contains invented tissue (MedInpaint)"}
    return [bool(text.GetVisibility()) for text in texts]


@pytest.fixture
def fill(panel, case, engine):
    """Adds a result with its uncertainty."""

    def add(**options):
        options = {"keepUncertainty": True, **options}
        return panel.logic.inpaint(case.volume, case.labels, settings=QUICK, **options)

    return add


@pytest.fixture
def result(panel, fill):
    """A result that is compared with its scan."""
    result = fill()
    panel.onDone(result)
    return result


def test_a_result_that_is_chosen_is_shown_over_its_scan_at_its_largest_lesion(panel, fill, case):
    first, second = fill(), fill()
    for result in (first, second, first):
        panel.ui.fadeSliderWidget.setValue(0)
        for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            view.JumpSliceByCentering(0, 0, 0)
        panel.ui.resultSelector.inner.activate(result)
        assert panel.parameters.result is result
        assert shown() == (case.volume.GetID(), result.GetID(), 1)
        position = results.world_position(result, results.report_of(result)["lesions"][0]["index"])
        for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            np.testing.assert_allclose([view.GetSliceToRAS().GetElement(n, 3) for n in range(3)], position, atol=1e-6)


def test_a_result_that_comes_with_a_scene_leaves_the_views_as_they_were_saved(panel, fill):
    before = shown()
    panel.parameters.result = fill()
    assert shown() == before
    assert panel.ui.lesionTable.rowCount == 1


def test_the_views_are_linked_only_if_the_user_links_them(panel, result):
    assert not any(view.GetLinkedControl() for view in layers())
    layers()[0].SetLinkedControl(True)
    panel.ui.resultSelector.inner.activate(result)
    assert [view.GetLinkedControl() for view in layers()] == [1, 0, 0]


def test_fading_and_flipping_show_scan_or_result(panel, result, case):
    click(panel.ui.flipButton)
    assert shown() == (case.volume.GetID(), result.GetID(), 0)
    panel.ui.fadeSliderWidget.setValue(30)
    assert shown()[2] == 0.3
    click(panel.ui.flipButton)
    assert shown()[2] == 1
    assert panel.ui.flipButton.inner.shortcut() == QKeySequence("Ctrl+Shift+F")
    assert "Ctrl+Shift+F" in panel.ui.flipButton.toolTip


def test_a_click_on_the_lesion_that_is_current_already_shows_it_again(panel, result):
    table = panel.ui.lesionTable.inner
    table.setCurrentCell(0, 0)
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    position = results.world_position(result, results.report_of(result)["lesions"][0]["index"])
    for _ in range(2):
        for view in views:
            view.JumpSliceByCentering(0, 0, 0)
        table.cellClicked.emit(0, 0)
        for view in views:
            np.testing.assert_allclose([view.GetSliceToRAS().GetElement(n, 3) for n in range(3)], position, atol=1e-6)


def test_whoever_takes_up_a_tool_sees_the_scan_and_the_segments_again(panel, scene, case, result):
    panel.parameters.lesion, _ = add_segmentation(scene, case.hole)
    display = panel.parameters.lesion.GetDisplayNode()
    panel.onDone(result)
    assert (shown()[2], display.GetVisibility2DFill()) == (1, 0)
    panel.lesion.editor.setActiveEffectByName("Erase")
    assert (shown(), display.GetVisibility2DFill()) == ((case.volume.GetID(), result.GetID(), 0), 1)


def test_a_fill_that_the_user_has_hidden_stays_hidden(panel, scene, case, result):
    panel.parameters.lesion, _ = add_segmentation(scene, case.hole)
    display = panel.parameters.lesion.GetDisplayNode()
    display.SetVisibility2DFill(False)
    panel.onDone(result)
    panel.lesion.editor.setActiveEffectByName("Paint")
    assert not display.GetVisibility2DFill()


# --- the uncertainty


def test_the_uncertainty_is_shown_over_the_result_with_a_colour_bar(panel, result, case):
    box = panel.ui.uncertaintyCheckBox
    uncertainty = results.uncertainty_of(result)
    assert (box.enabled, box.checked) == (True, False)
    click(panel.ui.flipButton)
    click(box)
    assert shown() == (result.GetID(), uncertainty.GetID(), 1)
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(uncertainty)
    assert (legend.GetTitleText(), legend.GetVisibility()) == ("SD of the fill", 1)
    click(box)
    assert shown() == (case.volume.GetID(), result.GetID(), 1)


def test_without_an_uncertainty_none_is_offered(panel, result, fill, scene):
    box = panel.ui.uncertaintyCheckBox
    click(box)
    other = fill(keepUncertainty=False)
    panel.ui.resultSelector.inner.activate(other)
    assert (box.enabled, box.checked, shown()[1]) == (False, False, other.GetID())
    panel.ui.resultSelector.inner.activate(result)
    assert box.enabled
    scene.RemoveNode(results.uncertainty_of(result))
    panel.parameters.seed = 1  # any change
    assert not box.enabled


def test_the_tool_hides_the_uncertainty_too(panel, scene, case, result):
    click(panel.ui.uncertaintyCheckBox)
    click(panel.ui.paintButton)
    assert not panel.ui.uncertaintyCheckBox.checked
    assert shown() == (case.volume.GetID(), result.GetID(), 0)


# --- the table


def row_by_heading(table):
    """The texts of a table's only row."""
    assert table.rowCount() == 1
    return {table.horizontalHeaderItem(n).text(): table.item(0, n).text() for n in range(table.columnCount())}


def test_what_a_report_does_not_know_is_a_dash_in_the_table(panel, case, engine, fill):
    for lesion in ({"uncertainty": None}, {}):  # without the residual; of an earlier version
        engine.report["lesions"] = [
            {"volume_ml": 1.2, "index": [1, 2, 3], "ring": 5, "fill": 7, "seam": None, **lesion}
        ]
        panel.parameters.result = fill()
        cells = row_by_heading(panel.ui.lesionTable.inner)
        assert cells == {**cells, "ml": "1.20", "Around": "5", "Filled": "7", "Border": "-"}


def test_borders_are_judged_in_words(panel, engine, fill):
    for seam, word in ((0.9, "good"), (2.25, "check")):
        engine.report["lesions"][0]["seam"] = seam
        panel.parameters.result = fill()
        table = panel.ui.lesionTable.inner
        assert row_by_heading(table)["Border"] == word
        assert f"Seam: {seam}" in table.item(0, 4).toolTip()


def test_the_table_fits_a_narrow_panel(panel, engine, fill):
    engine.report["lesions"] = [
        {"volume_ml": 123.456, "index": [1, 2, 3], "ring": 1234.5, "fill": 1234.5, "uncertainty": 123.4, "seam": 2.2}
    ]
    panel.parameters.result = fill()
    panel.ui.compareCollapsibleButton.collapsed = False
    panel.container.resize(420, 900)
    panel.container.show()
    application().processEvents()
    table = panel.ui.lesionTable.inner
    assert panel.container.width() == 420
    assert table.horizontalHeader().length() <= table.viewport().width()
    assert not table.horizontalScrollBar().isVisible()
    panel.container.hide()


def test_a_result_without_voxels_is_no_error(panel, result):
    result.SetAndObserveImageData(None)
    panel.parameters.seed = 1  # any change
    assert panel.ui.lesionTable.rowCount == 0
    assert not panel.ui.flipButton.enabled
    panel.ui.resultSelector.inner.activate(result)
    panel.comparison.onLesionChosen(0)


# --- the mark


def test_views_that_show_invented_tissue_say_so(panel, fill, case):
    assert marks() == [False] * 3
    result = fill(keepGenerated=True)
    panel.onDone(result)
    assert marks() == [True] * 3
    click(panel.ui.flipButton)
    assert marks() == [False] * 3
    layers()[1].SetBackgroundVolumeID(slicer.util.getNode("patient generated (synthetic)").GetID())
    assert marks() == [False, True, False]
    slicer.util.setSliceViewerLayers(background=case.volume, foreground=results.uncertainty_of(result))
    assert marks() == [False] * 3


def test_the_mark_follows_a_change_of_the_layout_and_goes_with_the_scene(panel, result, scene):
    layers()[0].SetBackgroundVolumeID(result.GetID())
    slicer.app.layoutManager().emit("layoutChanged(int)", 3)
    assert marks()[0]
    for view in layers():
        view.SetBackgroundVolumeID(None)
        view.SetForegroundVolumeID(None)
    assert marks() == [False] * 3


def test_the_nodes_say_that_they_hold_invented_tissue(fill):
    result = fill(keepGenerated=True)
    generated = slicer.util.getNode("patient generated (synthetic)")
    for node in (result, generated):
        assert "(synthetic)" in node.GetName()
        assert "invented tissue" in node.GetDescription()
        assert results.is_synthetic(node)
    assert not results.is_synthetic(results.uncertainty_of(result))
    assert not results.is_synthetic(results.input_of(result))
