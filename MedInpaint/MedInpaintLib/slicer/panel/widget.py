"""The panel of the module: its sections together, and a run from start to end."""

import logging

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from ...errors import InputError
from ..logic import MedInpaintLogic
from ..scene import results
from .comparison import ComparisonSection
from .lesion import LesionSection
from .model import ModelSection


class MedInpaintWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameters = None
        self._guiTag = None

    # The panel's life

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/MedInpaint.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = MedInpaintLogic()
        self._lesion = LesionSection(self.ui)
        self._comparison = ComparisonSection(self.ui)
        self._sections = (self._lesion, ModelSection(self.ui), self._comparison)

        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        self.ui.inpaintButton.connect("clicked()", self.onInpaintButton)
        self.ui.cancelButton.connect("clicked()", self.onCancelButton)
        slicer.app.connect("aboutToQuit()", self.logic.cancel)
        self.initializeParameterNode()

    def cleanup(self):
        """Slicer calls this before it unloads the module, and when the application ends."""
        self.logic.cancel()
        slicer.app.disconnect("aboutToQuit()", self.logic.cancel)
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        """The user opens the module."""
        self._lesion.enter()
        self.initializeParameterNode()
        self.ui.segmentEditor.updateWidgetFromMRML()
        if not self.logic.torchInstalled():
            self.ui.statusLabel.setText(_("PyTorch is not installed yet: Inpaint will offer to install it."))

    def exit(self):
        """The user opens another module. A run goes on."""
        self._lesion.exit()

    def onSceneStartClose(self, caller=None, event=None):
        """The scene is about to close: end the run, which loses its scan, and use nothing of the scene any more."""
        if self.logic.running:
            self._endRun(_("The scene was closed: the run was ended."))
        self._lesion.onSceneStartClose()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller=None, event=None):
        """There is a scene again, empty or loaded."""
        if self.parent.isEntered:
            self._lesion.setEditorNode()
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Follow the choices of the scene; choose the first scan if none is chosen."""
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameters.inputVolume:
            volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            scans = [node for node in volumes if not node.IsA("vtkMRMLLabelMapVolumeNode")]
            self._parameters.inputVolume = scans[0] if scans else None

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

    def _update(self, caller=None, event=None):
        for section in self._sections:
            section.update()
        self._updateButtons()

    def _updateButtons(self):
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
        if self.logic.running:
            return _("Inpainting is under way: wait for it or cancel it.")
        if not self._parameters or not self._parameters.inputVolume:
            return _("Load a T1-weighted brain MRI and choose it as the scan.")
        if not self._parameters.lesion:
            return _("Paint the lesion, or choose the segmentation or label map that marks it.")
        return ""

    # A run

    def onInpaintButton(self):
        """Start a run."""
        parameters = self._parameters
        self.ui.segmentEditor.setActiveEffect(None)
        try:
            if not self.logic.torchInstalled() and not self.logic.installTorch():
                return
            with slicer.util.WaitCursor():
                self.logic.start(
                    parameters.inputVolume,
                    parameters.lesion,
                    parameters.outputVolume,
                    self._lesion.segmentId,
                    self.logic.settings(parameters),
                    parameters.keepGenerated,
                    parameters.keepUncertainty,
                    self.onProgress,
                    self.onDone,
                    self.onFailed,
                )
        except InputError as error:
            self.onFailed(str(error))
            return
        except Exception as error:
            logging.exception("MedInpaint could not start")
            self.onFailed(_("The run could not start ({error}): see the application log.").format(error=error))
            return
        self.ui.progressBar.setValue(0)
        self.ui.statusLabel.setText(_("Starting"))
        self._updateButtons()

    def onCancelButton(self):
        """End the run."""
        self._endRun(_("Cancelled: nothing was changed."))

    def onProgress(self, fraction, stage, message, secondsLeft):
        """Show the progress of the run."""
        self.ui.progressBar.setValue(round(100 * fraction))
        remaining = "" if secondsLeft is None else _(", about {seconds:.0f} s left").format(seconds=secondsLeft)
        self.ui.statusLabel.setText(f"{stage}: {message}{remaining}")

    def onFailed(self, sentence):
        """Say why there is no result."""
        self._endRun(sentence)
        slicer.util.errorDisplay(sentence, windowTitle=_("MedInpaint"))

    def onDone(self, result):
        """Show the result over the scan, at its largest lesion."""
        report = results.report_of(result)
        self.ui.statusLabel.setText(statusText(report))
        self._lesion.showFilled()
        self._comparison.show(result, report)
        self._updateButtons()

    def _endRun(self, text: str):
        self.logic.cancel()
        self.ui.statusLabel.setText(text)
        self._updateButtons()


def statusText(report: dict) -> str:
    """The main figures and the warnings of a run."""
    lesion, alignment = report["lesion"], report["alignment"]
    text = _("{ml:.3g} ml in {count} lesion(s) filled in {seconds:.0f} s on {device}. Alignment {quality:.2f}").format(
        ml=lesion["volume_ml"],
        count=lesion["count"],
        seconds=report["seconds"]["total"],
        device=report["device"],
        quality=alignment["quality"],
    )
    if report["seam"] is not None:
        text += _(", seam {seam:.2f} (1 is invisible)").format(seam=report["seam"])
    return " ".join([f"{text}.", *report["warnings"]])
