"""The choice of a lesion: the segment that is selected in the editor, all segments, or a label."""

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ..scene import results

EDITOR = "MedInpaint"  # singleton tag of the parameters of this panel's segment editor
EFFECTS = ("Paint", "Draw", "Erase", "Threshold", "Islands", "Smoothing")


class LesionSection(VTKObservationMixin):
    """The widgets that choose the lesion or paint it.

    Args:
        ui: the widgets of the panel, by name.
        onChanged: called when another segment is the lesion.
        onPainting: called when the user takes up a tool of the editor.
    """

    def __init__(self, ui, onChanged, onPainting):
        VTKObservationMixin.__init__(self)
        self.ui = ui
        self._onChanged, self._onPainting = onChanged, onPainting
        self._parameters = None
        self._segmentation = None  # its segments are observed
        self._editorState = None  # the selected segment and the tool
        self._outlined = None  # the display node of which only the outline is shown
        self.editor = self._newEditor()
        self.setEditorNode()
        self.editor.setMRMLScene(slicer.mrmlScene)
        self.ui.paintButton.connect("clicked()", self.onPaintButton)

    @property
    def segmentId(self) -> str | None:
        """The segment that is the lesion; None: all segments, or the lesion is a label map."""
        return self._selectedId if self._segmentation and not self._parameters.allSegments else None

    @property
    def obstacle(self) -> str:
        """Why there is no lesion to fill; empty if there is one."""
        if not self._parameters or not self._parameters.lesion:
            return _("Paint the lesion, or choose the segmentation or label map that marks it.")
        if self._segmentation and not self._parameters.allSegments and not self._selectedId:
            return _("Select the segment that is the lesion.")
        return ""

    @property
    def _selectedId(self) -> str:
        """The segment that is selected in the editor; empty if there is none any more."""
        node = self.editor.mrmlSegmentEditorNode()
        chosen = (node.GetSelectedSegmentID() if node else None) or ""
        known = self._segmentation is not None and self._segmentation.GetSegmentation().GetSegment(chosen) is not None
        return chosen if known else ""

    def setParameters(self, parameters):
        """Follow these choices; None: follow none."""
        self._parameters = parameters

    def enter(self):
        """The user opens the module."""
        self.editor.installKeyboardShortcuts()
        self.setEditorNode()
        self.editor.updateWidgetFromMRML()

    def exit(self):
        """The user opens another module."""
        self.editor.setActiveEffect(None)
        self.editor.uninstallKeyboardShortcuts()
        self.editor.removeViewObservations()

    def cleanup(self):
        """The module is unloaded or loaded again: leave nothing behind."""
        self.exit()
        self.removeObservers()
        self.editor.setSegmentationNode(None)
        self.editor.setMRMLSegmentEditorNode(None)

    def onSceneStartClose(self):
        """Use nothing of the scene any more: it is about to close."""
        self.editor.setSegmentationNode(None)
        self.editor.removeViewObservations()
        self._outlined = None

    def setEditorNode(self):
        """Give the segment editor its own parameters: those of the Segment Editor module stay as they are."""
        node = slicer.mrmlScene.GetSingletonNode(EDITOR, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)  # the scene owns it
            node.SetSingletonTag(EDITOR)
            node = slicer.mrmlScene.AddNode(node)
        if node is not self.editor.mrmlSegmentEditorNode():
            self.editor.setMRMLSegmentEditorNode(node)
        if not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self.onEditorModified):
            self.removeObservers(self.onEditorModified)
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.onEditorModified)

    def update(self):
        """Show what marks the lesion: the segment and the editor, or the label."""
        lesion = self._parameters.lesion if self._parameters else None
        segmentation = lesion if lesion and lesion.IsA("vtkMRMLSegmentationNode") else None
        self._observe(segmentation)
        if self._parameters and self.editor.segmentationNode() is not segmentation:
            self.editor.setSegmentationNode(segmentation)
        if segmentation and self.editor.sourceVolumeNode() is not self._parameters.inputVolume:
            self.editor.setSourceVolumeNode(self._parameters.inputVolume)
        self.ui.segmentNameLabel.setText(self._lesionText())
        for widget in (self.ui.segmentLabel, self.ui.segmentNameLabel, self.ui.allSegmentsCheckBox, self.editor):
            widget.setVisible(segmentation is not None)
        for widget in (self.ui.labelLabel, self.ui.labelSpinBox):
            widget.setVisible(lesion is not None and segmentation is None)

    def showFilled(self):
        """Show only the outline of the segments, so that the fill is seen."""
        display = self._segmentation.GetDisplayNode() if self._segmentation else None
        if display and display.GetVisibility2DFill():
            display.SetVisibility2DFill(False)
            self._outlined = display

    def stopPainting(self):
        """Put the tool of the editor away."""
        self.editor.setActiveEffect(None)

    def onPaintButton(self):
        """Choose the paint brush for an empty segment: in the segmentation of this scan, or in a new one."""
        scan = self._parameters.inputVolume
        if results.drawn_on(self._segmentation, scan):
            segmentId = results.new_segment(self._segmentation)
        else:
            self._parameters.lesion, segmentId = results.new_lesion(scan)
        self._parameters.allSegments = False
        slicer.util.setSliceViewerLayers(background=scan)
        self.editor.setCurrentSegmentID(segmentId)
        self.editor.setActiveEffectByName("Paint")

    def onSegmentsModified(self, caller=None, event=None):
        """A segment was added, removed or renamed."""
        self._onChanged()

    def onEditorModified(self, caller=None, event=None):
        """Another segment may be selected, another tool active."""
        node = self.editor.mrmlSegmentEditorNode()
        state = (node.GetSelectedSegmentID() or "", node.GetActiveEffectName() or "") if node else ("", "")
        if state == self._editorState:
            return
        painting = state[1] and state[1] != (self._editorState or ("", ""))[1]
        self._editorState = state
        if painting:
            if self._outlined and self._outlined.GetScene():
                self._outlined.SetVisibility2DFill(True)
            self._outlined = None
            self._onPainting()
        self._onChanged()

    def _lesionText(self) -> str:
        if not self._segmentation:
            return ""
        if self._parameters.allSegments:
            return _("all segments")
        if not self._selectedId:
            return _("select one below")
        return self._segmentation.GetSegmentation().GetSegment(self._selectedId).GetName()

    def _newEditor(self):
        """The segment editor. It is not in the .ui file: the names of its effects' widgets could hide others' names."""
        editor = slicer.qMRMLSegmentEditorWidget()
        editor.setMaximumNumberOfUndoStates(10)
        editor.setEffectNameOrder(EFFECTS)
        editor.unorderedEffectsVisible = False
        editor.segmentationNodeSelectorVisible = False
        editor.sourceVolumeNodeSelectorVisible = False
        editor.switchToSegmentationsButtonVisible = False
        self.ui.editorFrame.layout().addWidget(editor)
        return editor

    def _observe(self, segmentation):
        """Follow the segments of this node in place of those of the former one."""
        if segmentation is self._segmentation:
            return
        segments = slicer.vtkSegmentation
        for event in (segments.SegmentAdded, segments.SegmentRemoved, segments.SegmentModified):
            if self._segmentation:
                self.removeObserver(self._segmentation, event, self.onSegmentsModified)
            if segmentation:
                self.addObserver(segmentation, event, self.onSegmentsModified)
        self._segmentation = segmentation
