"""The samples, registered in Slicer's Sample Data module as each version of Slicer takes them."""

import hashlib
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import desktop
import editor_effects
import pytest
import slicer
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.slicer.samples import registerSampleData


@pytest.mark.parametrize("logic", [desktop.SampleDataLogic510, desktop.SampleDataLogic], ids=["5.10", "5.12 and later"])
def test_the_registered_samples_are_the_shipped_files(module, monkeypatch, logic):
    monkeypatch.setattr(sys.modules["SampleData"], "SampleDataLogic", logic)
    registerSampleData()
    sources = slicer.modules.sampleDataSources["MedInpaint"]
    assert [source.sampleName for source in sources] == ["MS patient", "Healthy head"]
    for source in sources:
        assert Path(source.thumbnailFileName).is_file()
        assert source.loadFileTypes == ["VolumeFile", "SegmentationFile"]
        for uri, name, checksum in zip(source.uris, source.fileNames, source.checksums, strict=True):
            path = resources_folder() / "SampleData" / name
            assert unquote(urlparse(uri).path) == path.as_posix()
            assert checksum == "SHA256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_documents_name_samples_that_are_registered(module):
    registerSampleData()
    names = {source.sampleName for source in slicer.modules.sampleDataSources["MedInpaint"]}
    text = (desktop.MODULE.parents[1] / "Resources" / "Documentation" / "slicer.md").read_text(encoding="utf-8")
    called = re.findall(r'downloadSamples\("(.+?)"\)', text) + re.findall(r"\*Sample Data > MedInpaint > (.+?)\*", text)
    assert called
    assert set(called) <= names


def test_the_samples_are_registered_once_the_application_has_started(module, monkeypatch):
    editor_effects.install(monkeypatch)  # the effect is registered at the same time
    module.MedInpaint(desktop.module_named("parent"))
    assert slicer.modules.sampleDataSources == {}
    slicer.app.emit("startupCompleted()")
    assert list(slicer.modules.sampleDataSources) == ["MedInpaint"]
