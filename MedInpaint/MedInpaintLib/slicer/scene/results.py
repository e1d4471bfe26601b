"""The nodes that MedInpaint adds to the scene: results, with what they were made from, and a lesion to paint. No Qt."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk

from ...errors import InputError
from . import nodes
from .images import BINARY, check_scan_node, is_scalar_volume

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ...pipeline import Result

PREFIX = "MedInpaint."  # of node attributes and of the reference from a result to its input
INPUT = PREFIX + "Input"
UNCERTAINTY = PREFIX + "Uncertainty"
REPORT = PREFIX + "Report"
SYNTHETIC = PREFIX + "Synthetic"
DESCRIPTION = "Synthetic: MedInpaint filled the lesion with invented tissue. For research only."
REFERENCE_GEOMETRY = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
RED = (0.86, 0.2, 0.18)


def add_results(
    volumes: Sequence[slicer.vtkMRMLScalarVolumeNode],
    found: Sequence[Result],
    output: slicer.vtkMRMLScalarVolumeNode | None = None,
    keep_generated: bool = False,
    keep_uncertainty: bool = False,
) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """Add the nodes of a run, and return those of the results, that of the first scan first.

    Args:
        volumes: the scans that were filled together.
        found: their results.
        output: the node that takes the result of the first scan; None: a new one. All others get new ones.
        keep_generated, keep_uncertainty: whether to add these volumes, too.

    Raises: as `result_node`. After any error the scene is as it was.
    """
    added: list[slicer.vtkMRMLScalarVolumeNode] = []
    with nodes.undo_on_failure(slicer.mrmlScene):
        # The output comes last: it may replace the content of a node, which cannot be undone.
        for volume, result in list(zip(volumes, found, strict=True))[::-1]:
            if keep_generated:
                generated_node(volume, result.generated)
            uncertainty = None
            if keep_uncertainty and result.uncertainty is not None:
                uncertainty = uncertainty_node(volume, result.uncertainty)
            is_last = len(added) == len(volumes) - 1
            node = result_node(volume, result.image, result.report, output if is_last else None)
            if uncertainty:
                node.SetNodeReferenceID(UNCERTAINTY, uncertainty.GetID())
            added.insert(0, node)
    return added


def result_node(
    volume: slicer.vtkMRMLScalarVolumeNode,
    image: sitk.Image,
    report: dict,
    output: slicer.vtkMRMLScalarVolumeNode | None = None,
) -> slicer.vtkMRMLScalarVolumeNode:
    """Put a result into the scene: a copy of the scan with other voxels, the report, and a reference to the scan.

    Args:
        volume: the scan that was filled.
        image: the result of the engine, of the size and pixel type of the scan.
        report: of the run.
        output: the node that takes the result and keeps its name; None: a new node beside the scan.

    Raises:
        InputError: a node is not in the scene any more, or the output is the scan itself or no scalar volume.
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
    with nodes.undo_on_failure(volume.GetScene()):
        node = _derived(volume, "inpainted (synthetic)", voxels, volume.GetImageData().GetScalarType())
        _mark_synthetic(node)
        for key, value in attributes.items():
            node.SetAttribute(key, value)
        if output is None:
            nodes.place_beside(node, volume)
            return node
    nodes.replace(output, node, volume)  # nothing can fail from here on
    output.SetNodeReferenceID(INPUT, volume.GetID())
    output.SetNodeReferenceID(UNCERTAINTY, None)
    output.SetDescription(DESCRIPTION)
    return output


def generated_node(volume: slicer.vtkMRMLScalarVolumeNode, image: sitk.Image) -> slicer.vtkMRMLScalarVolumeNode:
    """Put the generated volume G(z), before blending, into the scene: float32, shown like the scan.

    Raises:
        InputError: the scan is not in the scene any more.
        ValueError: the image is of another size.
    """
    return _beside(volume, "generated (synthetic)", image, _mark_synthetic)


def uncertainty_node(volume: slicer.vtkMRMLScalarVolumeNode, image: sitk.Image) -> slicer.vtkMRMLScalarVolumeNode:
    """Put the posterior standard deviation of the fill into the scene: float32, in warm colours, transparent at 0.

    Raises:
        InputError: the scan is not in the scene any more.
        ValueError: the image is of another size.
    """
    return _beside(volume, "uncertainty", image, _show_as_overlay)


def input_of(result: slicer.vtkMRMLNode | None) -> slicer.vtkMRMLNode | None:
    """The scan that a node was made from; None if it is gone, or if the node is not from MedInpaint."""
    return result.GetNodeReference(INPUT) if result is not None else None


def is_from_medinpaint(node: slicer.vtkMRMLNode) -> bool:
    """Whether MedInpaint added a volume: it is a result, a generated volume or an uncertainty."""
    return is_synthetic(node) or input_of(node) is not None


def uncertainty_of(result: slicer.vtkMRMLNode | None) -> slicer.vtkMRMLNode | None:
    """The posterior standard deviation of a result; None if it was not kept or is gone."""
    return result.GetNodeReference(UNCERTAINTY) if result is not None else None


def is_synthetic(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether a node holds invented tissue."""
    return node is not None and node.GetAttribute(SYNTHETIC) is not None


def report_of(result: slicer.vtkMRMLNode | None) -> dict | None:
    """The report of the run that made a node; None if there is none, or if it cannot be read."""
    try:
        report = json.loads(result.GetAttribute(REPORT) or "") if result is not None else None
    except ValueError:
        return None
    return report if isinstance(report, dict) else None


def new_lesion(volume: slicer.vtkMRMLScalarVolumeNode) -> tuple[slicer.vtkMRMLSegmentationNode, str]:
    """Add a segmentation with one empty segment, on the grid of the scan, under its transform and beside it.

    Returns the node and the id of the segment. Raises InputError if the scan cannot be used.
    """
    check_scan_node(volume)
    scene = volume.GetScene()
    with nodes.undo_on_failure(scene):
        name = scene.GenerateUniqueName(f"{volume.GetName()} lesion")
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        node.CreateDefaultDisplayNodes()
        segment_id = node.GetSegmentation().AddEmptySegment("lesion", "lesion", RED)
        nodes.place_beside(node, volume)
        return node, segment_id


def new_segment(segmentation: slicer.vtkMRMLSegmentationNode) -> str:
    """The id of an empty segment to paint in: one that is there already, or a new one."""
    segments = segmentation.GetSegmentation()
    for each in segments.GetSegmentIDs():
        painted = segments.GetSegment(each).GetRepresentation(BINARY)
        if painted is None or painted.IsEmpty():
            return each
    number = segments.GetNumberOfSegments() + 1
    return segments.AddEmptySegment("", f"lesion {number}", RED)


def drawn_on(segmentation: slicer.vtkMRMLSegmentationNode | None, volume: slicer.vtkMRMLScalarVolumeNode) -> bool:
    """Whether a segmentation was made on the grid of this volume."""
    return segmentation is not None and segmentation.GetNodeReference(REFERENCE_GEOMETRY) is volume


def world_position(volume: slicer.vtkMRMLVolumeNode, index: tuple[float, float, float]) -> tuple[float, float, float]:
    """The position of a voxel (i, j, k) in the world (RAS, mm), with all parent transforms."""
    local = (nodes.ijk_to_ras(volume) @ (*index, 1))[:3]
    return tuple(nodes.transform_between(volume, None).TransformPoint(local))


def _voxels_for(volume: slicer.vtkMRMLVolumeNode, image: sitk.Image) -> np.ndarray:
    """The voxels of an image (z, y, x). Raises ValueError unless it has the size of the volume."""
    import SimpleITK as sitk

    if image.GetSize() != volume.GetImageData().GetDimensions():
        raise ValueError(f"The scan has {volume.GetImageData().GetDimensions()} voxels, the result {image.GetSize()}.")
    return sitk.GetArrayViewFromImage(image)


def _beside(
    volume: slicer.vtkMRMLScalarVolumeNode,
    what: str,
    image: sitk.Image,
    finish: Callable[[slicer.vtkMRMLScalarVolumeNode], None],
) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a float32 volume beside the scan; `finish` sets up the new node."""
    check_scan_node(volume)
    voxels = _voxels_for(volume, image)
    with nodes.undo_on_failure(volume.GetScene()):
        node = _derived(volume, what, voxels, vtk.VTK_FLOAT)
        finish(node)
        nodes.place_beside(node, volume)
        return node


def _derived(
    volume: slicer.vtkMRMLScalarVolumeNode, what: str, voxels: np.ndarray, scalar_type: int
) -> slicer.vtkMRMLScalarVolumeNode:
    """A clone of the scan with other voxels (z, y, x) of a VTK type, and a reference to the scan."""
    node = nodes.clone(volume, f"{volume.GetName()} {what}", voxels, scalar_type)
    for attribute in node.GetAttributeNames():  # the scan itself may be a result
        if attribute.startswith(PREFIX):
            node.RemoveAttribute(attribute)
    node.SetNodeReferenceID(INPUT, volume.GetID())
    node.SetNodeReferenceID(UNCERTAINTY, None)
    return node


def _show_as_overlay(node: slicer.vtkMRMLScalarVolumeNode) -> None:
    nodes.show_as_overlay(node.GetDisplayNode(), float(nodes.array(node.GetImageData()).max()))


def _mark_synthetic(node: slicer.vtkMRMLScalarVolumeNode) -> None:
    node.SetAttribute(SYNTHETIC, "yes")
    node.SetDescription(DESCRIPTION)
