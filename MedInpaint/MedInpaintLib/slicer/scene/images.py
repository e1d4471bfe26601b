"""The bridge between Slicer's MRML nodes and the engine's images: no Qt, so that it runs without a window.

Slicer's space is RAS, the engine's LPS, both in mm.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import slicer
import vtk

from ...errors import InputError
from ..scene import nodes

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
BINARY = "Binary labelmap"  # Slicer's name of the voxel representation of segments


def scan_image(volume: slicer.vtkMRMLScalarVolumeNode) -> sitk.Image:
    """The scan as the engine takes it: its own grid and pixel type, geometry in LPS (mm).

    The geometry is that in the world if the parent transforms only turn and shift the scan; else it is the scan's
    own: an image cannot hold a warp, and the engine needs no more than an approximate orientation.

    Raises:
        InputError: there is no such node any more, or it is no volume with one value per voxel.
    """
    check_scan_node(volume)
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
    check_scan_node(volume)
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


def is_scalar_volume(node: slicer.vtkMRMLNode) -> bool:
    """Label maps, colour and tensor volumes are scalar volumes by inheritance alone."""
    return node.GetClassName() == "vtkMRMLScalarVolumeNode"


def check_scan_node(volume: slicer.vtkMRMLNode | None) -> None:
    if not nodes.in_scene(volume):
        raise InputError("There is no scan in the scene: load or choose one.")
    name = volume.GetName()
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(f"'{name}' is a label map: choose the scan itself.")
    data = volume.GetImageData() if volume.IsA("vtkMRMLVolumeNode") else None
    if data and data.GetNumberOfScalarComponents() > 1:
        raise InputError(f"'{name}' holds several values per voxel (colour or vectors): choose a scalar volume.")
    if not is_scalar_volume(volume):
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
