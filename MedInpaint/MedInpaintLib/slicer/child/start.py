"""The bridge to Qt: the engine in a child process, so that the application stays usable and a run can be cancelled.

A process rather than a thread: it can be ended at any moment, and all memory, the GPU's too, is then free again.

Of Qt only what PythonQt (Slicer) and PySide6 (the tests) spell alike is used: methods rather than properties, new-style
connections, and handlers without arguments, so that neither overloads nor the types of signals' arguments matter.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import qt

if TYPE_CHECKING:
    pass


def command() -> list[str]:
    """The program of the child and its first arguments.

    In Slicer, sys.executable is a launcher: ending it would leave the real interpreter running, which lies beside it.
    """
    beside = os.path.dirname(sys.executable or "")
    python = shutil.which("python-real", path=beside) or shutil.which("python-real") or sys.executable
    return [python, "-m", "MedInpaintLib"]


def environment() -> qt.QProcessEnvironment:
    """This process's own environment, in which Slicer's Python finds its libraries, and this package on the path."""
    variables = qt.QProcessEnvironment.systemEnvironment()
    paths = (str(Path(__file__).resolve().parents[3]), variables.value("PYTHONPATH", ""))
    variables.insert("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    variables.insert("PYTHONSAFEPATH", "1")  # modules that lie in the working directory are not the child's business
    variables.insert("PYTHONUTF8", "1")
    variables.insert("PYTHONIOENCODING", "utf-8")
    variables.insert("PYTHONUNBUFFERED", "1")
    return variables
