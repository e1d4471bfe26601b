"""Stand-ins for what only Slicer's desktop has, so that MedInpaint.py can be imported and its panel be used in a test.

Qt is real: PySide6 behind PythonQt's manners (properties are attributes, `connect` takes a signature). The MRML scene
and its nodes are real too. Slicer's and CTK's own widgets are Qt widgets that know the names used of them and hold what
they are given; the parameter node holds what is written to it. A name that a widget's class does not have is an error,
as in the desktop. None of this shows what the desktop does: it shows that the panel's code runs and what it asks for.
"""

import sys
import time
import types
import typing
import unittest
from contextlib import nullcontext
from importlib.util import module_from_spec, spec_from_file_location

import slicer
import slicer.util
from MedInpaintLib.resources import resources_folder
from PySide6 import QtCore, QtUiTools, QtWidgets
from PySide6.QtCore import Property, QMetaObject, Signal
from qt_stand_in import install as install_qt

MODULE = resources_folder().parent / "MedInpaint.py"
COPY = """
import SimpleITK as sitk, shutil
scan, filled = sys.argv[2], sys.argv[4]
generated, report, *uncertainty = (a.split("=")[1] for a in sys.argv[5:8])
shutil.copy(scan, filled)
sitk.WriteImage(sitk.Cast(sitk.ReadImage(scan), sitk.sitkFloat32), generated)
open(report, "w").write(json.dumps({"image": "scan", "mask": "mask", "lesion": {}}))
"""  # a child that gives back the scan


class Proxy:
    """A Qt object in PythonQt's manners: what Qt calls a property is an attribute, everything else a method."""

    def __init__(self, inner):
        object.__setattr__(self, "inner", inner)

    def __getattr__(self, name):
        if self.inner.metaObject().indexOfProperty(name) >= 0:
            return self.inner.property(name)
        found = getattr(self.inner, name)
        if isinstance(found, QtCore.SignalInstance):
            return found
        return lambda *given: found(*(x.inner if isinstance(x, Proxy) else x for x in given))

    def __setattr__(self, name, value):
        assert self.inner.metaObject().indexOfProperty(name) >= 0, f"{type(self.inner).__name__} has no property {name}"
        self.inner.setProperty(name, value)

    def connect(self, signature, slot):
        normalised = bytes(QMetaObject.normalizedSignature(signature)).decode()
        known = self.inner.metaObject().indexOfSignal(normalised)
        assert known >= 0, f"{type(self.inner).__name__} has no signal {signature}"
        getattr(self.inner, signature.partition("(")[0]).connect(slot)


def held(kind, default=None):
    """A Qt property that holds what it is given."""
    values = {}
    return Property(kind, lambda self: values.get(self, default), lambda self, value: values.__setitem__(self, value))


class qMRMLWidget(QtWidgets.QWidget):
    def setMRMLScene(self, scene):
        self.scene = scene


class qMRMLNodeComboBox(QtWidgets.QComboBox):
    nodeTypes, noneDisplay = held("QStringList"), held(str, "")
    noneEnabled, addEnabled, removeEnabled, renameEnabled = (held(bool) for _ in range(4))
    showChildNodeTypes, selectNodeUponCreation = held(bool), held(bool)

    def addAttribute(self, nodeType, name):
        self.attribute = nodeType, name

    def setCurrentNode(self, node):
        self.clear()
        self.addItem(node.GetName() if node else self.noneDisplay)


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Holds the nodes it is given and notes what else is asked of it."""

    unorderedEffectsVisible, segmentationNodeSelectorVisible = held(bool), held(bool)
    sourceVolumeNodeSelectorVisible, switchToSegmentationsButtonVisible = held(bool), held(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.asked, self.nodes = [], {}
        for name in (
            "installKeyboardShortcuts", "uninstallKeyboardShortcuts", "removeViewObservations", "setActiveEffect",
            "updateWidgetFromMRML", "setMaximumNumberOfUndoStates", "setEffectNameOrder", "setCurrentSegmentID",
            "setActiveEffectByName",
        ):  # fmt: skip
            setattr(self, name, lambda *given, name=name: self.asked.append((name, *given)))

    def segmentationNode(self):
        return self.nodes.get("segmentation")

    def setSegmentationNode(self, node):
        self.nodes["segmentation"] = node

    def sourceVolumeNode(self):
        return self.nodes.get("source")

    def setSourceVolumeNode(self, node):
        self.nodes["source"] = node

    def mrmlSegmentEditorNode(self):
        return self.nodes.get("editor")

    def setMRMLSegmentEditorNode(self, node):
        self.nodes["editor"] = node


class ctkCollapsibleButton(QtWidgets.QWidget):
    text, collapsed = held(str, ""), held(bool, False)


class ctkPathLineEdit(QtWidgets.QLineEdit):
    currentPathChanged = Signal(str)
    filters, showHistoryButton = held(str), held(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.textChanged.connect(self.currentPathChanged)

    currentPath = Property(str, QtWidgets.QLineEdit.text, QtWidgets.QLineEdit.setText)

    def setCurrentPath(self, path):
        self.setText(path)


class ctkSliderWidget(QtWidgets.QDoubleSpinBox):
    pass


STAND_INS = (
    qMRMLWidget, qMRMLNodeComboBox, qMRMLSegmentEditorWidget, ctkCollapsibleButton, ctkPathLineEdit, ctkSliderWidget
)  # fmt: skip


def load_ui(path):
    """The panel's widgets as Qt makes them of the .ui file."""
    loader = QtUiTools.QUiLoader()
    for kind in STAND_INS:
        loader.registerCustomWidget(kind)
    widget = loader.load(str(path))
    assert widget is not None, loader.errorString()
    return Proxy(widget)


def child_widgets(panel):
    named = [child for child in panel.inner.findChildren(QtWidgets.QWidget) if child.objectName()]
    return types.SimpleNamespace(**{child.objectName(): Proxy(child) for child in named})


def parameterNodeWrapper(described):
    """Fields with their defaults, kept with a parameter node, which is modified when one changes."""
    fields = typing.get_type_hints(described)
    defaults = {
        name: getattr(described, name, [] if typing.get_origin(kind) is list else None) for name, kind in fields.items()
    }

    class Wrapper:
        dataTypes, allDefaults = typing.get_type_hints(described, include_extras=True), defaults

        def __init__(self, node):
            held = node.__dict__.setdefault("held", dict(defaults))
            self.__dict__.update(parameterNode=node, held=held, AddObserver=node.AddObserver)
            self.__dict__.update(RemoveObserver=node.RemoveObserver)

        def __getattr__(self, name):
            value = self.held[name]
            return None if isinstance(value, slicer.vtkMRMLNode) and value.GetScene() is None else value

        def __setattr__(self, name, value):
            if self.held[name] != value:
                self.held[name] = value
                self.parameterNode.Modified()

        def connectGui(self, ui):
            for widget in vars(ui).values():
                name = widget.property("SlicerParameterName")
                assert not name or name in self.held, f"{widget.objectName} stands for {name}, which is no parameter"
            return 1

        def disconnectGui(self, tag):
            assert tag == 1

    return Wrapper


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        super().__init__()
        self.parent = types.SimpleNamespace(isEntered=True)
        self.container = QtWidgets.QWidget()
        self.layout = Proxy(QtWidgets.QVBoxLayout(self.container))

    def setup(self):
        pass

    def resourcePath(self, name):
        return str(resources_folder() / name)


class ScriptedLoadableModuleLogic:
    def getParameterNode(self):
        node = slicer.mrmlScene.GetSingletonNode("MedInpaint", "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag("MedInpaint")
            node = slicer.mrmlScene.AddNode(node)
        return node


class SampleDataLogic:
    sources: typing.ClassVar[list] = []

    @staticmethod
    def registerCustomSampleDataCategory(category, title):
        pass

    @classmethod
    def registerCustomSampleDataSource(cls, **source):
        cls.sources.append(source)


def module_named(name, **content):
    module = types.ModuleType(name)
    module.__dict__.update(content)
    return module


def install():
    """Let the imports of the module find these stand-ins from now on."""
    install_qt()
    bases = (ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic)
    scripted = module_named("slicer.ScriptedLoadableModule", **{base.__name__: base for base in bases})
    scripted.ScriptedLoadableModuleTest = unittest.TestCase
    wrapper = module_named("slicer.parameterNodeWrapper", parameterNodeWrapper=parameterNodeWrapper)
    wrapper.WithinRange = lambda low, high: (low, high)
    i18n = module_named("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    samples = module_named("SampleData", SampleDataLogic=SampleDataLogic)
    for module in (scripted, wrapper, i18n, samples):
        sys.modules[module.__name__] = module


def patch_slicer(monkeypatch, errors):
    """Give slicer what the desktop adds to it; sentences that would be shown in dialogues are appended to errors."""
    app = types.SimpleNamespace(connect=lambda *_: None, disconnect=lambda *_: None)
    monkeypatch.setattr(slicer, "app", app, raising=False)
    for name, stand_in in {
        "loadUI": load_ui,
        "childWidgetVariables": child_widgets,
        "errorDisplay": lambda text, **_: errors.append(text),
        "WaitCursor": nullcontext,
    }.items():
        monkeypatch.setattr(slicer.util, name, stand_in, raising=False)


def load_module():
    """MedInpaint.py as the desktop would load it."""
    spec = spec_from_file_location("MedInpaint", MODULE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def click(button):
    button.inner.click()


def wait(condition, seconds=120):
    """Let Qt work until this holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        QtWidgets.QApplication.processEvents()
        time.sleep(0.01)
