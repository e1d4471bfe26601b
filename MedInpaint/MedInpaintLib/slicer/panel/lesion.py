"""The choice of a lesion: a segment or a label, and the segment editor to paint one."""

import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ..scene import results

EDITOR = "MedInpaint"  # singleton tag of the parameters of this panel's segment editor
EFFECTS = ("Paint", "Draw", "Erase", "Threshold", "Islands", "Smoothing")


class LesionSection(VTKObservationMixin):
    """The widgets that choose the lesion or paint it.

    Args:
        ui: the widgets of the panel, by name.
    """

    def __init__(self, ui):
        VTKObservationMixin.__init__(self)
        self.ui = ui
        self._parameters = None
        self._segmentation = None  # the segments of this node are listed
        editor = self.ui.segmentEditor
        editor.setMaximumNumberOfUndoStates(10)
        editor.setEffectNameOrder(EFFECTS)
        editor.unorderedEffectsVisible = False
        editor.segmentationNodeSelectorVisible = False
        editor.sourceVolumeNodeSelectorVisible = False
        editor.switchToSegmentationsButtonVisible = False
        self.setEditorNode()
        editor.setMRMLScene(slicer.mrmlScene)
        self.ui.paintButton.connect("clicked()", self.onPaintButton)
        self.ui.segmentComboBox.connect("currentIndexChanged(int)", self.onSegmentChosen)

    @property
    def segmentId(self) -> str | None:
        """The segment that is the lesion; None: all segments, or the lesion is a label map."""
        return self._parameters.segmentId or None if self._segmentation else None

    def setParameters(self, parameters):
        """Follow these choices; None: follow none."""
        self._parameters = parameters

    def enter(self):
        """The user opens the module."""
        self.ui.segmentEditor.installKeyboardShortcuts()
        self.setEditorNode()

    def exit(self):
        """The user opens another module."""
        self.ui.segmentEditor.setActiveEffect(None)
        self.ui.segmentEditor.uninstallKeyboardShortcuts()
        self.ui.segmentEditor.removeViewObservations()

    def onSceneStartClose(self):
        """Use nothing of the scene any more: it is about to close."""
        self.ui.segmentEditor.setSegmentationNode(None)
        self.ui.segmentEditor.removeViewObservations()

    def setEditorNode(self):
        """Give the segment editor its own parameters: those of the Segment Editor module stay as they are."""
        node = slicer.mrmlScene.GetSingletonNode(EDITOR, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)  # the scene owns it
            node.SetSingletonTag(EDITOR)
            node = slicer.mrmlScene.AddNode(node)
        if node is not self.ui.segmentEditor.mrmlSegmentEditorNode():
            self.ui.segmentEditor.setMRMLSegmentEditorNode(node)

    def update(self):
        """Show what marks the lesion: the segments and the editor, or the label."""
        lesion = self._parameters.lesion if self._parameters else None
        segmentation = lesion if lesion and lesion.IsA("vtkMRMLSegmentationNode") else None
        self._observe(segmentation)
        self.onSegmentsChanged()
        for widget in (self.ui.segmentLabel, self.ui.segmentComboBox, self.ui.segmentEditor):
            widget.setVisible(segmentation is not None)
        for widget in (self.ui.labelLabel, self.ui.labelSpinBox):
            widget.setVisible(lesion is not None and segmentation is None)
        if self._parameters:
            editor = self.ui.segmentEditor
            if editor.segmentationNode() is not segmentation:
                editor.setSegmentationNode(segmentation)
            if editor.sourceVolumeNode() is not self._parameters.inputVolume:
                editor.setSourceVolumeNode(self._parameters.inputVolume)

    def showFilled(self):
        """Show only the outline of the segments, so that the fill is seen."""
        if self._segmentation and self._segmentation.GetDisplayNode():
            self._segmentation.GetDisplayNode().SetVisibility2DFill(False)

    def onSegmentsChanged(self, caller=None, event=None):
        """List the segments of the segmentation."""
        chosen = self._parameters.segmentId if self._parameters else ""
        segments = self._segmentation.GetSegmentation() if self._segmentation else None
        if segments and chosen and segments.GetSegment(chosen) is None:
            self._parameters.segmentId = chosen = ""  # it was removed, or it belongs to another segmentation
        box = self.ui.segmentComboBox
        wasBlocked = box.blockSignals(True)
        box.clear()
        box.addItem(_("all segments"), "")
        for segmentId in segments.GetSegmentIDs() if segments else ():
            box.addItem(segments.GetSegment(segmentId).GetName(), segmentId)
        box.setCurrentIndex(max(0, box.findData(chosen)))
        box.blockSignals(wasBlocked)

    def onSegmentChosen(self, index):
        """Take a segment, or all, as the lesion."""
        if self._parameters:
            self._parameters.segmentId = self.ui.segmentComboBox.itemData(index)

    def onPaintButton(self):
        """Make a segmentation for the scan and choose the paint brush."""
        segmentation, segmentId = results.new_lesion(self._parameters.inputVolume)
        self._parameters.lesion = segmentation
        self._parameters.segmentId = segmentId
        slicer.util.setSliceViewerLayers(background=self._parameters.inputVolume)
        self.ui.segmentEditor.setCurrentSegmentID(segmentId)
        self.ui.segmentEditor.setActiveEffectByName("Paint")

    def _observe(self, segmentation):
        """Follow the segments of this node in place of those of the former one."""
        if segmentation is self._segmentation:
            return
        for event in (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved):
            if self._segmentation:
                self.removeObserver(self._segmentation, event, self.onSegmentsChanged)
            if segmentation:
                self.addObserver(segmentation, event, self.onSegmentsChanged)
        self._segmentation = segmentation
