"""MedInpaint.py as Slicer loads it: the classes that Slicer looks for by name, and what loading it costs."""

import subprocess
import sys
import unittest
from pathlib import Path

import desktop
import pytest


@pytest.mark.parametrize("kind", ["", "Logic", "Test", "Widget"])
def test_slicer_finds_the_classes_by_name_and_the_module_by_the_names_of_the_classes(module, kind):
    assert getattr(module, f"MedInpaint{kind}").__name__ == f"MedInpaint{kind}"


def test_a_test_runner_finds_the_tests_in_the_module(module):
    found = unittest.TestLoader().loadTestsFromModule(module)
    names = {test.id().rpartition(".")[2] for suite in found for test in suite}
    assert names == {name for name in dir(module.MedInpaintTest) if name.startswith("test_")}
    assert len(names) > 3


def test_loading_the_module_loads_no_heavy_libraries():
    code = (
        "import sys, slicer, slicer.util, desktop\n"
        "before = set(sys.modules)\n"
        "desktop.install()\n"
        "desktop.load_module()\n"
        "print('loaded:', *set(sys.modules) - before)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(desktop.__file__).parent, capture_output=True, text=True
    )
    loaded = set(run.stdout.partition("loaded:")[2].split())
    assert "MedInpaintLib.slicer.logic" in loaded, run.stderr
    assert loaded & {"torch", "scipy", "SimpleITK"} == set()
