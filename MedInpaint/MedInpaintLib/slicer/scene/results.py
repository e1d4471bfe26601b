"""The bridge between Slicer's MRML nodes and the engine's images: no Qt, so that it runs without a window.

Slicer's space is RAS, the engine's LPS, both in mm.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
import slicer
import vtk

from ...errors import InputError
from ..scene import nodes
from .images import check_scan_node, is_scalar_volume

PREFIX = "MedInpaint."  # of node attributes and of the reference from a result to its input
INPUT = PREFIX + "Input"
REPORT = PREFIX + "Report"
RED = (0.86, 0.2, 0.18)


def result_node(
    volume: slicer.vtkMRMLScalarVolumeNode,
    image: sitk.Image,
    report: dict,
    output: slicer.vtkMRMLScalarVolumeNode | None = None,
) -> slicer.vtkMRMLScalarVolumeNode:
    """Put a result into the scene: the scan's copy with other voxels, the report, and a reference to the scan.

    Args:
        volume: the scan that was filled.
        image: the engine's result, of the scan's size and pixel type.
        report: of the run.
        output: the node whose content is replaced, all but its name; None makes a new one beside the scan.

    Raises:
        InputError: a node is not in the scene any more, or the output is the scan itself or no plain volume.
        ValueError: the image is of another size or pixel type than the scan.

    After any error the scene is as it was.
    """
    check_scan_node(volume)
    if output is not None:
        if not nodes.in_scene(output) or not is_scalar_volume(output):
            raise InputError("The output is no scalar volume of the scene: choose another or create a new one.")
        if output is volume:
            raise InputError("The output is the scan itself, which is never changed: choose another or a new volume.")
    voxels = _voxels_for(volume, image)
    if voxels.dtype != nodes.array(volume.GetImageData()).dtype:
        raise ValueError(f"The scan has {nodes.array(volume.GetImageData()).dtype} voxels, the result {voxels.dtype}.")
    attributes = {
        PREFIX + "Version": report["versions"]["medinpaint"],
        PREFIX + "Model": report["model"]["name"],
        PREFIX + "Settings": json.dumps(report["settings"]),
        REPORT: json.dumps(report),
    }
    with nodes.undone_on_failure(volume.GetScene()):
        node = _derived(volume, "inpainted", voxels, volume.GetImageData().GetScalarType())
        for key, value in attributes.items():
            node.SetAttribute(key, value)
        if output is None:
            nodes.place_beside(node, volume)
            return node
    nodes.replace(output, node, volume)  # all that may fail is done by now
    output.SetNodeReferenceID(INPUT, volume.GetID())
    return output


def generated_node(volume: slicer.vtkMRMLScalarVolumeNode, image: sitk.Image) -> slicer.vtkMRMLScalarVolumeNode:
    """Put G(z), what the model made before blending, into the scene: a float32 volume shown like the scan.

    Raises:
        InputError: the scan is not in the scene any more.
        ValueError: the image is of another size.
    """
    return _beside(volume, "generated", image)


def uncertainty_node(volume: slicer.vtkMRMLScalarVolumeNode, image: sitk.Image) -> slicer.vtkMRMLScalarVolumeNode:
    """Put the fill's standard deviation into the scene: a float32 volume in warm colours, transparent where it is 0.

    Raises:
        InputError: the scan is not in the scene any more.
        ValueError: the image is of another size.
    """
    return _beside(volume, "uncertainty", image, nodes.show_as_overlay)


def input_of(result: slicer.vtkMRMLNode | None) -> slicer.vtkMRMLNode | None:
    """The scan that a node was made from; None if that is gone or the node was not made by MedInpaint."""
    return result.GetNodeReference(INPUT) if result is not None else None


def report_of(result: slicer.vtkMRMLNode | None) -> dict | None:
    """The report of the run that made a node; None if there is none or it cannot be read."""
    try:
        report = json.loads(result.GetAttribute(REPORT) or "") if result is not None else None
    except ValueError:
        return None
    return report if isinstance(report, dict) else None


def new_lesion(volume: slicer.vtkMRMLScalarVolumeNode) -> tuple[slicer.vtkMRMLSegmentationNode, str]:
    """A segmentation on the scan's grid, under its transform and beside it, with one empty segment to paint in.

    Returns the node and the segment's id. Raises InputError if the scan cannot be used.
    """
    check_scan_node(volume)
    scene = volume.GetScene()
    with nodes.undone_on_failure(scene):
        name = scene.GenerateUniqueName(f"{volume.GetName()} lesion")
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        node.CreateDefaultDisplayNodes()
        segment_id = node.GetSegmentation().AddEmptySegment("lesion", "lesion", RED)
        nodes.place_beside(node, volume)
        return node, segment_id


def world_position(volume: slicer.vtkMRMLVolumeNode, index: tuple[float, float, float]) -> tuple[float, float, float]:
    """Where a voxel (i, j, k) lies in the world (RAS, mm), all parent transforms applied."""
    local = (nodes.ijk_to_ras(volume) @ (*index, 1))[:3]
    return tuple(nodes.transform_between(volume, None).TransformPoint(local))


def _voxels_for(volume: slicer.vtkMRMLVolumeNode, image: sitk.Image) -> np.ndarray:
    if image.GetSize() != volume.GetImageData().GetDimensions():
        raise ValueError(f"The scan has {volume.GetImageData().GetDimensions()} voxels, the result {image.GetSize()}.")
    return sitk.GetArrayViewFromImage(image)


def _beside(
    volume: slicer.vtkMRMLScalarVolumeNode,
    what: str,
    image: sitk.Image,
    show: Callable[[slicer.vtkMRMLScalarVolumeDisplayNode, float], None] | None = None,
) -> slicer.vtkMRMLScalarVolumeNode:
    """A new float32 volume beside the scan; `show` sets its display node up, given its highest value."""
    check_scan_node(volume)
    voxels = _voxels_for(volume, image)
    with nodes.undone_on_failure(volume.GetScene()):
        node = _derived(volume, what, voxels, vtk.VTK_FLOAT)
        if show:
            show(node.GetDisplayNode(), float(voxels.max()))
        nodes.place_beside(node, volume)
        return node


def _derived(
    volume: slicer.vtkMRMLScalarVolumeNode, what: str, voxels: np.ndarray, scalar_type: int
) -> slicer.vtkMRMLScalarVolumeNode:
    """The scan's clone that holds other voxels and refers to the scan."""
    node = nodes.clone(volume, f"{volume.GetName()} {what}", voxels, scalar_type)
    for attribute in node.GetAttributeNames():  # of a scan that is a result itself
        if attribute.startswith(PREFIX):
            node.RemoveAttribute(attribute)
    node.SetNodeReferenceID(INPUT, volume.GetID())
    return node
