"""PySide6's QtCore under the name `qt`, by which Slicer's Python knows PythonQt: real signals, real processes."""

import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import MedInpaintLib
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@contextmanager
def process_with_pyside() -> Iterator[types.ModuleType]:
    """MedInpaintLib.process, loaded with this `qt`; other tests find the modules as they were."""
    core, widgets = (pytest.importorskip(f"PySide6.{name}") for name in ("QtCore", "QtWidgets"))
    qt = types.ModuleType("qt")
    qt.__dict__.update({name: getattr(core, name) for name in dir(core) if name.startswith("Q")})
    application = widgets.QApplication.instance() or widgets.QApplication([])  # which the panel's tests need as well
    earlier = {name: sys.modules.pop(name, None) for name in ("qt", "MedInpaintLib.process")}
    sys.modules["qt"] = qt
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
        application.processEvents()
