"""The logic on real nodes: settings from choices, and runs from the Python console."""

import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import desktop
import numpy as np
import pytest
import slicer
from MedInpaintLib import Cancelled, InputError, Settings
from MedInpaintLib.settings import BLENDINGS, DEVICES
from MedInpaintLib.slicer.logic import MedInpaintLogic
from MedInpaintLib.slicer.parameters import Blending, Device
from MedInpaintLib.slicer.scene import results
from slicer_scene import QUICK, add_volume, contents, scans, voxels

ROOT = desktop.MODULE.parents[1]


def test_an_untouched_panel_has_the_engines_defaults(module):
    assert MedInpaintLogic.settings(MedInpaintLogic().getParameterNode()) == Settings()


def test_every_choice_reaches_the_engine(module, case):
    parameters = MedInpaintLogic().getParameterNode()
    chosen = {
        "lesion": case.labels, "label": 3, "grow": 1.5, "modelFolder": "/my model", "device": Device.CPU,
        "iterations": 7, "priorWeight": 0.7, "window": 9, "weighting": False,
        "prior": False, "slicewise": True, "residual": False, "blending": Blending.SLICES, "noise": True, "seed": 5,
    }  # fmt: skip
    for name, value in chosen.items():
        setattr(parameters, name, value)
    assert MedInpaintLogic.settings(parameters) == Settings(
        "/my model", "cpu", 3, 1.5, 7, 0.7, 9, False, False, True, False, "2d", True, 5
    )


def test_all_devices_and_blendings_of_the_engine_can_be_chosen():
    assert tuple(device.value for device in Device) == DEVICES
    assert tuple(blending.value for blending in Blending) == BLENDINGS
    for choice in (*Device, *Blending):
        assert choice.label()


def test_the_console_fills_the_scan_and_returns_the_new_volume(module, case):
    before, told = voxels(case.volume).copy(), []
    result = MedInpaintLogic().inpaint(
        case.volume, case.labels, settings=QUICK, progress=lambda *event: told.append(event)
    )
    assert result.GetName() == "patient inpainted (synthetic)"
    assert told[-1][0] == 1
    np.testing.assert_array_equal(voxels(case.volume), before)
    np.testing.assert_array_equal(voxels(result)[~case.hole], before[~case.hole])
    assert (voxels(result)[case.hole] != before[case.hole]).mean() > 0.9
    assert results.report_of(result)["settings"] == QUICK.to_dict()


def test_the_console_fills_a_volume_that_is_given_for_the_result(module, case, scene, engine):
    other = add_volume(scene, np.zeros((3, 3, 3), np.float32), name="mine")
    before = contents(scene)
    result = MedInpaintLogic().inpaint(case.volume, case.labels, other, settings=QUICK)
    assert result is other
    assert result.GetName() == "mine"
    assert contents(scene) == before
    np.testing.assert_array_equal(voxels(result)[~case.hole], voxels(case.volume)[~case.hole])


@pytest.mark.parametrize(
    ("settings", "keep", "added"), [
        (QUICK, {}, []),
        (QUICK, {"keepUncertainty": True}, ["patient uncertainty"]),
        (QUICK, {"keepGenerated": True, "keepUncertainty": True},
         ["patient generated (synthetic)", "patient uncertainty"]),
        (replace(QUICK, residual=False), {"keepUncertainty": True}, []),
    ],
)  # fmt: skip
def test_the_console_keeps_what_it_is_asked_to_keep(module, case, engine, settings, keep, added):
    MedInpaintLogic().inpaint(case.volume, case.labels, settings=settings, **keep)
    assert scans() == ["patient", *added, "patient inpainted (synthetic)"]


def test_the_console_fills_a_list_of_scans_with_one_anatomy(module, case, scene):
    other = add_volume(scene, voxels(case.volume) * 2, name="other")
    other.CopyOrientation(case.volume)
    filled = MedInpaintLogic().inpaint([case.volume, other], case.labels, settings=QUICK)
    assert [node.GetName() for node in filled] == ["patient inpainted (synthetic)", "other inpainted (synthetic)"]
    for node, before in zip(filled, (case.volume, other), strict=True):
        np.testing.assert_array_equal(voxels(node)[~case.hole], voxels(before)[~case.hole])
        assert (voxels(node)[case.hole] != voxels(before)[case.hole]).mean() > 0.9
    assert [results.report_of(node)["together"]["scan"] for node in filled] == [1, 2]


@pytest.mark.parametrize(
    ("masks", "output", "words"), [([None], None, "one mask for each scan"), (None, "mine", "leave out the output")]
)
def test_the_console_refuses_a_list_that_does_not_fit(module, case, scene, masks, output, words):
    before = contents(scene)
    given = masks or case.labels
    with pytest.raises(InputError, match=words):
        MedInpaintLogic().inpaint([case.volume, case.volume], given, output and case.volume, settings=QUICK)
    assert contents(scene) == before


@pytest.mark.parametrize("name", ["generated_node", "uncertainty_node", "result_node"])
def test_a_failure_to_add_one_of_the_volumes_leaves_none_of_them(module, case, scene, engine, monkeypatch, name):
    real = getattr(results, name)

    def fail(*given):
        real(*given)
        raise MemoryError

    monkeypatch.setattr(results, name, fail)
    before = contents(scene)
    with pytest.raises(MemoryError):
        MedInpaintLogic().inpaint(case.volume, case.labels, settings=QUICK, keepGenerated=True, keepUncertainty=True)
    assert contents(scene) == before


def test_the_console_can_cancel(module, case, scene, engine):
    def progress(fraction, stage, message):
        if stage == "optimising":
            raise Cancelled

    before = contents(scene)
    with pytest.raises(Cancelled):
        MedInpaintLogic().inpaint(case.volume, case.labels, settings=QUICK, progress=progress)
    assert contents(scene) == before


def test_the_result_never_takes_the_scans_place(module, case, scene, engine):
    before = contents(scene)
    with pytest.raises(InputError, match="The output is the scan itself"):
        MedInpaintLogic().inpaint(case.volume, case.labels, case.volume, settings=QUICK)
    assert contents(scene) == before


def example_with(call):
    """The Python example in the documents that has this call."""
    documents = [ROOT / "README.md", *(ROOT / "Resources" / "Documentation").glob("*.md")]
    text = "".join(document.read_text(encoding="utf-8") for document in documents)
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if f"{call}(" in block]
    assert len(blocks) == 1
    return blocks[0]


def test_the_documented_example_of_the_console_runs(module, case, engine, monkeypatch):
    loaded = types.SimpleNamespace(downloadSamples=lambda name: [case.volume, case.labels])
    monkeypatch.setitem(sys.modules, "SampleData", loaded)
    monkeypatch.setitem(sys.modules, "MedInpaint", module)
    names = {"slicer": slicer}
    exec(example_with("downloadSamples"), names)
    assert names["filled"].GetName() == "patient inpainted (synthetic)"
    layers = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    assert layers.GetForegroundVolumeID() == names["filled"].GetID()


def test_the_documented_loop_over_files_runs(module, case, engine, monkeypatch, tmp_path):
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
    exec(example_with("loadLabelVolume"), {"slicer": slicer})
    assert saved == [("patient inpainted (synthetic)", str(Path("scans/a_filled.nii.gz")))]
    assert scans() == []
