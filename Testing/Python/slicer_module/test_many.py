"""Many scans: which scan belongs to which lesion, and a run over all of them on real nodes with a script as child."""

import shutil
import types
from pathlib import Path

import numpy as np
import pytest
import slicer
from desktop import AT_WORK, FILL, click, wait
from MedInpaintLib.slicer.panel import many
from MedInpaintLib.slicer.scene.pairs import pairs_of_folder, pairs_of_scene
from slicer_scene import add_label_map, add_segmentation, add_volume, scans, voxels


def states(panel):
    table = panel.ui.manyTable.inner
    return [table.item(row, 2).text() for row in range(table.rowCount())]


@pytest.fixture
def files(small, tmp_path, monkeypatch):
    """A folder with two pairs and a lesion without a scan, and what Slicer has to load and save files."""
    for name in ("a", "b_c"):
        shutil.copy(small / "scan.nii.gz", tmp_path / f"{name}_T1w.nii.gz")
        shutil.copy(small / "mask.nii.gz", tmp_path / f"{name}_lesions.nii.gz")
    shutil.copy(small / "mask.nii.gz", tmp_path / "d_mask.nii.gz")

    def load(path, kind):
        logic = slicer.modules.volumes.logic()
        node = logic.AddArchetypeVolume(path, Path(path).name, kind)
        if node is None:
            raise RuntimeError
        return node

    def loadVolume(filename, properties={}, returnNode=False):  # noqa: B006, N802, N803
        return load(filename, 0)

    def loadLabelVolume(filename, properties={}, returnNode=False):  # noqa: B006, N802, N803
        return load(filename, 1)

    def saveNode(node, filename, properties={}):  # noqa: B006, N802
        return bool(slicer.modules.volumes.logic().SaveArchetypeVolume(filename, node))

    for stand_in in (loadVolume, loadLabelVolume, saveNode):
        monkeypatch.setattr(slicer.util, stand_in.__name__, stand_in, raising=False)
    return tmp_path


def test_a_lesion_of_the_scene_belongs_to_the_scan_it_was_painted_on_or_is_named_after(module, scene, case):
    other = add_volume(scene, np.ones((4, 4, 4), np.uint8), name="patient 2")
    named = add_label_map(scene, np.ones((4, 4, 4), np.uint8), name="patient 2 lesion")
    painted, _ = add_segmentation(scene, case.hole, name="anything")
    painted.SetReferenceImageGeometryParameterFromVolumeNode(case.volume)
    found = {pair.lesion.GetName(): pair.scan for pair in pairs_of_scene()}
    assert found == {"anything": case.volume, "patient 2 lesion": other, "lesion": None}
    scene.RemoveNode(other)
    scene.RemoveNode(named)
    assert {pair.scan for pair in pairs_of_scene()} == {case.volume}


def test_a_lesion_file_belongs_to_the_only_scan_whose_name_begins_alike(files):
    found = [(pair.scan and pair.scan.name, pair.lesion.name) for pair in pairs_of_folder(files)]
    assert found == [
        ("a_T1w.nii.gz", "a_lesions.nii.gz"), ("b_c_T1w.nii.gz", "b_c_lesions.nii.gz"), (None, "d_mask.nii.gz")
    ]  # fmt: skip
    (files / "a_T2w.nii.gz").touch()
    assert pairs_of_folder(files)[0].scan is None
    assert pairs_of_folder(files)[1].filled == files / "b_c_inpainted.nii.gz"


def test_all_of_the_scene_is_filled_and_what_fails_is_said_in_its_row(panel, scene, child, module, case):
    child(FILL)
    empty, _ = add_segmentation(scene, np.zeros_like(case.hole), name="patient empty")
    click(panel.ui.manySceneButton)
    assert panel.ui.manyTable.inner.item(0, 1).text() == empty.GetName()
    click(panel.ui.manyInpaintButton)
    assert not panel.ui.inpaintButton.enabled
    wait(lambda: not panel.many.running)
    assert states(panel) == ["The segmentation 'patient empty' is empty: paint the lesion first.", "done, 1.25 ml"]
    assert scans() == ["patient", "patient inpainted (synthetic)"]
    assert module.errors == []
    assert panel.ui.inpaintButton.enabled
    assert panel.ui.manyInpaintButton.enabled


def test_a_folder_is_filled_its_results_are_saved_and_nothing_stays_in_the_scene(panel, files, child, monkeypatch):
    child(FILL)
    (files / "b_c_inpainted.nii.gz").write_text("earlier")
    chosen = types.SimpleNamespace(getExistingDirectory=lambda parent, caption: str(files))
    monkeypatch.setattr(many.qt, "QFileDialog", chosen, raising=False)
    before = scans()
    click(panel.ui.manyFolderButton)
    click(panel.ui.manyInpaintButton)
    wait(lambda: not panel.many.running)
    assert states(panel) == [
        "done, 1.25 ml",
        "'b_c_inpainted.nii.gz' is there already: move it away.",
        "There is not one scan with the same beginning of its name: rename the files.",
    ]
    assert scans() == before
    assert (files / "b_c_inpainted.nii.gz").read_text() == "earlier"
    filled = slicer.util.loadVolume(str(files / "a_inpainted.nii.gz"))
    np.testing.assert_array_equal(voxels(filled), voxels(slicer.util.loadVolume(str(files / "a_T1w.nii.gz"))))


def test_a_file_that_cannot_be_read_leaves_no_node_and_the_rest_goes_on(panel, files, child):
    child(FILL)
    (files / "a_lesions.nii.gz").write_text("no image")
    before = scans()
    panel.many._show(pairs_of_folder(files))
    click(panel.ui.manyInpaintButton)
    wait(lambda: not panel.many.running)
    assert states(panel)[:2] == ["A file cannot be read: check that both are images.", "done, 1.25 ml"]
    assert scans() == before


@pytest.mark.parametrize("end", ["cancel", "scene"])
def test_cancel_and_the_end_of_the_scene_end_all_rows(panel, child, scene, case, module, end):
    child(AT_WORK)
    add_label_map(scene, case.hole.astype(np.uint8), name="second")
    click(panel.ui.manySceneButton)
    click(panel.ui.manyInpaintButton)
    wait(lambda: "50 %" in states(panel))
    assert states(panel) == ["50 %", "waiting"]
    if end == "cancel":
        click(panel.ui.cancelButton)
        assert states(panel) == ["cancelled", "cancelled"]
    else:
        scene.Clear(0)
        assert states(panel) == []
    assert not panel.many.running
    assert not panel.logic.running
    assert module.errors == []
