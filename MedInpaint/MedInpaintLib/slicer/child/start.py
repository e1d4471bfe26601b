"""How the child process is started: its program and its environment."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import qt


def command() -> list[str]:
    """The program of the child and its first arguments.

    In Slicer, sys.executable is a launcher: killing it would not end the real interpreter, python-real, beside it.
    """
    folder = os.path.dirname(sys.executable or "")
    python = shutil.which("python-real", path=folder) or shutil.which("python-real") or sys.executable
    return [python, "-m", "MedInpaintLib.slicer.child.server"]


def environment() -> qt.QProcessEnvironment:
    """The environment of this process, in which Slicer's Python finds its libraries, with this package on the path."""
    variables = qt.QProcessEnvironment.systemEnvironment()
    paths = (str(Path(__file__).resolve().parents[3]), variables.value("PYTHONPATH", ""))
    variables.insert("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    variables.insert("PYTHONSAFEPATH", "1")  # the child must not import modules from the working directory
    variables.insert("PYTHONUTF8", "1")
    variables.insert("PYTHONIOENCODING", "utf-8")
    variables.insert("PYTHONUNBUFFERED", "1")
    return variables
