"""The tests that are meant for the desktop, run in its stand-ins as far as those reach."""

import sys
import types

import editor_effects
import pytest
import slicer
from MedInpaintLib.slicer import selftest, torch_setup

BEYOND = {"test_saved_scene"}  # it needs the real parameter node
WITH_TORCH = {"test_console", "test_run", "test_cancel", "test_effect_run", "test_second_run"}
ALL = {name for name in dir(selftest.MedInpaintTest) if name.startswith("test_")}


def load(filename, properties={}, returnNode=False):  # noqa: B006, N803  # slicer.util's signature
    return slicer.modules.volumes.logic().AddArchetypeVolume(filename, "scan", 0)


def download(sampleName):  # noqa: N803  # SampleData's signature
    """The sample's scan and a segmentation, as Sample Data gives them."""
    sources = slicer.modules.sampleDataSources["MedInpaint"]
    (source,) = (source for source in sources if source.sampleName == sampleName)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.GetSegmentation().AddEmptySegment()
    return load(source.uris[0].removeprefix("file://")), segmentation


@pytest.fixture
def desk(module, monkeypatch):
    """The panel behind Slicer's functions that open it."""
    module.registerSampleData()
    editor_effects.install(monkeypatch)
    module.registerEffect()
    widget = module.MedInpaintWidget()
    widget.setup()
    representation = types.SimpleNamespace(self=lambda: widget)
    slicer.modules.medinpaint = types.SimpleNamespace(widgetRepresentation=lambda: representation)
    monkeypatch.setattr(
        slicer.util, "selectModule", lambda module: widget.container.show() or widget.enter(), raising=False
    )
    monkeypatch.setattr(slicer.util, "loadVolume", load)
    monkeypatch.setattr(sys.modules["SampleData"], "downloadSamples", download, raising=False)
    yield widget
    widget.cleanup()


def test_a_run_of_the_effect_passes_with_pytorch(desk):
    """The other runs do here what the tests of panel and child do in less time."""
    outcome = selftest.MedInpaintTest("test_effect_run").run()
    assert outcome.wasSuccessful(), outcome.errors + outcome.failures
    assert outcome.skipped == []


@pytest.mark.parametrize("name", sorted(ALL - BEYOND - WITH_TORCH))
def test_what_needs_no_pytorch_passes_where_there_is_none(desk, monkeypatch, name):
    monkeypatch.setattr(torch_setup, "problem", lambda: "PyTorch is not installed.")
    outcome = selftest.MedInpaintTest(name).run()
    assert outcome.wasSuccessful(), outcome.errors + outcome.failures
    assert outcome.skipped == []


def test_reload_and_test_skips_what_needs_pytorch_where_there_is_none(desk, monkeypatch):
    said = []
    monkeypatch.setattr(torch_setup, "problem", lambda: "PyTorch is not installed.")
    monkeypatch.setattr(selftest.MedInpaintTest, "test_saved_scene", lambda self: None)
    monkeypatch.setattr(selftest.MedInpaintTest, "delayDisplay", lambda self, message: said.append(message))
    selftest.MedInpaintTest().runTest()
    skipped = {text.partition(":")[0] for text in said if text.endswith("PyTorch is not installed.")}
    passed = {text.partition(":")[0] for text in said if text.endswith("passed")}
    assert (skipped, passed) == (WITH_TORCH, ALL - WITH_TORCH)


def test_reload_and_test_reports_a_failure(desk, monkeypatch):
    monkeypatch.setattr(selftest.MedInpaintTest, "test_opening", lambda self: self.fail("broken"))
    monkeypatch.setattr(torch_setup, "problem", lambda: "PyTorch is not installed.")
    with pytest.raises(AssertionError, match="broken"):
        selftest.MedInpaintTest().runTest()
