"""The code against the files that come with it: the panel's .ui file and the samples."""

import ast
import re
import xml.etree.ElementTree as ElementTree
from enum import Enum
from pathlib import Path
from typing import get_args, get_origin

import desktop
import MedInpaintLib
import pytest
import slicer
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.slicer.parameters import MedInpaintParameterNode

FILES = [desktop.MODULE, *sorted((Path(MedInpaintLib.__file__).parent / "slicer").rglob("*.py"))]
SOURCE = "".join(path.read_text(encoding="utf-8") for path in FILES)
PANEL = ElementTree.parse(resources_folder() / "UI" / "MedInpaint.ui")
WIDGETS = {widget.get("name"): widget for widget in PANEL.iter("widget")}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b(?:self|panel)\.ui\.(\w+)", SOURCE))))
def test_every_widget_that_the_code_names_is_in_the_panel(name):
    assert name in WIDGETS


def test_every_control_says_what_it_does():
    controls = [
        name for name, widget in WIDGETS.items()
        if not widget.get("class").endswith(("CollapsibleButton", "qMRMLWidget"))
        and not (widget.get("class") == "QLabel" and widget.find("property[@name='text']/string").text)
    ]  # fmt: skip
    assert len(controls) > 25
    assert [name for name in controls if WIDGETS[name].find("property[@name='toolTip']/string") is None] == []


def test_every_parameter_has_the_widget_that_slicer_connects_to_its_type():
    types_ = MedInpaintParameterNode.dataTypes
    for name, widget in WIDGETS.items():
        parameter = widget.findtext("property[@name='SlicerParameterName']/string")
        if parameter is None:
            continue
        kind = types_[parameter]
        kind = get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
        if kind in (int, float):
            assert hasattr(types_[parameter], "__metadata__"), f"{name} needs a range"
        if get_origin(kind) is not None or issubclass(kind, slicer.vtkMRMLNode):
            expected = "qMRMLNodeComboBox"
        elif issubclass(kind, Enum):
            expected = "QComboBox"
        else:
            expected = {int: "QSpinBox", float: "QDoubleSpinBox", bool: "QCheckBox"}[kind]
        assert widget.get("class") == expected, name


def test_every_parameter_is_in_the_panel_or_set_by_its_code():
    shown = {w.findtext("property[@name='SlicerParameterName']/string") for w in WIDGETS.values()}
    by_code = {"model", "modelFolder", "also"}
    assert shown - {None} == set(MedInpaintParameterNode.dataTypes) - by_code
    for name in by_code:
        assert f"self._parameters.{name} = " in SOURCE


def test_the_scene_reaches_every_widget_that_lists_nodes():
    receivers = {
        connection.findtext("receiver") for connection in PANEL.iter("connection")
        if connection.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }  # fmt: skip
    assert receivers == {name for name, widget in WIDGETS.items() if widget.get("class").endswith("NodeComboBox")}


def test_every_text_that_the_code_shows_can_be_translated():
    shown = {"setText", "setToolTip", "errorDisplay", "addItem", "_endRun"}
    calls = [
        node for path in FILES for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)
    ]
    texts = [call.args[0] for call in calls if getattr(call.func, "attr", "") in shown]
    assert len(texts) > 10
    assert [text.value for text in texts if isinstance(text, ast.Constant) and text.value] == []
