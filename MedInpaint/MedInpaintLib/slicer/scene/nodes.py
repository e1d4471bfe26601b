"""MRML nodes: where their voxels lie, how to copy a volume, how to undo what a failure left half done. No Qt.

The matrix of a node (ijkToRAS, mm) leads from its voxels to its local space; its parent transforms lead from there to
the world.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import slicer
import vtk
from slicer.util import arrayFromVTKMatrix
from vtk.util.numpy_support import vtk_to_numpy

RIGID = 1e-4  # largest difference between a rotation matrix times its transpose and the identity
WARM = "vtkMRMLColorTableNodeIron"  # a colour table that every scene has


def transform_between(
    source: slicer.vtkMRMLTransformableNode, target: slicer.vtkMRMLTransformableNode | None
) -> vtk.vtkGeneralTransform:
    """From the local space of a node to that of another one, or to the world (None)."""
    transform = vtk.vtkGeneralTransform()
    parents = (node.GetParentTransformNode() if node else None for node in (source, target))
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(*parents, transform)
    return transform


def rigid_matrix(transform: vtk.vtkGeneralTransform) -> np.ndarray | None:
    """The 4 x 4 matrix of a transform that only rotates and translates; None for any other."""
    linear = vtk.vtkTransform()
    if not slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(transform, linear):
        return None
    matrix = arrayFromVTKMatrix(linear.GetMatrix())
    rotation = matrix[:3, :3]
    identity = np.allclose(rotation @ rotation.T, np.eye(3), rtol=0, atol=RIGID)
    return matrix if identity and np.linalg.det(rotation) > 0 else None


def ijk_to_ras(volume: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """From an index (i, j, k) of the array of a node to its local space, as a 4 x 4 matrix (mm)."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return _from_first_voxel(matrix, volume.GetImageData())


def image_to_ras(data: slicer.vtkOrientedImageData) -> np.ndarray:
    """From an index (i, j, k) of the array of a segment to the local space of its segmentation, as a 4 x 4 matrix."""
    matrix = vtk.vtkMatrix4x4()
    data.GetImageToWorldMatrix(matrix)  # VTK calls the local space the world here
    return _from_first_voxel(matrix, data)


def _from_first_voxel(matrix: vtk.vtkMatrix4x4, data: vtk.vtkImageData) -> np.ndarray:
    """Make the matrix count from 0: in a cropped image the first index of Slicer is not 0, that of an array is."""
    shift = np.eye(4)
    shift[:3, 3] = data.GetExtent()[::2]
    return arrayFromVTKMatrix(matrix) @ shift


def array(data: vtk.vtkImageData) -> np.ndarray:
    """The voxels (z, y, x) of an image; not a copy."""
    return vtk_to_numpy(data.GetPointData().GetScalars()).reshape(data.GetDimensions()[::-1])


def resampled(
    labels: np.ndarray, matrix: np.ndarray, volume: slicer.vtkMRMLVolumeNode, transform: vtk.vtkGeneralTransform
) -> np.ndarray:
    """Resample labels by nearest neighbour onto the voxels of a volume.

    It works in float64: vtkImageReslice crashes on "long long", which is what int64 of numpy becomes.

    Args:
        labels: (z, y, x).
        matrix: from the indices of the labels to their local space, 4 x 4.
        volume: the volume.
        transform: from the local space of the volume to that of the labels.

    Returns:
        The labels on the grid of the volume (z, y, x), of the same type.
    """
    data = vtk.vtkImageData()
    data.SetDimensions(labels.shape[::-1])
    data.AllocateScalars(vtk.VTK_DOUBLE, 1)
    array(data)[:] = labels
    indices = vtk.vtkGeneralTransform()
    indices.PostMultiply()
    indices.Concatenate(ijk_to_ras(volume).ravel().tolist())
    indices.Concatenate(transform)
    indices.Concatenate(np.linalg.inv(matrix).ravel().tolist())
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(data)
    reslice.SetResliceTransform(indices)
    reslice.SetInterpolationModeToNearestNeighbor()
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputExtent(*(limit for size in volume.GetImageData().GetDimensions() for limit in (0, size - 1)))
    reslice.Update()
    return array(reslice.GetOutput()).astype(labels.dtype)


def in_scene(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether there is a node, and it was not deleted."""
    return node is not None and node.GetScene() is not None


def has_voxels(data: vtk.vtkImageData | None) -> bool:
    """Whether there is one value per voxel."""
    scalars = data.GetPointData().GetScalars() if data else None
    return scalars is not None and scalars.GetNumberOfComponents() == 1 and scalars.GetNumberOfTuples() > 0


@contextmanager
def undo_on_failure(scene: slicer.vtkMRMLScene) -> Iterator[None]:
    """Remove every node that was added in this block if the block fails."""
    before = {node.GetID() for node in scene.GetNodes()}
    try:
        yield
    except BaseException:
        for node in [node for node in scene.GetNodes() if node.GetID() not in before]:
            remove(node)
        raise


def remove(node: slicer.vtkMRMLNode) -> None:
    """Remove a node from its scene, and from the subject hierarchy."""
    scene = node.GetScene()
    if scene is None:  # it was removed together with another node
        return
    scene.RemoveNode(node)
    hierarchy = subject_hierarchy(scene)
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    if item:  # the desktop has removed it already
        hierarchy.RemoveItem(item, False, False)


def subject_hierarchy(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLSubjectHierarchyNode | None:
    """The subject hierarchy, or None; GetSubjectHierarchyNode() alone would create one."""
    found = scene.GetNumberOfNodesByClass("vtkMRMLSubjectHierarchyNode")
    return scene.GetSubjectHierarchyNode() if found else None


def place_beside(node: slicer.vtkMRMLNode, sibling: slicer.vtkMRMLNode) -> None:
    """Put a node beside another one in the subject hierarchy."""
    hierarchy = subject_hierarchy(node.GetScene())
    if hierarchy:
        item = hierarchy.GetItemByDataNode(sibling)
        hierarchy.CreateItem(hierarchy.GetItemParent(item) if item else hierarchy.GetSceneItemID(), node)


def clone(
    volume: slicer.vtkMRMLScalarVolumeNode, name: str, voxels: np.ndarray, scalar_type: int
) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a copy of a volume with other voxels (z, y, x) of a VTK type. It looks the same and has no file.

    vtkSlicerVolumesLogic::CloneVolume does the same, but shows the copy by the volume's display node for a moment,
    which then looks at all voxels for the best window: a tenth of a second for a head.
    """
    scene, shown = volume.GetScene(), volume.GetDisplayNode()
    node = _copy(volume)
    node.SetName(scene.GetUniqueNameByString(name))
    node.RemoveAllDisplayNodeIDs()
    while node.GetNumberOfStorageNodes():
        node.SetAndObserveNthStorageNodeID(0, None)
    data = vtk.vtkImageData()
    data.CopyStructure(volume.GetImageData())
    data.AllocateScalars(scalar_type, 1)
    array(data)[:] = voxels
    node.SetAndObserveImageData(data)
    scene.AddNode(node)
    if shown:
        display = _copy(shown)
        keep_window(display)
        node.SetAndObserveDisplayNodeID(scene.AddNode(display).GetID())
    else:
        node.CreateDefaultDisplayNodes()
    return node


def _copy(node: slicer.vtkMRMLNode) -> slicer.vtkMRMLNode:
    """A copy that is not in the scene yet."""
    copy = node.GetScene().CreateNodeByClass(node.GetClassName())
    copy.UnRegister(None)  # Python holds it
    copy.CopyWithScene(node)
    return copy


def keep_window(display: slicer.vtkMRMLScalarVolumeDisplayNode) -> None:
    """Stop a copied display node from adapting to its new voxels: scan and result shall look alike."""
    display.AutoWindowLevelOff()
    display.AutoThresholdOff()


def show_as_overlay(display: slicer.vtkMRMLScalarVolumeDisplayNode, maximum: float) -> None:
    """Show values above 0 from red to yellow, voxel by voxel; the rest is transparent."""
    keep_window(display)
    display.SetAndObserveColorNodeID(WARM)
    display.SetWindowLevelMinMax(0, maximum)
    display.SetThreshold(float(np.finfo(np.float32).tiny), maximum)
    display.ApplyThresholdOn()
    display.InterpolateOff()  # interpolation would colour the neighbours of these voxels too


def replace(
    output: slicer.vtkMRMLScalarVolumeNode, node: slicer.vtkMRMLScalarVolumeNode, volume: slicer.vtkMRMLScalarVolumeNode
) -> None:
    """Give a node the content of another one.

    Args:
        output: the node that takes the content. It keeps its name and its display node, and its file unless that is
            the file of the volume: saving the scene would overwrite it.
        node: a clone of the volume. It is removed.
        volume: the scan.
    """
    shown = node.GetDisplayNode()
    output.CopyContent(node, False)  # geometry, attributes, and the voxels without a copy
    output.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    if not output.GetDisplayNode():
        output.CreateDefaultDisplayNodes()
    output.GetDisplayNode().CopyContent(shown)
    remove(node)
    remove(shown)
    storage, scan_storage = output.GetStorageNode(), volume.GetStorageNode()
    if storage and scan_storage and storage.GetFullNameFromFileName() == scan_storage.GetFullNameFromFileName():
        output.SetAndObserveStorageNodeID(None)
        if storage is not scan_storage:
            remove(storage)
