"""The panel of the module: its sections together, and a run from start to end."""

import logging
import sys

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from ...errors import InputError
from ..logic import Job, forgetSharedLogic, sharedLogic
from ..scene import results, views
from ..scene.mark import SyntheticMark
from .comparison import ComparisonSection
from .further import FurtherSection
from .lesion import LesionSection
from .many import ManySection
from .model import ModelSection
from .words import notShownText, statusText, statusToolTip

INPUTS = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode")  # label maps are scalar volumes, too
PACKAGE = __name__.partition(".")[0]


class MedInpaintWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameters = None
        self._guiTag = None
        self._rim = 0.0  # mm, the growth that also fills the rim of a tight mask
        self._busy = ""  # what the panel does while it cannot take orders

    # The panel's life

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/MedInpaint.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = sharedLogic()
        self.comparison = ComparisonSection(self.ui)
        self.lesion = LesionSection(self.ui, self._update, self.comparison.showScan)
        self.many = ManySection(self.ui, self.logic, self._prepareTorch, self._updateButtons)
        self.further = FurtherSection(self.ui)
        self._sections = (self.further, self.lesion, ModelSection(self.ui), self.comparison, self.many)
        self.mark = SyntheticMark()

        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.onNodeAdded)
        self.ui.inpaintButton.connect("clicked()", self.onInpaintButton)
        self.ui.cancelButton.connect("clicked()", self.onCancelButton)
        self.ui.growButton.connect("clicked()", self.onGrowButton)
        self.ui.growButton.setVisible(False)
        slicer.app.connect("aboutToQuit()", self.logic.close)
        self.initializeParameterNode()

    def cleanup(self):
        """Slicer calls this before it unloads the module or loads it again, and when the application ends."""
        forgetSharedLogic()
        slicer.app.disconnect("aboutToQuit()", self.logic.close)
        self.setParameterNode(None)
        self.lesion.cleanup()
        self.mark.cleanup()
        self.removeObservers()

    def onReload(self):
        """Load the module again, for developers: with its library, which Slicer leaves as it is."""
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self):
        """The user opens the module."""
        self.lesion.enter()
        self.initializeParameterNode()
        self.mark.update()
        if problem := self.logic.torchProblem():
            self._say(problem)
        self._prepare()

    def exit(self):
        """The user opens another module. A run goes on."""
        self.lesion.exit()

    def onSceneStartClose(self, caller=None, event=None):
        """The scene is about to close: end the run and the child, which know its scan; use nothing of the scene."""
        running = self.logic.running
        self.logic.close()
        if running:
            self._say(_("The scene was closed: the run was ended."))
        self.setParameterNode(None)  # first: what follows modifies nodes, and the panel would follow them
        self.lesion.onSceneStartClose()

    def onSceneEndClose(self, caller=None, event=None):
        """There is a scene again, empty or loaded."""
        if self.parent.isEntered:
            self.lesion.setEditorNode()
            self.initializeParameterNode()
            self.mark.update()
            self._prepare()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node):
        """Choose a scan or a lesion that comes while the panel is open, once it is loaded completely."""
        if self.parent.isEntered and any(node.IsA(kind) for kind in INPUTS):
            qt.QTimer.singleShot(0, self._chooseInputs)

    def initializeParameterNode(self):
        """Follow the choices of the scene."""
        self.setParameterNode(self.logic.getParameterNode())
        self._chooseInputs()

    def setParameterNode(self, parameters):
        """Follow these choices in place of the former ones; None: follow none."""
        if self._parameters:
            self._parameters.disconnectGui(self._guiTag)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self._update)
        self._parameters = parameters
        for section in self._sections:
            section.setParameters(parameters)
        if self._parameters:
            self._guiTag = self._parameters.connectGui(self.ui)
            self.addObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self._update)
        self._update()

    def _chooseInputs(self):
        """Choose what is not chosen: the scan on the screen or the first one, the only segmentation or label map."""
        if not self._parameters:
            return
        volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        labelMaps = [node for node in volumes if node.IsA("vtkMRMLLabelMapVolumeNode")]
        if not self._parameters.inputVolume:
            scans = [node for node in volumes if node not in labelMaps and not results.input_of(node)]
            shown = views.scan_on_screen()
            self._parameters.inputVolume = shown if shown in scans else next(iter(scans), None)
        if not self._parameters.lesion and self._parameters.inputVolume:
            masks = slicer.util.getNodesByClass("vtkMRMLSegmentationNode") or labelMaps
            self._parameters.lesion = masks[0] if len(masks) == 1 else None

    def _update(self, caller=None, event=None):
        for section in self._sections:
            section.update()
        self._updateButtons()

    def _updateButtons(self):
        self.many.update()
        running = self.logic.running
        obstacle = self._obstacle()
        self.ui.inpaintButton.setEnabled(not obstacle)
        self.ui.inpaintButton.setToolTip(obstacle or _("Fill the lesion; the result is a new volume."))
        self.ui.cancelButton.setEnabled(running)
        self.ui.progressBar.setVisible(running)
        self.ui.paintButton.setEnabled(self._parameters is not None and self._parameters.inputVolume is not None)
        self.ui.keepUncertaintyCheckBox.setEnabled(self._parameters is not None and self._parameters.residual)

    def _obstacle(self) -> str:
        """Why Inpaint cannot be pressed; empty if it can."""
        if self._busy:
            return self._busy
        if self.logic.running or self.many.running:
            return _("Inpainting is under way: wait for it or cancel it.")
        if not self._parameters or not self._parameters.inputVolume:
            return _("Load a T1-weighted brain MRI and choose it as the scan.")
        return self.lesion.obstacle

    # A run

    def onInpaintButton(self):
        """Start a run."""
        if self._obstacle():  # while packages are being installed, Slicer still delivers clicks
            return
        self.lesion.stopPainting()
        try:
            if not self._prepareTorch():
                return
            parameters = self._parameters
            with slicer.util.WaitCursor():
                job = Job(
                    parameters.inputVolume,
                    parameters.lesion,
                    self.logic.settings(parameters),
                    self.lesion.segmentId,
                    parameters.outputVolume,
                    parameters.keepGenerated,
                    parameters.keepUncertainty,
                    self.further.volumes,
                )
                self.logic.start(job, self.onProgress, self.onDone, self.onFailed, self._updateButtons)
        except InputError as error:
            self.onFailed(str(error))
            return
        except Exception as error:
            logging.exception("MedInpaint could not start")
            self.onFailed(_("The run could not start ({error}): see the application log.").format(error=error))
            return
        self.ui.growButton.setVisible(False)
        self.ui.progressBar.setValue(0)
        self._say(_("Starting"))
        self._updateButtons()

    def onGrowButton(self):
        """Fill the lesion again, with the rim that a tight mask left outside."""
        self._parameters.grow = self._rim
        self.onInpaintButton()

    def onCancelButton(self):
        """End the run."""
        self._endRun(_("Cancelled: nothing was changed."))

    def onProgress(self, fraction, stage, message, secondsLeft):
        """Show the progress of the run."""
        self.ui.progressBar.setValue(round(100 * fraction))
        remaining = "" if secondsLeft is None else _(", about {seconds:.0f} s left").format(seconds=secondsLeft)
        self._say(f"{stage}: {message}{remaining}")

    def onFailed(self, sentence):
        """Say why there is no result."""
        self._endRun(sentence)
        slicer.util.errorDisplay(sentence, windowTitle=_("MedInpaint"))

    def onDone(self, result, *further):
        """Show the result over the scan, at its largest lesion. Those of further scans can be chosen under Compare."""
        try:
            report = results.report_of(result)
            self._say(statusText(report, list(map(results.report_of, further))), statusToolTip(report))
            self._offerGrowth(report)
            self.lesion.showFilled()
            self.comparison.show(result)
        except Exception as error:
            logging.exception("MedInpaint could not show the result")
            self.onFailed(notShownText(result.GetName(), error))
        self._updateButtons()

    def _prepare(self):
        """Start the child process while the user still paints, with the model that is chosen."""
        self.logic.prepare(self._parameters.modelFolder or self._parameters.model)

    def _prepareTorch(self) -> bool:
        """Whether PyTorch can be used; if not, the user is asked and it is installed."""
        if not self.logic.torchProblem():
            return True
        self._busy = _("Installing PyTorch: this takes some minutes.")
        self._say(self._busy)
        self._updateButtons()
        try:
            return self.logic.installTorch()
        finally:
            self._busy = ""
            self._say(self.logic.torchProblem())
            self._updateButtons()

    def _offerGrowth(self, report: dict):
        """Offer to fill the rim, too, if the mask looks tight."""
        rim = report.get("rim") or {"tight": False}
        self._rim = report["settings"]["grow"] + rim["width"] if rim["tight"] else 0.0
        self.ui.growButton.setVisible(rim["tight"])

    def _endRun(self, text: str):
        self.logic.cancel()
        self._say(text)
        self._updateButtons()

    def _say(self, text: str, details: str = ""):
        self.ui.statusLabel.setText(text)
        self.ui.statusLabel.setToolTip(details or _("What is going on, and how good the last run was."))
