"""The choice of further scans of the same head, which are filled together with the chosen one."""

import qt
import slicer

from ..scene import results


class FurtherSection:
    """The list "Also fill" of the panel.

    Args:
        ui: the widgets of the panel, by name.
    """

    def __init__(self, ui):
        self.ui = ui
        self._parameters = None
        self._updating = False
        self.ui.alsoFillSelector.connect("checkedNodesChanged()", self.onChecked)

    @property
    def volumes(self) -> tuple:
        """The scans that are ticked, without the chosen scan and what MedInpaint has made."""
        return tuple(node for node in self.ui.alsoFillSelector.checkedNodes() if self._isOffered(node))

    def setParameters(self, parameters):
        """Follow these choices; None: follow none."""
        self._parameters = parameters

    def update(self):
        """Offer every scan but the chosen one and what MedInpaint has made, and tick the scans of the choices."""
        if not self._parameters:
            return
        selector = self.ui.alsoFillSelector
        listed = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        hidden = [node.GetID() for node in listed if not self._isOffered(node)]
        wanted = list(self._parameters.also)
        self._updating = True
        try:
            model = selector.sortFilterProxyModel()
            if list(model.hiddenNodeIDs) != hidden:
                model.hiddenNodeIDs = hidden
            ticked = selector.checkedNodes()
            for node in listed:
                if self._isOffered(node) and (node in wanted) != (node in ticked):
                    (selector.check if node in wanted else selector.uncheck)(node)
        finally:
            self._updating = False

    def onChecked(self):
        """Keep the choice, but not at once: the list is also emptied and filled again while a scene is loaded."""
        if not self._updating:
            qt.QTimer.singleShot(0, self._keep)

    def _keep(self):
        if self._parameters and list(self._parameters.also) != list(self.volumes):
            self._parameters.also = list(self.volumes)

    def _isOffered(self, node) -> bool:
        if node.IsA("vtkMRMLLabelMapVolumeNode") or results.is_from_medinpaint(node):
            return False
        return self._parameters is not None and node is not self._parameters.inputVolume
