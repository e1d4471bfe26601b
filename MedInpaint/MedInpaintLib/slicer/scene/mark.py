"""A line of text in the slice views that show invented tissue."""

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from . import views

ORANGE = (1.0, 0.6, 0.1)
FONT_SIZE = 14


class SyntheticMark(VTKObservationMixin):
    """Marks every slice view that shows a result, as long as it shows it.

    Slicer's own corner annotations are left alone: its module Data Probe writes to all four corners.
    """

    def __init__(self):
        VTKObservationMixin.__init__(self)
        self._texts = {}  # name of a slice view: its text, the renderer
        self._layout = slicer.app.layoutManager()  # None without a main window
        if self._layout:
            self._layout.connect("layoutChanged(int)", self.update)
        self.update()

    def cleanup(self):
        """Take the texts out of the views and observe nothing any more."""
        self.removeObservers()
        if self._layout:
            self._layout.disconnect("layoutChanged(int)", self.update)
        for text, renderer in self._texts.values():
            renderer.RemoveViewProp(text)
        self._texts.clear()

    def update(self, caller=None, event=None):
        """Show the text where a view shows invented tissue, and hide it elsewhere."""
        for name in self._layout.sliceViewNames() if self._layout else ():
            widget = self._layout.sliceWidget(name)
            view = widget.mrmlSliceCompositeNode()
            if not self.hasObserver(view, vtk.vtkCommand.ModifiedEvent, self.update):
                self.addObserver(view, vtk.vtkCommand.ModifiedEvent, self.update)
            if name not in self._texts:
                self._texts[name] = self._newText(widget.sliceView())
            text, _renderer = self._texts[name]
            shown = views.shows_synthetic(view)
            if bool(text.GetVisibility()) != shown:
                text.SetVisibility(shown)
                widget.sliceView().scheduleRender()

    def isShownIn(self, name: str) -> bool:
        """Whether the slice view of this name has a visible text."""
        return name in self._texts and bool(self._texts[name][0].GetVisibility())

    @staticmethod
    def _newText(sliceView):
        """An invisible text at the top of a slice view, and the renderer that has it."""
        text = vtk.vtkTextActor()
        text.SetInput(_("Contains invented tissue (MedInpaint)"))
        text.SetVisibility(False)
        style = text.GetTextProperty()
        style.SetFontSize(FONT_SIZE)
        style.SetColor(ORANGE)
        style.SetJustificationToCentered()
        style.SetVerticalJustificationToTop()
        position = text.GetPositionCoordinate()
        position.SetCoordinateSystemToNormalizedViewport()
        position.SetValue(0.5, 0.98)
        renderer = sliceView.renderWindow().GetRenderers().GetItemAsObject(0)
        renderer.AddViewProp(text)
        return text, renderer
