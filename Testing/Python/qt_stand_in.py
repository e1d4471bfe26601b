"""PySide6 under the name `qt`, by which Slicer's Python knows PythonQt: real signals, processes, widgets."""

import os
import sys
import types

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def application():
    """Qt's application. There is one at most; this one has widgets, which the tests of the panel need."""
    widgets = pytest.importorskip("PySide6.QtWidgets")
    return widgets.QApplication.instance() or widgets.QApplication([])


def qt_module() -> types.ModuleType:
    """A module with the names of QtCore and QtWidgets."""
    core, widgets = (pytest.importorskip(f"PySide6.{name}") for name in ("QtCore", "QtWidgets"))
    qt = types.ModuleType("qt")
    qt.__getattr__ = lambda name: getattr(core if hasattr(core, name) else widgets, name)
    return qt


def install() -> None:
    """Let `import qt` find it from now on."""
    application()
    sys.modules["qt"] = qt_module()
