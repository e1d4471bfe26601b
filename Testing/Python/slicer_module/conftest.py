"""Fixtures of the tests of the Slicer module: the stand-ins for the desktop, the sample in a scene, one real run."""

import copy
import sys
import textwrap
import types

import desktop
import MedInpaintLib
import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.models.registry import find_model
from MedInpaintLib.pipeline import Result, inpaint
from MedInpaintLib.volumes.image import affine, like
from slicer_scene import QUICK, add_label_map, add_volume, scene  # noqa: F401  # scene is a fixture

desktop.install()
ORDERED = """
import json, os, sys, time
order = json.loads(sys.stdin.readline() or sys.exit())
os.chdir(order["folder"])
"""


@pytest.fixture(scope="session")
def expected(scan, mask):
    """What the engine gives in this process."""
    return inpaint(scan, mask, QUICK)


@pytest.fixture(scope="session")
def loaded_module():
    return desktop.load_module()


@pytest.fixture
def module(loaded_module, monkeypatch, scene):  # noqa: F811
    """MedInpaint.py in the desktop's stand-ins. `errors` are the sentences it would show in dialogues.

    No child is started before there is a run.
    """
    from MedInpaintLib.slicer.child.process import InpaintingProcess

    monkeypatch.setattr(InpaintingProcess, "prepare", lambda self, model: None)
    loaded_module.errors = []
    desktop.patch_slicer(monkeypatch, scene, loaded_module.errors)
    return loaded_module


@pytest.fixture
def case(module, scene, scan, mask):  # noqa: F811
    """The 2 mm sample in the scene: the node of the scan and that of its lesion, a label map."""
    ras = [np.diag([-1, -1, 1, 1]) @ affine(image) for image in (scan, mask)]
    volume = add_volume(scene, sitk.GetArrayFromImage(scan), ras[0], "patient")
    labels = add_label_map(scene, sitk.GetArrayFromImage(mask), ras[1], "lesion")
    return types.SimpleNamespace(volume=volume, labels=labels, hole=sitk.GetArrayFromImage(mask) > 0)


@pytest.fixture
def panel(module, case):
    """The panel with the sample's scan and lesion chosen, set to one iteration."""
    from MedInpaintLib.slicer.parameters import Device

    widget = module.MedInpaintWidget()
    widget.setup()
    widget.enter()
    widget.parameters = widget.logic.getParameterNode()
    widget.parameters.lesion = case.labels
    widget.parameters.iterations = 1
    widget.parameters.device = Device.CPU
    yield widget
    widget.cleanup()


@pytest.fixture
def engine(expected, monkeypatch):
    """Puts the shared real run in the place of further ones; what it is asked for is in `calls`."""
    calls, report = [], copy.deepcopy(expected.report)

    def shared(image, mask, settings, progress):
        find_model(settings.model)
        calls.append(settings)
        for n, stage in enumerate(("aligning", "optimising", "blending", "done")):
            if progress:
                progress(n / 3, stage, "")
        return Result(
            like(image, sitk.GetArrayFromImage(expected.image)),
            expected.uncertainty if settings.residual else None,
            {**report, "settings": settings.to_dict()},
            generate=lambda: expected.generated,
        )

    monkeypatch.setattr(MedInpaintLib, "inpaint", shared)
    return types.SimpleNamespace(calls=calls, report=report)


@pytest.fixture
def child(tmp_path, monkeypatch):
    """Puts a script of Python in the place of the child. It runs in the folder of the first order, `order`."""
    from MedInpaintLib.slicer.child import process

    def replace_by(code):
        script = tmp_path / "child.py"
        script.write_text(ORDERED + textwrap.dedent(code), encoding="utf-8")
        monkeypatch.setattr(process, "command", lambda: [sys.executable, str(script)])

    return replace_by
