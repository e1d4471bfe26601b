"""The slice views after a run: the scan behind its result, so that fading between them shows what changed.

This sets nodes only, no widgets, so that it works without a window too.
"""

from __future__ import annotations

import slicer
from slicer.util import getNodesByClass

from .results import is_synthetic, world_position


def compare(original: slicer.vtkMRMLVolumeNode | None, result: slicer.vtkMRMLVolumeNode) -> None:
    """Show the result over the original (None: it is gone) in every slice view, opaque."""
    for view in getNodesByClass("vtkMRMLSliceCompositeNode"):
        view.SetBackgroundVolumeID(original.GetID() if original else None)
        view.SetForegroundVolumeID(result.GetID())
        view.SetCompositing(slicer.vtkMRMLSliceCompositeNode.Alpha)
        view.SetForegroundOpacity(1)


def fade(opacity: float) -> None:
    """Set the opacity of the foreground in every slice view: 0 shows the original, 1 the result."""
    for view in getNodesByClass("vtkMRMLSliceCompositeNode"):
        view.SetForegroundOpacity(min(max(opacity, 0), 1))


def centre_on(volume: slicer.vtkMRMLVolumeNode, index: tuple[float, float, float]) -> None:
    """Centre every slice view on a voxel (i, j, k)."""
    centred = slicer.vtkMRMLSliceNode.CenteredJumpSlice
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *world_position(volume, index), centred)


def scan_on_screen() -> slicer.vtkMRMLVolumeNode | None:
    """The volume in the background of the first slice view that has one."""
    ids = (view.GetBackgroundVolumeID() for view in getNodesByClass("vtkMRMLSliceCompositeNode"))
    volumes = (slicer.mrmlScene.GetNodeByID(each) for each in ids if each)
    return next((volume for volume in volumes if volume), None)


def is_shown(volume: slicer.vtkMRMLVolumeNode | None) -> bool:
    """Whether any slice view shows a volume over another one."""
    views = getNodesByClass("vtkMRMLSliceCompositeNode")
    return volume is not None and any(view.GetForegroundVolumeID() == volume.GetID() for view in views)


def shows_synthetic(view: slicer.vtkMRMLSliceCompositeNode) -> bool:
    """Whether a slice view shows invented tissue."""
    background, foreground = (
        slicer.mrmlScene.GetNodeByID(each) if each else None
        for each in (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID())
    )
    return is_synthetic(background) or (is_synthetic(foreground) and view.GetForegroundOpacity() > 0)


def show_legend(volume: slicer.vtkMRMLScalarVolumeNode, title: str) -> None:
    """Show a colour bar with this title wherever the volume is shown."""
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(volume)
    legend.SetTitleText(title)
    legend.SetVisibility(True)
