"""From MRML nodes to the images of the engine: the scan and the mask of its lesion. No Qt.

The space of Slicer is RAS, that of the engine is LPS, both in mm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk

from ...errors import InputError
from . import nodes

if TYPE_CHECKING:
    import SimpleITK as sitk

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
BINARY = "Binary labelmap"  # what Slicer calls the voxels of a segment


def scan_image(volume: slicer.vtkMRMLScalarVolumeNode) -> sitk.Image:
    """The scan as the engine takes it: same grid and pixel type, geometry in LPS (mm).

    The geometry is that in the world if the parent transforms only rotate and translate the scan. Otherwise it is
    that in the local space: an image cannot hold a warp, and the engine only needs a rough orientation.

    Raises:
        InputError: the node does not exist any more, or is no volume with one value per voxel.
    """
    check_scan_node(volume)
    return _image(nodes.array(volume.GetImageData()), _frame(volume) @ nodes.ijk_to_ras(volume))


def local_image(volume: slicer.vtkMRMLScalarVolumeNode) -> sitk.Image:
    """A volume as an image in LPS (mm) in its own space, without its parent transforms: as its files have it."""
    return _image(nodes.array(volume.GetImageData()), nodes.ijk_to_ras(volume))


def lesion_image(
    volume: slicer.vtkMRMLScalarVolumeNode,
    lesion: slicer.vtkMRMLSegmentationNode | slicer.vtkMRMLLabelMapVolumeNode,
    segment_id: str | None = None,
) -> sitk.Image:
    """The mask as the engine takes it, in the space of scan_image(volume).

    The mask keeps its grid: the engine resamples it and does not lose small lesions. Only if a scaling, a shear or a
    warp lies between mask and scan, the mask is resampled here onto the grid of the scan, by nearest neighbour.

    Args:
        volume: the scan.
        lesion: a segmentation (the mask is then 0 and 1) or a label map (the mask then has its labels).
        segment_id: the segment that is the lesion; None: all segments together.

    Raises:
        InputError: a node is missing or of another kind; the segment is unknown or empty; the mask lies outside the
            scan. An empty label map is not refused here, but by the engine.
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
    """From the local space of the scan to the space of scan_image, both RAS, as a 4 x 4 matrix."""
    rigid = nodes.rigid_matrix(nodes.transform_between(volume, None))
    return np.eye(4) if rigid is None else rigid


def _image(voxels: np.ndarray, ijk_to_ras: np.ndarray) -> sitk.Image:
    """An image in LPS from voxels (z, y, x) and the 4 x 4 matrix from their indices to RAS (mm)."""
    import SimpleITK as sitk

    matrix = LPS @ ijk_to_ras
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


def _overlap(labels: np.ndarray, matrix: np.ndarray, volume: slicer.vtkMRMLVolumeNode) -> bool:
    """Whether the centre of any labelled voxel lies in the scan; the matrix leads from indices to its local space."""
    labelled = np.argwhere(labels)[:, ::-1]
    to_scan = np.linalg.solve(nodes.ijk_to_ras(volume), matrix)
    index = labelled @ to_scan[:3, :3].T + to_scan[:3, 3]
    size = np.array(volume.GetImageData().GetDimensions())
    return bool(((index >= -0.5) & (index <= size - 0.5)).all(axis=1).any())


def is_scalar_volume(node: slicer.vtkMRMLNode) -> bool:
    """Whether a node is a plain volume. IsA() is also true for label maps, colour volumes and tensor volumes."""
    return node.GetClassName() == "vtkMRMLScalarVolumeNode"


def check_scan_node(volume: slicer.vtkMRMLNode | None) -> None:
    """Raise InputError unless a node is a volume in the scene with one value per voxel."""
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
    """The mask of segments: uint8 (z, y, x) of 0 and 1, its 4 x 4 matrix to the local space, a name for messages."""
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
    if not segments.ContainsRepresentation(BINARY):  # surfaces: convert a copy, not the node of the user
        segmentation = slicer.vtkMRMLSegmentationNode()
        segmentation.GetSegmentation().DeepCopy(segments)
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        segmentation.GetSegmentation().CreateRepresentation(BINARY)
    data = _merged(segmentation, known)
    if data is None or not nodes.array(data).any():
        raise InputError(f"The {name} is empty: paint the lesion first.")
    margin = np.eye(4)
    margin[:3, 3] = -1  # one empty voxel on each side: the engine takes a lesion in a single slice for no volume
    return np.pad(nodes.array(data), 1).astype(np.uint8), nodes.image_to_ras(data) @ margin, name


def _merged(segmentation: slicer.vtkMRMLSegmentationNode, ids: list[str]) -> slicer.vtkOrientedImageData | None:
    """Segments as one image of 0 and 1 on the finest of their grids; None if all are empty.

    Without this, Slicer resamples even a single segment to the reference grid of the segmentation, or a multiple of it.
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
