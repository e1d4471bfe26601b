"""Further scans of the same head, chosen in the panel and filled together with the first one."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from desktop import DONE, FILL, click, wait
from MedInpaintLib import InputError, Settings
from MedInpaintLib.slicer.child import exchange
from MedInpaintLib.slicer.logic import Job
from MedInpaintLib.slicer.scene import results
from qt_stand_in import application
from slicer_scene import QUICK, add_volume, contents, scans, voxels

BOTH = """
os.chdir(order["folder"])
assert order["also"] == ["2"] and not os.path.exists("2/mask.mha"), order["also"]
hole = sitk.GetArrayFromImage(sitk.ReadImage(MASK)) > 0
for number, folder in ((1, "."), (2, "2")):
    scan = sitk.ReadImage(folder + "/" + SCAN)
    filled = sitk.GetArrayFromImage(scan)
    filled[hole] += number
    filled = sitk.GetImageFromArray(filled)
    filled.CopyInformation(scan)
    sitk.WriteImage(filled, folder + "/" + FILLED)
    for name in (GENERATED, UNCERTAINTY):
        sitk.WriteImage(sitk.Cast(filled, sitk.sitkFloat32), folder + "/" + name)
    report["together"], report["warnings"] = {"scan": number, "of": 2}, [f"Warning {number}."]
    with open(folder + "/" + REPORT, "w") as file:
        json.dump(report, file)
"""
TOGETHER = FILL.removesuffix(DONE) + BOTH


@pytest.fixture
def other(case, scene):
    """A further scan of the head, on the same grid, with voxels of another type."""
    node = add_volume(scene, (voxels(case.volume) * 2).astype(np.float32), name="flair")
    node.CopyOrientation(case.volume)
    return node


@pytest.fixture
def ticked(panel, other):
    """The panel with the further scan ticked."""
    panel.enter()
    panel.ui.alsoFillSelector.check(other)
    wait(lambda: panel.parameters.also == [other])
    return panel


def test_scans_are_offered_but_not_the_chosen_one_nor_label_maps_nor_results(panel, case, other, engine):
    panel.logic.inpaint(case.volume, case.labels, settings=QUICK, keepGenerated=True, keepUncertainty=True)
    panel.enter()
    box = panel.ui.alsoFillSelector
    assert (box.nodes(), box.checkedNodes(), panel.parameters.also) == ([other], [], [])
    box.check(other)
    wait(lambda: panel.parameters.also == [other])
    panel.parameters.inputVolume = other
    assert (box.nodes(), panel.further.volumes) == ([case.volume], ())
    panel.parameters.inputVolume = case.volume
    assert panel.further.volumes == (other,)  # the choice comes back with the scan
    box.uncheck(other)
    wait(lambda: panel.parameters.also == [])


def test_the_choice_survives_that_the_list_is_emptied_while_a_scene_is_loaded(ticked, scene, other):
    box = ticked.ui.alsoFillSelector
    box.uncheck(other)  # as the original does when it reads the scene again
    scene.InvokeEvent(scene.EndImportEvent)
    for _ in range(3):
        application().processEvents()
    assert (box.checkedNodes(), ticked.parameters.also) == ([other], [other])


def test_a_ticked_scan_that_is_deleted_is_not_asked_for(ticked, scene, other, monkeypatch):
    asked = []
    monkeypatch.setattr(ticked.logic, "start", lambda job, *told: asked.append(job.also))
    click(ticked.ui.inpaintButton)
    scene.RemoveNode(other)
    click(ticked.ui.inpaintButton)
    assert asked == [(other,), ()]


def test_both_scans_are_filled_and_their_results_can_be_compared(ticked, module, case, other, child):
    before = [voxels(node).copy() for node in (case.volume, other)]
    child(TOGETHER + DONE)
    click(ticked.ui.inpaintButton)
    wait(lambda: not ticked.logic.running)
    assert module.errors == []
    assert sorted(scans()) == sorted(
        f"{name}{what}" for name in ("patient", "flair") for what in ("", " uncertainty", " inpainted (synthetic)")
    )
    filled = {results.input_of(node): node for node in all_results()}
    for number, (scan, was) in enumerate(zip((case.volume, other), before, strict=True), 1):
        node = filled[scan]
        assert voxels(node).dtype == was.dtype
        np.testing.assert_array_equal(voxels(scan), was)
        np.testing.assert_array_equal(voxels(node)[~case.hole], was[~case.hole])
        np.testing.assert_array_equal(voxels(node)[case.hole], was[case.hole] + number)
        assert results.report_of(node)["together"]["scan"] == number
        assert results.input_of(results.uncertainty_of(node)) is scan
        ticked.ui.resultSelector.inner.activate(node)
        assert ticked.parameters.result is node
    assert "2 scans were filled with one anatomy" in ticked.ui.statusLabel.text
    assert ticked.ui.statusLabel.text.endswith("Warning 1. Warning 2.")
    assert ticked.ui.alsoFillSelector.nodes() == [other]


def test_only_the_first_result_takes_the_place_of_a_chosen_volume(ticked, module, case, other, child, scene):
    mine = ticked.parameters.outputVolume = add_volume(scene, np.zeros((3, 3, 3), np.float32), name="mine")
    child(TOGETHER + DONE)
    click(ticked.ui.inpaintButton)
    wait(lambda: not ticked.logic.running)
    assert module.errors == []
    assert ticked.parameters.result is mine
    assert {node.GetName() for node in all_results()} == {"mine", "flair inpainted (synthetic)"}
    assert results.input_of(mine) is case.volume


def all_results():
    return [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if results.report_of(node)]


FAILURES = {
    "half a result": "os.remove('2/filled.mha')",
    "the results of one scan": "import shutil; shutil.rmtree('2')",
    "another pixel type": "shutil.copy(FILLED, '2/filled.mha')",
}


@pytest.mark.parametrize("code", FAILURES.values(), ids=FAILURES)
def test_without_a_result_of_every_scan_there_is_none(ticked, module, child, scene, code):
    before = contents(scene)
    child(TOGETHER + code + DONE)
    click(ticked.ui.inpaintButton)
    wait(lambda: module.errors)
    assert len(module.errors) == 1
    assert "without a usable result" in module.errors[0]
    assert contents(scene) == before


@pytest.mark.parametrize("number", [1, 2])
def test_a_result_that_cannot_be_added_leaves_none(ticked, module, child, scene, monkeypatch, number):
    real, calls = results.result_node, []

    def fail(*given):
        calls.append(real(*given))
        if len(calls) == number:
            raise MemoryError("no memory")
        return calls[-1]

    monkeypatch.setattr(results, "result_node", fail)
    before = contents(scene)
    child(TOGETHER + DONE)
    click(ticked.ui.inpaintButton)
    wait(lambda: module.errors)
    assert module.errors == ["The result could not be added (no memory): see the application log."]
    assert contents(scene) == before


@pytest.mark.parametrize("which", ["volume", "other"])
def test_a_scan_that_is_deleted_during_the_run_leaves_no_result(ticked, module, child, scene, case, other, which):
    child(TOGETHER + DONE)
    click(ticked.ui.inpaintButton)
    scene.RemoveNode({"volume": case.volume, "other": other}[which])
    before = scans()
    wait(lambda: module.errors)
    assert len(module.errors) == 1
    assert scans() == before


def test_a_deleted_further_scan_is_refused_in_one_sentence(panel, case, other, scene):
    scene.RemoveNode(other)
    before = contents(scene)
    with pytest.raises(InputError, match="A scan that is also to be filled was deleted"):
        panel.logic.start(Job(case.volume, case.labels, QUICK, also=(other,)), print, print, print)
    assert not panel.logic.running
    assert contents(scene) == before


def test_cancel_leaves_the_scene_as_it_was(ticked, module, child, scene):
    before = contents(scene)
    child(TOGETHER + "time.sleep(60)")
    click(ticked.ui.inpaintButton)
    click(ticked.ui.cancelButton)
    application().processEvents()
    assert (ticked.logic.running, contents(scene), module.errors) == (False, before, [])


def test_further_scans_come_over_exactly_and_the_order_names_their_folders(tmp_path):
    scan = sitk.GetImageFromArray(np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7)
    scan.SetMetaData("0010|0010", "Doe^Jane")
    exchange.write_inputs(tmp_path, scan, scan, [scan + 1, scan + 2])
    line = exchange.order(tmp_path, Settings(), 2, ["generated"]).decode()
    folder, _, also, extras = exchange.read_order(line)
    assert (folder, also, extras) == (tmp_path, ["2", "3"], ["generated"])
    for number, name in enumerate(also, 1):
        came = sitk.ReadImage(str(folder / name / exchange.SCAN))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(came), sitk.GetArrayFromImage(scan) + number)
        assert "0010|0010" not in came.GetMetaDataKeys()


def test_the_real_child_fills_both_scans_with_one_anatomy_and_keeps_the_alignment(ticked, module, case, other):
    before = [voxels(node).copy() for node in (case.volume, other)]
    job, ended = Job(case.volume, case.labels, replace(QUICK, iterations=0), also=(other,)), []
    for reused in (False, True):
        ticked.logic.start(job, lambda *told: None, lambda *nodes: ended.append(nodes), ended.append)
        wait(lambda: not ticked.logic.running)
        filled = ended.pop()
        assert not isinstance(filled, str), filled
        reports = list(map(results.report_of, filled))
        assert [report["together"]["scan"] for report in reports] == [1, 2]
        assert reports[0]["alignment"]["reused"] == reused
        for node, was in zip(filled, before, strict=True):
            np.testing.assert_array_equal(voxels(node)[~case.hole], was[~case.hole])
            assert (voxels(node)[case.hole] != was[case.hole]).mean() > 0.9
