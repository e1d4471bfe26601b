"""The slice views after a run: the scan behind its result, so that fading between them shows what changed.

This sets nodes only, no widgets, so that it works without a window too.
"""

from __future__ import annotations

import slicer
from slicer.util import getNodesByClass

from .results import world_position


def compare(original: slicer.vtkMRMLVolumeNode | None, result: slicer.vtkMRMLVolumeNode) -> None:
    """Show the result over the original (None: it is gone) in every slice view, opaque; link the views."""
    for view in getNodesByClass("vtkMRMLSliceCompositeNode"):
        view.SetBackgroundVolumeID(original.GetID() if original else None)
        view.SetForegroundVolumeID(result.GetID())
        view.SetCompositing(slicer.vtkMRMLSliceCompositeNode.Alpha)
        view.SetForegroundOpacity(1)
        view.SetLinkedControl(True)


def fade(opacity: float) -> None:
    """Set the opacity of the foreground in every slice view: 0 shows the original, 1 the result."""
    for view in getNodesByClass("vtkMRMLSliceCompositeNode"):
        view.SetForegroundOpacity(min(max(opacity, 0), 1))


def centre_on(volume: slicer.vtkMRMLVolumeNode, index: tuple[float, float, float]) -> None:
    """Centre every slice view on a voxel (i, j, k)."""
    centred = slicer.vtkMRMLSliceNode.CenteredJumpSlice
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *world_position(volume, index), centred)
