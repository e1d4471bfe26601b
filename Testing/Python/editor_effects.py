"""Stand-ins for what an effect of Slicer's Segment Editor meets; see desktop.py, and the list in developers.md.

They have the names and the signatures of the originals, and refuse everything else.
"""

import sys
import types
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import slicer
from desktop import Proxy, module_named
from PySide6 import QtGui, QtWidgets


class EditorProxy(Proxy):
    """A widget that an effect makes itself, in PythonQt's manners."""

    def disconnect(self, signature, slot):
        getattr(self.inner, signature.partition("(")[0]).disconnect(slot)


def made(kind, *given):
    return EditorProxy(kind(*given))


def widgets():
    """The module `qt` as an effect sees it."""
    qt = types.ModuleType("qt")
    for name in ("QDoubleSpinBox", "QPushButton", "QProgressBar", "QLabel"):
        setattr(qt, name, partial(made, getattr(QtWidgets, name)))
    qt.QIcon = QtGui.QIcon
    return qt


class AbstractScriptedSegmentEditorEffect:
    def __init__(self, scriptedEffect):
        self.scriptedEffect = scriptedEffect

    def register(self):
        slicer.qSlicerSegmentEditorEffectFactory.instance().registerEffect(self.scriptedEffect)

    def cleanup(self):
        pass


class qSlicerSegmentEditorEffectFactory:
    def __init__(self):
        self.effects = {}

    def instance(self):
        return self

    def activated(self, name, node):
        """A clone as an editor with this node has it: with options and parameters, and active."""
        clone = self.effects[name].self().clone()
        clone.setParameterSetNode(node)
        effect = clone.self()
        effect.setupOptionsFrame()
        effect.setMRMLDefaults()
        effect.activate()
        effect.updateGUIFromMRML()
        return clone

    def registerEffect(self, effect):
        assert effect.name, "an effect needs a name"
        assert effect.name not in self.effects, "an effect of this name is registered"
        self.effects[effect.name] = effect


class qSlicerSegmentEditorScriptedEffect:
    """Its parameters are attributes of a real parameter node, under the name of the effect."""

    __slots__ = ("_node", "_self", "name", "options", "perSegment", "requireSegments", "showEffectCursorInSliceView",
                 "source", "title")  # fmt: skip

    def __init__(self, parent=None):
        self.name, self.title, self.options = "UnnamedScriptedEffect", "", []
        self.perSegment = self.requireSegments = self.showEffectCursorInSliceView = True
        self._node = self._self = self.source = None

    def setPythonSource(self, newPythonSource):
        assert newPythonSource.endswith(".py")
        assert "\\" not in newPythonSource
        path = Path(newPythonSource)
        name, kind = path.parent.name, path.stem
        assert kind.endswith("Effect")
        if not hasattr(sys.modules.get(name), kind):
            spec = spec_from_file_location(name, path)
            module = sys.modules[name] = module_from_spec(spec)
            spec.loader.exec_module(module)
            module.qt = widgets()
        self._self, self.source = getattr(sys.modules[name], kind)(self), newPythonSource
        return True

    def self(self):
        return self._self

    def parameterSetNode(self):
        return self._node

    def setParameterSetNode(self, node):
        assert node.IsA("vtkMRMLSegmentEditorNode")
        self._node = node

    def parameter(self, name):
        return self._node.GetAttribute(f"{self.name}.{name}") or ""

    def setParameter(self, name, value):
        assert isinstance(value, (str, int, float))
        self._node.SetAttribute(f"{self.name}.{name}", str(value))

    def setParameterDefault(self, name, value):
        if not self.parameter(name):
            self.setParameter(name, value)

    def addOptionsWidget(self, newOptionsWidget):
        assert isinstance(newOptionsWidget, Proxy)
        self.options.append(newOptionsWidget)

    def addLabeledOptionsWidget(self, label, newOptionsWidget):
        assert isinstance(label, str)
        self.addOptionsWidget(newOptionsWidget)


def install(monkeypatch):
    """Let the effect be registered and loaded; returns the factory, which has what is registered."""
    factory = qSlicerSegmentEditorEffectFactory()
    monkeypatch.setattr(slicer, "qSlicerSegmentEditorEffectFactory", factory, raising=False)
    monkeypatch.delitem(sys.modules, "MedInpaintEffect", raising=False)
    for module in (
        module_named("SegmentEditorEffects", AbstractScriptedSegmentEditorEffect=AbstractScriptedSegmentEditorEffect),
        module_named(
            "qSlicerSegmentationsEditorEffectsPythonQt",
            qSlicerSegmentEditorScriptedEffect=qSlicerSegmentEditorScriptedEffect,
        ),
    ):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return factory
