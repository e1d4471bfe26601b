"""PySide6 under the name `qt`, by which Slicer's Python knows PythonQt: real signals, processes, widgets."""

import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import MedInpaintLib
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def application():
    """Qt's application, of which there is one at most; one with widgets, which the panel's tests need."""
    widgets = pytest.importorskip("PySide6.QtWidgets")
    return widgets.QApplication.instance() or widgets.QApplication([])


def qt_module() -> types.ModuleType:
    """What to put in sys.modules["qt"]."""
    core, widgets = (pytest.importorskip(f"PySide6.{name}") for name in ("QtCore", "QtWidgets"))
    qt = types.ModuleType("qt")
    qt.__getattr__ = lambda name: getattr(core if hasattr(core, name) else widgets, name)
    return qt


@contextmanager
def process_with_pyside() -> Iterator[types.ModuleType]:
    """MedInpaintLib.process, loaded with this `qt`; other tests find the modules as they were."""
    running = application()
    earlier = {name: sys.modules.pop(name, None) for name in ("qt", "MedInpaintLib.process")}
    sys.modules["qt"] = qt_module()
    try:
        yield import_module("MedInpaintLib.process")
    finally:
        for name, module in earlier.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
        vars(MedInpaintLib).pop("process", None)
        if earlier["MedInpaintLib.process"] is not None:
            MedInpaintLib.process = earlier["MedInpaintLib.process"]
        running.processEvents()
