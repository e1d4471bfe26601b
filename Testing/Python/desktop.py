"""Stand-ins for what only Slicer's desktop has, so that MedInpaint.py can be imported and its panel be used in a test.

Qt is real: PySide6 with PythonQt's manners (properties are attributes, `connect` takes a signature). The MRML scene and
its nodes are real too. Slicer's and CTK's own widgets and functions have the signatures of the originals and refuse
everything else, also what the originals only complain about in the log. Resources/Documentation/developers.md names the
originals. None of this shows what the desktop does: it shows that the module's code runs and what it asks for.
"""

import enum
import os
import sys
import time
import types
import typing
import unittest
from importlib.util import module_from_spec, spec_from_file_location

import slicer
import slicer.util
import vtk
from MedInpaintLib.resources import resources_folder
from PySide6 import QtCore, QtUiTools, QtWidgets
from PySide6.QtCore import Property, QMetaObject, Signal
from qt_stand_in import install as install_qt

MODULE = resources_folder().parent / "MedInpaint.py"
COPY = """
import SimpleITK as sitk, shutil
from MedInpaintLib.slicer.child.exchange import FILLED, GENERATED, MASK, REPORT, SCAN, UNCERTAINTY
shutil.copy(SCAN, FILLED)
sitk.WriteImage(sitk.Cast(sitk.ReadImage(SCAN), sitk.sitkFloat32), GENERATED)
open(REPORT, "w").write(json.dumps({"lesion": {}}))
"""
DONE = """
os.chdir("..")
print(json.dumps({"event": "done"}), flush=True)
"""  # with COPY, a child that gives back the scan
FILL = (
    COPY
    + """
report = {
    "lesion": {"volume_ml": 1.25, "count": 1}, "seconds": {"total": 2.0}, "seam": 1.0, "warnings": [], "device": "cpu",
    "alignment": {"quality": 0.9, "poor": False, "reused": False}, "contrast": {"name": "T1"},
    "versions": {"medinpaint": "1"}, "model": {"name": "vae3"},
    "settings": order["settings"], "lesions": [],
}
open(REPORT, "w").write(json.dumps(report))
"""
    + DONE
)  # a child that fills and reports
AT_WORK = """
print(json.dumps({"event": "progress", "fraction": 0.5, "stage": "aligning", "message": "brain"}), flush=True)
time.sleep(60)
"""


def exists(pid):
    """Whether there is a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- PythonQt


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

        def call(*given):
            result = found(*(x.inner if isinstance(x, Proxy) else x for x in given))
            return Proxy(result) if isinstance(result, QtCore.QObject) else result

        return call

    def __setattr__(self, name, value):
        assert self.inner.metaObject().indexOfProperty(name) >= 0, f"{type(self.inner).__name__} has no property {name}"
        self.inner.setProperty(name, value)

    def connect(self, signature, slot):
        name = signature.partition("(")[0]
        if signature not in getattr(self.inner, "SIGNALS", ()):
            normalised = bytes(QMetaObject.normalizedSignature(signature)).decode()
            known = self.inner.metaObject().indexOfSignal(normalised)
            assert known >= 0, f"{type(self.inner).__name__} has no signal {signature}"
        getattr(self.inner, name).connect(slot)


def held(kind, default=None):
    """A Qt property that holds what it is given."""
    values = {}
    return Property(kind, lambda self: values.get(self, default), lambda self, value: values.__setitem__(self, value))


def switches(*names, default=False):
    """Properties of this name that are true or false."""
    return {name: held(bool, default) for name in names}


# --- widgets of Slicer and CTK


class qMRMLWidget(QtWidgets.QWidget):
    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def setMRMLScene(self, scene):
        self._scene = scene

    def mrmlScene(self):
        return self._scene


class qMRMLNodeComboBox(QtWidgets.QWidget):
    SIGNALS = ("currentNodeChanged(vtkMRMLNode*)", "nodeActivated(vtkMRMLNode*)")
    currentNodeChanged, nodeActivated = Signal(object), Signal(object)
    nodeTypes, hideChildNodeTypes = held("QStringList", []), held("QStringList", [])
    noneDisplay, baseName = held(str, "None"), held(str, "")
    locals().update(
        switches("noneEnabled", "addEnabled", "removeEnabled", "editEnabled", "renameEnabled", "showHidden"),
        **switches("showChildNodeTypes", "selectNodeUponCreation", default=True),
    )

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node, self._attributes = None, {}

    def setMRMLScene(self, scene):
        pass

    def addAttribute(self, nodeType, attributeName, attributeValue=None):
        assert nodeType in self.nodeTypes
        self._attributes[attributeName] = attributeValue

    def currentNode(self):
        return self._node

    def setCurrentNode(self, node):
        assert node is None or any(node.IsA(kind) for kind in self.nodeTypes), f"{node.GetClassName()} is not listed"
        if node is not self._node:
            self._node = node
            self.currentNodeChanged.emit(node)

    def activate(self, node):
        """What the original does when the user chooses a node."""
        self.setCurrentNode(node)
        self.nodeActivated.emit(node)


class qMRMLSortFilterProxyModel(QtCore.QObject):
    hiddenNodeIDs = held("QStringList", [])


class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Its nodes are those of the scene, in their order. A node that was hidden comes back without its tick.

    It refuses to tick a node that it does not list, which the original passes over in silence.
    """

    SIGNALS = (*qMRMLNodeComboBox.SIGNALS, "checkedNodesChanged()")
    checkedNodesChanged = Signal()

    def __init__(self, parent=None):
        super().__init__(parent)
        self._ticked, self._model = set(), qMRMLSortFilterProxyModel(self)

    def sortFilterProxyModel(self):
        return self._model

    def nodes(self):
        assert not self.showChildNodeTypes
        hidden = self._model.hiddenNodeIDs
        return [
            node for node in slicer.mrmlScene.GetNodes()
            if node.GetClassName() in self.nodeTypes and node.GetID() not in hidden
        ]  # fmt: skip

    def checkedNodes(self):
        return [node for node in self.nodes() if node.GetID() in self._known()]

    def _known(self):
        self._ticked &= {node.GetID() for node in self.nodes()}
        return self._ticked

    def check(self, node):
        assert node in self.nodes(), f"{node.GetName()} is not listed"
        if node.GetID() not in self._known():
            self._ticked.add(node.GetID())
            self.checkedNodesChanged.emit()

    def uncheck(self, node):
        assert node in self.nodes(), f"{node.GetName()} is not listed"
        if node.GetID() in self._known():
            self._ticked.remove(node.GetID())
            self.checkedNodesChanged.emit()


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Its state is in a real parameter node. It refuses what the original logs as an error."""

    SIGNALS = ("currentSegmentIDChanged(QString)",)
    currentSegmentIDChanged = Signal(str)
    maximumNumberOfUndoStates = held(int, 10)
    locals().update(
        switches("unorderedEffectsVisible", "segmentationNodeSelectorVisible", "sourceVolumeNodeSelectorVisible"),
        **switches("switchToSegmentationsButtonVisible", "autoShowSourceVolumeNode", "readOnly", default=True),
    )

    def __init__(self, parent=None):
        super().__init__(parent)
        self._parameters, self.shortcuts, self.observesViews, self.effects = None, False, False, None
        self._active = None  # the effect, if it is one that was registered

    def _node(self):
        assert self._parameters is not None, "Invalid segment editor parameter set node"
        return self._parameters

    def mrmlSegmentEditorNode(self):
        return self._parameters

    def setMRMLSegmentEditorNode(self, node):
        assert node is None or node.IsA("vtkMRMLSegmentEditorNode")
        self._parameters = node

    def updateWidgetFromMRML(self):
        pass

    def segmentationNode(self):
        return self._parameters.GetSegmentationNode() if self._parameters else None

    def setSegmentationNode(self, node):
        assert node is None or self._parameters is not None, "need to set segment editor node first"
        if self.segmentationNode() is node:
            return
        self._node().SetAndObserveSegmentationNode(node)
        if node is not None:
            self.setSourceVolumeNode(node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()))
            if node.GetSegmentation().GetNumberOfSegments():
                self._node().SetSelectedSegmentID(node.GetSegmentation().GetNthSegmentID(0))
        self.setActiveEffect(None)

    def sourceVolumeNode(self):
        return self._parameters.GetSourceVolumeNode() if self._parameters else None

    def setSourceVolumeNode(self, node):
        ready = self._parameters is not None and self.segmentationNode() is not None
        assert node is None or ready, "need to set segment editor and segmentation nodes first"
        if ready:
            self._parameters.SetAndObserveSourceVolumeNode(node)

    def currentSegmentID(self):
        return self._node().GetSelectedSegmentID() or ""

    def setCurrentSegmentID(self, segmentID):
        self._node().SetSelectedSegmentID(segmentID)

    def activeEffect(self):
        return self._active

    def setActiveEffect(self, effect):
        assert effect is None, "give effects by name"
        if self._parameters is not None:
            self._parameters.SetActiveEffectName("")
        if self._active is not None:
            self._active.self().deactivate()
        self._active = None

    def setActiveEffectByName(self, effectName):
        factory = getattr(slicer, "qSlicerSegmentEditorEffectFactory", None)
        registered = factory is not None and effectName in factory.effects
        assert registered if self.effects is None else effectName in self.effects, "the effect is not shown"
        self._node().SetActiveEffectName(effectName)
        self._active = factory.activated(effectName, self._node()) if registered else None
        self.observesViews = True

    def setEffectNameOrder(self, effectNames):
        self.effects = list(effectNames)

    def setMaximumNumberOfUndoStates(self, number):
        self.maximumNumberOfUndoStates = number

    def removeViewObservations(self):
        self.observesViews = False

    def installKeyboardShortcuts(self, parent=None):
        self.shortcuts = True

    def uninstallKeyboardShortcuts(self):
        self.shortcuts = False


class ctkCollapsibleButton(QtWidgets.QWidget):
    text, collapsed, collapsedHeight = held(str, ""), held(bool, False), held(int, 14)


class ctkPathLineEdit(QtWidgets.QWidget):
    currentPathChanged = Signal(str)
    filters, showHistoryButton, showBrowseButton = held(str), held(bool, True), held(bool, True)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.line = QtWidgets.QLineEdit(self)
        self.line.textChanged.connect(self.currentPathChanged)

    currentPath = Property(str, lambda self: self.line.text(), lambda self, path: self.line.setText(path))

    def setCurrentPath(self, path):
        self.line.setText(path)


class ctkSliderWidget(QtWidgets.QDoubleSpinBox):
    pass


STAND_INS = (
    qMRMLWidget, qMRMLNodeComboBox, qMRMLCheckableNodeComboBox, qMRMLSegmentEditorWidget, ctkCollapsibleButton,
    ctkPathLineEdit, ctkSliderWidget,
)  # fmt: skip


# --- slicer.util


def loadUI(path):
    """The panel's widgets as Qt makes them of the .ui file."""
    loader = QtUiTools.QUiLoader()
    for kind in STAND_INS:
        loader.registerCustomWidget(kind)
    widget = loader.load(str(path))
    assert widget is not None, loader.errorString()
    return Proxy(widget)


def childWidgetVariables(widget):
    named = [child for child in widget.inner.findChildren(QtWidgets.QWidget) if child.objectName()]
    return types.SimpleNamespace(**{child.objectName(): Proxy(child) for child in named})


class WaitCursor:
    def __init__(self, show=True):
        pass

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        pass


def dialogues(shown):
    """The functions that show a dialogue; their texts are appended to `shown`. The user says yes."""

    def errorDisplay(text, windowTitle=None, parent=None, standardButtons=None):
        shown.append(text)

    def confirmOkCancelDisplay(text, windowTitle=None, parent=None):
        shown.append(text)
        return True

    return {"errorDisplay": errorDisplay, "confirmOkCancelDisplay": confirmOkCancelDisplay}


def pip_install(requirements):
    raise AssertionError(f"a test would install {requirements}")


# --- slicer.app


class Slots:
    """An object with these signals."""

    SIGNALS = ()

    def __init__(self):
        self.slots = []

    def connect(self, signal, slot):
        assert signal in self.SIGNALS
        self.slots.append((signal, slot))

    def disconnect(self, signal, slot):
        self.slots = [known for known in self.slots if known != (signal, slot)]

    def emit(self, signal, *values):
        for slot in [slot for known, slot in self.slots if known == signal]:
            slot(*values)


class Application(Slots):
    SIGNALS = ("startupCompleted()", "aboutToQuit()")

    def __init__(self, layoutManager=None):
        super().__init__()
        self._layoutManager = layoutManager

    def layoutManager(self):
        return self._layoutManager

    def processEvents(self):
        QtWidgets.QApplication.processEvents()


class LayoutManager(Slots):
    """Slice views with real nodes and a real renderer each; nothing is rendered."""

    SIGNALS = ("layoutChanged(int)",)

    def __init__(self, scene, names=("Red", "Green", "Yellow")):
        super().__init__()
        self._widgets = {name: SliceWidget(scene, name) for name in names}

    def sliceViewNames(self):
        return tuple(self._widgets)

    def sliceWidget(self, name):
        return self._widgets[name]


class SliceWidget:
    def __init__(self, scene, name):
        self._composite, self._slice = (
            self._add(scene, kind, name) for kind in ("vtkMRMLSliceCompositeNode", "vtkMRMLSliceNode")
        )
        self._view = SliceView()

    @staticmethod
    def _add(scene, kind, name):
        node = scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        node.SetSingletonTag(name)  # it stays when the scene is closed
        node.SetLayoutName(name)
        return scene.AddNode(node)

    def mrmlSliceCompositeNode(self):
        return self._composite

    def mrmlSliceNode(self):
        return self._slice

    def sliceView(self):
        return self._view


class SliceView:
    def __init__(self):
        self._renderers, self.scheduled = vtk.vtkRendererCollection(), 0
        self._renderers.AddItem(vtk.vtkRenderer())

    def renderWindow(self):
        return types.SimpleNamespace(GetRenderers=lambda: self._renderers)

    def scheduleRender(self):
        self.scheduled += 1


# --- slicer.parameterNodeWrapper


class WithinRange:
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum


def connector(widget, kind):
    """How Slicer connects a widget to a parameter of this type: its class, its signal, how to read and write it."""
    kind = typing.get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    inner = widget.inner
    if typing.get_origin(kind) is typing.Union or issubclass(kind, slicer.vtkMRMLNode):
        return qMRMLNodeComboBox, inner.currentNodeChanged, widget.currentNode, widget.setCurrentNode
    if issubclass(kind, enum.Enum):
        choices = list(kind)
        if not inner.count():
            inner.addItems([choice.label() for choice in choices])
        read, write = lambda: choices[inner.currentIndex()], lambda value: inner.setCurrentIndex(choices.index(value))
        return QtWidgets.QComboBox, inner.currentIndexChanged, read, write
    if kind is bool:
        return QtWidgets.QCheckBox, inner.stateChanged, inner.isChecked, inner.setChecked
    box = {int: QtWidgets.QSpinBox, float: QtWidgets.QDoubleSpinBox}[kind]
    return box, inner.valueChanged, inner.value, inner.setValue


def parameterNodeWrapper(described):
    """Fields with their defaults, kept with a parameter node, which is modified when one changes."""
    fields = typing.get_type_hints(described, include_extras=True)
    lists = {name for name, kind in fields.items() if typing.get_origin(kind) is list}
    defaults = {name: getattr(described, name, [] if name in lists else None) for name in fields}

    class Wrapper:
        dataTypes, allDefaults = fields, defaults

        def __init__(self, node):
            values = node.__dict__.setdefault("values", dict(defaults))
            self.__dict__.update(parameterNode=node, values=values, connected={}, writing=False)

        def AddObserver(self, event, callback, priority=0.0):
            return self.parameterNode.AddObserver(event, callback, priority)

        def RemoveObserver(self, tag):
            self.parameterNode.RemoveObserver(tag)

        def __getattr__(self, name):
            value = self.values[name]
            if name in lists:
                return [node if node.GetScene() else None for node in value]
            return None if isinstance(value, slicer.vtkMRMLNode) and value.GetScene() is None else value

        def __setattr__(self, name, value):
            assert name not in lists or all(isinstance(node, slicer.vtkMRMLNode) for node in value)
            if self.values[name] != value:
                self.values[name] = value
                self.parameterNode.Modified()

        def connectGui(self, gui):
            pairs = []
            for widget in vars(gui).values():
                name = widget.property("SlicerParameterName")
                if not name:
                    continue
                assert name in fields, f"{widget.objectName} stands for {name}, which is no parameter"
                kind, changed, read, write = connector(widget, fields[name])
                assert type(widget.inner) is kind, f"{name} needs a {kind.__name__}"
                slot = lambda *_, name=name, read=read: self.writing or setattr(self, name, read())  # noqa: E731
                pairs.append((name, changed, slot, write))

            def show(caller=None, event=None):
                if not self.writing:
                    self.__dict__["writing"] = True
                    for name, _, _, write in pairs:
                        write(getattr(self, name))
                    self.__dict__["writing"] = False

            show()
            for _, changed, slot, _ in pairs:
                changed.connect(slot)
            tag = len(self.connected)
            self.connected[tag] = pairs, self.AddObserver(vtk.vtkCommand.ModifiedEvent, show)
            return tag

        def disconnectGui(self, guiTag):
            pairs, observer = self.connected.pop(guiTag)
            self.RemoveObserver(observer)
            for _, changed, slot, _ in pairs:
                changed.disconnect(slot)

    return Wrapper


# --- slicer.ScriptedLoadableModule


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = types.SimpleNamespace(isEntered=True)
        self.container = QtWidgets.QWidget()
        self.layout = Proxy(QtWidgets.QVBoxLayout(self.container))

    def setup(self):
        pass

    def resourcePath(self, filename):
        return str(resources_folder() / filename)

    def onReload(self):
        load_module()


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message, requestedDelay=None, msec=None):
        QtWidgets.QApplication.processEvents()


# --- other modules


class SampleDataLogic510:
    """Of Slicer 5.10."""

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None, customDownloader=None,
        thumbnailFileName=None, loadFileTypes=None, loadFiles=None, loadFileProperties={}, checksums=None,  # noqa: B006
        loadFileType=None,
    ):  # fmt: skip
        assert len(uris) == len(fileNames) == len(nodeNames) == len(loadFileTypes) == len(checksums)
        source = types.SimpleNamespace(**locals())
        slicer.modules.sampleDataSources.setdefault(category, []).append(source)


class SampleDataLogic(SampleDataLogic510):
    """Of Slicer 5.12 and later."""

    @staticmethod
    def registerCustomSampleDataCategory(category, title):
        slicer.modules.sampleDataSourceCategories[category] = {"title": title}


class PyTorchUtilsLogic:
    """What `installed` returns is what installTorch returns: the module torch, or None if the user says no."""

    def __init__(self, installed=lambda requirement: None):
        self._installed = installed

    def installTorch(
        self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None,
        torchvisionVersionRequirement=None,
    ):  # fmt: skip
        assert askConfirmation
        return self._installed(torchVersionRequirement)


# --- how tests use them


def module_named(name, **content):
    module = types.ModuleType(name)
    module.__dict__.update(content)
    return module


def install():
    """Let the imports of the module find these stand-ins from now on."""
    install_qt()
    bases = (
        ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic, ScriptedLoadableModuleTest
    )  # fmt: skip
    for module in (
        module_named("slicer.ScriptedLoadableModule", **{base.__name__: base for base in bases}),
        module_named("slicer.parameterNodeWrapper", parameterNodeWrapper=parameterNodeWrapper, WithinRange=WithinRange),
        module_named("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text),
        module_named("SampleData", SampleDataLogic=SampleDataLogic),
    ):
        sys.modules[module.__name__] = module


def patch_slicer(monkeypatch, scene, shown):
    """Give slicer what the desktop adds to it; the texts of dialogues are appended to `shown`."""
    monkeypatch.setattr(slicer, "app", Application(LayoutManager(scene)), raising=False)
    vars(slicer.modules).update(sampleDataSources={}, sampleDataSourceCategories={})
    monkeypatch.setattr(
        slicer, "qMRMLSegmentEditorWidget", lambda parent=None: Proxy(qMRMLSegmentEditorWidget(parent)), raising=False
    )
    for name, stand_in in {
        "loadUI": loadUI, "childWidgetVariables": childWidgetVariables, "WaitCursor": WaitCursor,
        "pip_install": pip_install, **dialogues(shown),
    }.items():  # fmt: skip
        monkeypatch.setattr(slicer.util, name, stand_in, raising=False)


def load_module():
    """MedInpaint.py as the desktop loads it, the first time and again."""
    spec = spec_from_file_location("MedInpaint", MODULE)
    module = module_from_spec(spec)
    sys.modules["MedInpaint"] = module
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
