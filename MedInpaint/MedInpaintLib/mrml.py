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

from . import nodes
from .errors import InputError

PREFIX = "MedInpaint."  # of node attributes and of the reference from a result to its input
INPUT = PREFIX + "Input"
REPORT = PREFIX + "Report"
RED = (0.86, 0.2, 0.18)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
BINARY = "Binary labelmap"  # Slicer's name of the voxel representation of segments


def scan_image(volume: slicer.vtkMRMLScalarVolumeNode) -> sitk.Image:
    """The scan as the engine takes it: its own grid and pixel type, geometry in LPS (mm).

    The geometry is that in the world if the parent transforms only turn and shift the scan; else it is the scan's
    own: an image cannot hold a warp, and the engine needs no more than an approximate orientation.

    Raises:
        InputError: there is no such node any more, or it is no volume with one value per voxel.
    """
    _check_scan(volume)
    return _image(nodes.array(volume.GetImageData()), _frame(volume) @ nodes.ijk_to_ras(volume))


def lesion_image(
    volume: slicer.vtkMRMLScalarVolumeNode,
    lesion: slicer.vtkMRMLSegmentationNode | slicer.vtkMRMLLabelMapVolumeNode,
    segment_id: str | None = None,
) -> sitk.Image:
    """The mask as the engine takes it, in the space of scan_image(volume).

    It keeps its own grid, so that the engine, which minds small lesions, does the resampling. Only where scaling,
    shear or a warp lies between it and the scan, its voxels are brought onto the scan's grid, by nearest neighbour.

    Args:
        volume: the scan.
        lesion: segments (then the mask is 0 and 1) or a label map (its values are kept).
        segment_id: the segment that is the lesion; None takes all of them together.

    Raises:
        InputError: a node is missing or of another kind; the segment is unknown or empty; the mask lies outside the
            scan. An empty label map is left to the engine to refuse.
    """
    _check_scan(volume)
    if not nodes.in_scene(lesion):
        raise InputError("There is no lesion mask in the scene: choose a segmentation or a label map.")
    if lesion.IsA("vtkMRMLSegmentationNode"):
        labels, matrix, name = _segments(lesion, segment_id, volume)
    elif lesion.IsA("vtkMRMLLabelMapVolumeNode"):
        name = f"label map '{lesion.GetName()}'"
        if segment_id is not None:
            raise InputError(f"The {name} has no segments: give the label that marks the lesion instead.")
        if not nodes.has_voxels(lesion.GetImageData()):
            raise InputError(f"The {name} holds no voxels: load it again or choose another mask.")
        labels, matrix = nodes.array(lesion.GetImageData()), nodes.ijk_to_ras(lesion)
    else:
        raise InputError(f"'{lesion.GetName()}' is no mask: choose a segmentation or convert it to a label map.")
    empty, rigid = not labels.any(), nodes.rigid_matrix(nodes.transform_between(lesion, volume))
    if rigid is None:
        labels = nodes.resampled(labels, matrix, volume, nodes.transform_between(volume, lesion))
        matrix = nodes.ijk_to_ras(volume)
    else:
        matrix = rigid @ matrix
    if not empty and not _overlap(labels, matrix, volume):
        raise InputError(
            f"The {name} does not overlap the scan '{volume.GetName()}': "
            "check their transforms, and that both show the same head."
        )
    return _image(labels, _frame(volume) @ matrix)


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
    _check_scan(volume)
    if output is not None:
        if not nodes.in_scene(output) or not _is_plain(output):
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
    _check_scan(volume)
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


# --- geometry


def _frame(volume: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """From the scan's local space to that of scan_image, both RAS."""
    rigid = nodes.rigid_matrix(nodes.transform_between(volume, None))
    return np.eye(4) if rigid is None else rigid


def _image(voxels: np.ndarray, ijk_to_ras: np.ndarray) -> sitk.Image:
    matrix = LPS @ ijk_to_ras
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


def _overlap(labels: np.ndarray, matrix: np.ndarray, volume: slicer.vtkMRMLVolumeNode) -> bool:
    """Whether any painted voxel's centre lies in the scan; the matrix leads from indices to the scan's local space."""
    painted = np.argwhere(labels)[:, ::-1]
    to_scan = np.linalg.solve(nodes.ijk_to_ras(volume), matrix)
    index = painted @ to_scan[:3, :3].T + to_scan[:3, 3]
    size = np.array(volume.GetImageData().GetDimensions())
    return bool(((index >= -0.5) & (index <= size - 0.5)).all(axis=1).any())


# --- checks


def _is_plain(node: slicer.vtkMRMLNode) -> bool:
    """Label maps, colour and tensor volumes are scalar volumes by inheritance alone."""
    return node.GetClassName() == "vtkMRMLScalarVolumeNode"


def _check_scan(volume: slicer.vtkMRMLNode | None) -> None:
    if not nodes.in_scene(volume):
        raise InputError("There is no scan in the scene: load or choose one.")
    name = volume.GetName()
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(f"'{name}' is a label map: choose the scan itself.")
    data = volume.GetImageData() if volume.IsA("vtkMRMLVolumeNode") else None
    if data and data.GetNumberOfScalarComponents() > 1:
        raise InputError(f"'{name}' holds several values per voxel (colour or vectors): choose a scalar volume.")
    if not _is_plain(volume):
        raise InputError(f"'{name}' is no scalar volume: choose the scan itself.")
    if not nodes.has_voxels(data):
        raise InputError(f"'{name}' holds no voxels: load it again or choose another scan.")


def _segments(
    segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str | None, volume: slicer.vtkMRMLScalarVolumeNode
) -> tuple[np.ndarray, np.ndarray, str]:
    """Segments as uint8 (z, y, x) of 0 and 1, the matrix from its indices to the node's space, a name for messages."""
    title, segments = segmentation.GetName(), segmentation.GetSegmentation()
    known = list(segments.GetSegmentIDs())
    if not known:
        raise InputError(f"The segmentation '{title}' has no segments: add one and paint the lesion.")
    if segment_id is not None and segment_id not in known:
        raise InputError(f"The segmentation '{title}' has no segment '{segment_id}': choose one of its segments.")
    if segment_id is None:
        name = f"segmentation '{title}'"
    else:
        name, known = f"segment '{segments.GetSegment(segment_id).GetName()}'", [segment_id]
    if not segments.ContainsRepresentation(BINARY):  # made from surfaces: the user's own node is left as it is
        segmentation = slicer.vtkMRMLSegmentationNode()
        segmentation.GetSegmentation().DeepCopy(segments)
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        segmentation.GetSegmentation().CreateRepresentation(BINARY)
    data = _merged(segmentation, known)
    if data is None or not nodes.array(data).any():
        raise InputError(f"The {name} is empty: paint the lesion first.")
    margin = np.eye(4)
    margin[:3, 3] = -1  # for a lesion in a single slice: to the engine that alone would be no volume
    return np.pad(nodes.array(data), 1).astype(np.uint8), nodes.image_to_ras(data) @ margin, name


def _merged(segmentation: slicer.vtkMRMLSegmentationNode, ids: list[str]) -> slicer.vtkOrientedImageData | None:
    """Segments as one image of 0 and 1 on the finest of their own grids; None if all are empty.

    Left to itself, Slicer brings even a single segment onto the segmentation's reference grid, or a multiple of it.
    """
    segments = segmentation.GetSegmentation()
    layers = [segments.GetSegment(each).GetRepresentation(BINARY) for each in ids]
    layers = [layer for layer in layers if not layer.IsEmpty()]
    if not layers:
        return None
    chosen, labels = vtk.vtkStringArray(), vtk.vtkIntArray()
    for each in ids:
        chosen.InsertNextValue(each)
        labels.InsertNextValue(1)
    grid, matrix, extent = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4(), [0, -1] * 3
    min(layers, key=lambda layer: np.prod(layer.GetSpacing())).GetImageToWorldMatrix(matrix)
    grid.SetGeometryFromImageToWorldMatrix(matrix)
    segments.DetermineCommonLabelmapExtent(extent, grid, chosen, True)
    grid.SetExtent(extent)
    data, mode = slicer.vtkOrientedImageData(), slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
    segmentation.GenerateMergedLabelmapForAllSegments(data, mode, grid, chosen, labels)
    return data if nodes.has_voxels(data) else None


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
    _check_scan(volume)
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
