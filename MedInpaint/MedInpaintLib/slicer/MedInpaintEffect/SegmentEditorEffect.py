"""The effect Inpaint: it fills the selected segment in the source volume, and shares child and logic with the panel."""

import logging
from dataclasses import replace

import qt
import slicer
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _

from MedInpaintLib import InputError
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.settings import MAXIMUM_GROWTH
from MedInpaintLib.slicer.logic import Job, sharedLogic
from MedInpaintLib.slicer.panel.words import notShownText, statusText, statusToolTip
from MedInpaintLib.slicer.scene import results, views
from MedInpaintLib.slicer.scene.mark import SyntheticMark

GROW = "Grow"  # the parameter of the effect, mm


class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect):
    """Fills the selected segment. Every segment editor has its own clone."""

    def __init__(self, scriptedEffect):
        scriptedEffect.name = "Inpaint"  # not translated: modules find effects by their names
        scriptedEffect.title = _("Inpaint")
        scriptedEffect.perSegment = True
        scriptedEffect.requireSegments = True
        scriptedEffect.showEffectCursorInSliceView = False
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.growSpinBox = None  # until the options are set up, which the registered original never does
        self._mark = None
        self._outlined = None  # the display node of which only the outline is shown, over a result
        self._sceneTag = None
        self._runs = False  # whether the run that is under way is that of this effect

    def clone(self):
        """A new effect for another editor."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        effect = effects.qSlicerSegmentEditorScriptedEffect(None)
        effect.setPythonSource(__file__.replace("\\", "/"))
        return effect

    def icon(self):
        """The icon of the module."""
        return qt.QIcon(str(resources_folder() / "Icons" / "MedInpaint.png"))

    def helpText(self):
        """What the editor says of the effect."""
        return _(
            "<html>Fill the selected segment of a T1-weighted brain MRI with the tissue that a healthy brain would "
            "have there.<br>The result is a new volume. Its tissue is invented: for research only.</html>"
        )

    def setupOptionsFrame(self):
        """Build the options."""
        self.growSpinBox = qt.QDoubleSpinBox()
        self.growSpinBox.setRange(0, MAXIMUM_GROWTH)
        self.growSpinBox.setSingleStep(0.5)
        self.growSpinBox.setDecimals(1)
        self.growSpinBox.setSuffix(" mm")
        self.growSpinBox.setToolTip(_("Also fill the tissue round the lesion: 1 mm is a good start for MS lesions."))
        self.applyButton = qt.QPushButton(_("Apply"))
        self.applyButton.setToolTip(_("Fill the selected segment; the result is a new volume."))
        self.cancelButton = qt.QPushButton(_("Cancel"))
        self.progressBar = qt.QProgressBar()
        self.statusLabel = qt.QLabel()
        self.statusLabel.setWordWrap(True)
        self.scriptedEffect.addLabeledOptionsWidget(_("Grow lesion by:"), self.growSpinBox)
        for widget in (self.applyButton, self.cancelButton, self.progressBar, self.statusLabel):
            self.scriptedEffect.addOptionsWidget(widget)
        self._connections = (
            (self.growSpinBox, "valueChanged(double)", self.updateMRMLFromGUI),
            (self.applyButton, "clicked()", self.onApply),
            (self.cancelButton, "clicked()", self.onCancel),
        )
        for widget, signal, slot in self._connections:
            widget.connect(signal, slot)
        closing = slicer.mrmlScene.StartCloseEvent
        self._sceneTag = slicer.mrmlScene.AddObserver(closing, self.onSceneStartClose)
        self._updateButtons()

    def cleanup(self):
        """The editor is about to be destroyed: end this effect's run and let go of everything."""
        if self.growSpinBox is None:
            return
        self._cancelOwn()
        for widget, signal, slot in self._connections:
            widget.disconnect(signal, slot)
        slicer.mrmlScene.RemoveObserver(self._sceneTag)
        if self._mark:
            self._mark.cleanup()
        self.growSpinBox = self._mark = None

    def setMRMLDefaults(self):
        """The parameters of a new editor."""
        self.scriptedEffect.setParameterDefault(GROW, "0")

    def updateGUIFromMRML(self):
        """Show the parameters."""
        blocked = self.growSpinBox.blockSignals(True)
        self.growSpinBox.setValue(float(self.scriptedEffect.parameter(GROW) or 0))
        self.growSpinBox.blockSignals(blocked)
        self._updateButtons()

    def updateMRMLFromGUI(self, value=None):
        """Keep the parameters."""
        self.scriptedEffect.setParameter(GROW, str(self.growSpinBox.value))

    def activate(self):
        """The user takes up the effect: start the child, so that the first press is fast, too."""
        logic = sharedLogic()
        logic.prepare()
        self._say(logic.torchProblem())
        self._updateButtons()

    def deactivate(self):
        """Another tool is taken up, or none: show the segments as before, and the scan to whoever paints."""
        if self._outlined and self._outlined.GetScene():
            self._outlined.SetVisibility2DFill(True)
            if self.scriptedEffect.parameterSetNode().GetActiveEffectName():
                views.fade(0)
        self._outlined = None

    def onApply(self):
        """Start a run."""
        logic, editor = sharedLogic(), self.scriptedEffect.parameterSetNode()
        try:
            if logic.running:
                raise InputError(_("Inpainting is under way: wait for it or cancel it."))
            if not editor.GetSourceVolumeNode():
                raise InputError(_("There is no source volume: choose the T1-weighted brain MRI above."))
            if logic.torchProblem():
                self.applyButton.setEnabled(False)
                self._say(_("Installing PyTorch: this takes some minutes."))
                if not logic.installTorch():
                    self._ended(logic.torchProblem())
                    return
            # The model and the search are those that the panel has.
            settings = replace(logic.settings(logic.getParameterNode()), grow=self.growSpinBox.value, label=None)
            with slicer.util.WaitCursor():
                job = Job(
                    editor.GetSourceVolumeNode(),
                    editor.GetSegmentationNode(),
                    settings,
                    editor.GetSelectedSegmentID(),
                    keepUncertainty=True,
                )
                logic.start(job, self.onProgress, self.onDone, self.onFailed, self.onStopped)
        except InputError as error:
            self.onFailed(str(error))
            return
        self._runs = True
        self._say(_("Starting"))
        self._updateButtons()

    def onCancel(self):
        """End the run."""
        sharedLogic().cancel()

    def onSceneStartClose(self, caller=None, event=None):
        """The scene is about to close: the child knows its scan."""
        self._outlined = None
        sharedLogic().close()

    def onProgress(self, fraction, stage, message, secondsLeft):
        """Show the progress of the run."""
        self.progressBar.setValue(round(100 * fraction))
        self._say(f"{stage}: {message}")

    def onDone(self, result):
        """Show the result over the scan."""
        try:
            report = results.report_of(result)
            self._ended(statusText(report), statusToolTip(report))
            if self._mark is None:
                self._mark = SyntheticMark()
            views.compare(results.input_of(result), result)
            self._showOutline()
        except Exception as error:
            logging.exception("MedInpaint could not show the result")
            self.onFailed(notShownText(result.GetName(), error))

    def onFailed(self, sentence):
        """Say why there is no result."""
        self._ended(sentence)
        slicer.util.errorDisplay(sentence, windowTitle=_("MedInpaint"))

    def onStopped(self):
        """The run was cancelled, here or in the panel."""
        self._ended(_("Cancelled: nothing was changed."))

    def _showOutline(self):
        """Show only the outline of the segments, so that the fill is seen."""
        segmentation = self.scriptedEffect.parameterSetNode().GetSegmentationNode()
        display = segmentation.GetDisplayNode() if segmentation else None
        if display and display.GetVisibility2DFill():
            display.SetVisibility2DFill(False)
            self._outlined = display

    def _cancelOwn(self):
        """End the run, if it is one of this effect."""
        logic = sharedLogic()
        if self._runs and logic.running:
            logic.cancel()

    def _ended(self, text, details=""):
        self._runs = False
        self._say(text, details)
        self._updateButtons()

    def _say(self, text, details=""):
        self.statusLabel.setText(text)
        self.statusLabel.setToolTip(details)

    def _updateButtons(self):
        running = sharedLogic().running
        self.applyButton.setEnabled(not running)
        self.cancelButton.setEnabled(running)
        self.progressBar.setVisible(running)
