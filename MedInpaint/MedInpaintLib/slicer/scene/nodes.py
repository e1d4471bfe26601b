"""MRML nodes themselves: where their voxels lie, copying a volume, taking back what was half made. No Qt.

A node's own matrix (ijkToRAS, mm) leads from its voxels to its local space, the transforms it lies under lead from
there to the world.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import slicer
import vtk
from slicer.util import arrayFromVTKMatrix
from vtk.util.numpy_support import vtk_to_numpy

RIGID = 1e-4  # what a rotation matrix times its transpose may differ from the identity
WARM = "vtkMRMLColorTableNodeIron"  # one of the colour tables that every scene has


def transform_between(
    source: slicer.vtkMRMLTransformableNode, target: slicer.vtkMRMLTransformableNode | None
) -> vtk.vtkGeneralTransform:
    """From one node's local space to another's, or to the world."""
    transform = vtk.vtkGeneralTransform()
    parents = (node.GetParentTransformNode() if node else None for node in (source, target))
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(*parents, transform)
    return transform


def rigid_matrix(transform: vtk.vtkGeneralTransform) -> np.ndarray | None:
    """The 4 x 4 matrix of a transform that only turns and shifts, else None."""
    linear = vtk.vtkTransform()
    if not slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(transform, linear):
        return None
    matrix = arrayFromVTKMatrix(linear.GetMatrix())
    turn = matrix[:3, :3]
    proper = np.allclose(turn @ turn.T, np.eye(3), rtol=0, atol=RIGID) and np.linalg.det(turn) > 0
    return matrix if proper else None


def ijk_to_ras(volume: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """From an index of the node's array, which starts at 0, to its local space."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return _from_first_voxel(matrix, volume.GetImageData())


def image_to_ras(data: slicer.vtkOrientedImageData) -> np.ndarray:
    """From an index of a segment's array, which starts at 0, to the segmentation's local space."""
    matrix = vtk.vtkMatrix4x4()
    data.GetImageToWorldMatrix(matrix)  # it calls that space the world
    return _from_first_voxel(matrix, data)


def _from_first_voxel(matrix: vtk.vtkMatrix4x4, data: vtk.vtkImageData) -> np.ndarray:
    """Of an image that was cropped, Slicer's indices start elsewhere than at 0."""
    shift = np.eye(4)
    shift[:3, 3] = data.GetExtent()[::2]
    return arrayFromVTKMatrix(matrix) @ shift


def array(data: vtk.vtkImageData) -> np.ndarray:
    """The voxels themselves, not a copy, (z, y, x)."""
    return vtk_to_numpy(data.GetPointData().GetScalars()).reshape(data.GetDimensions()[::-1])


def resampled(
    labels: np.ndarray, matrix: np.ndarray, volume: slicer.vtkMRMLVolumeNode, transform: vtk.vtkGeneralTransform
) -> np.ndarray:
    """Resample labels (z, y, x) by nearest neighbour onto a volume's voxels.

    Their matrix leads from their indices to their local space, the transform to that from the volume's local space.
    Done in float64, as vtkImageReslice crashes on "long long", which is what numpy's int64 becomes.
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
    """Whether there is such a node, and it was not deleted."""
    return node is not None and node.GetScene() is not None


def has_voxels(data: vtk.vtkImageData | None) -> bool:
    """Whether there is one value per voxel."""
    scalars = data.GetPointData().GetScalars() if data else None
    return scalars is not None and scalars.GetNumberOfComponents() == 1 and scalars.GetNumberOfTuples() > 0


@contextmanager
def undone_on_failure(scene: slicer.vtkMRMLScene) -> Iterator[None]:
    """Remove every node that was added within, should it fail."""
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
    if scene is None:  # it went with another one
        return
    scene.RemoveNode(node)
    hierarchy = subject_hierarchy(scene)
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    if item:  # the desktop has removed it already
        hierarchy.RemoveItem(item, False, False)


def subject_hierarchy(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLSubjectHierarchyNode | None:
    """The subject hierarchy if there is one; the scene's own getter would make one."""
    found = scene.GetNumberOfNodesByClass("vtkMRMLSubjectHierarchyNode")
    return scene.GetSubjectHierarchyNode() if found else None


def place_beside(node: slicer.vtkMRMLNode, sibling: slicer.vtkMRMLNode) -> None:
    """Give a node the other's parent in the subject hierarchy."""
    hierarchy = subject_hierarchy(node.GetScene())
    if hierarchy:
        item = hierarchy.GetItemByDataNode(sibling)
        hierarchy.CreateItem(hierarchy.GetItemParent(item) if item else hierarchy.GetSceneItemID(), node)


def clone(
    volume: slicer.vtkMRMLScalarVolumeNode, name: str, voxels: np.ndarray, scalar_type: int
) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a copy of a volume with other voxels (z, y, x) of a VTK type; it looks the same and has no file yet."""
    node = slicer.vtkSlicerVolumesLogic.CloneVolume(volume.GetScene(), volume, name, False)
    while node.GetNumberOfStorageNodes():  # CloneVolume takes away the first alone
        node.SetAndObserveNthStorageNodeID(0, None)
    if node.GetDisplayNode():
        keep_window(node.GetDisplayNode())
    else:
        node.CreateDefaultDisplayNodes()
    data = vtk.vtkImageData()
    data.CopyStructure(volume.GetImageData())
    data.AllocateScalars(scalar_type, 1)
    array(data)[:] = voxels
    node.SetAndObserveImageData(data)
    return node


def keep_window(display: slicer.vtkMRMLScalarVolumeDisplayNode) -> None:
    """Stop a copied display from following its new voxels: scan and result are to be shown alike."""
    display.AutoWindowLevelOff()
    display.AutoThresholdOff()


def show_as_overlay(display: slicer.vtkMRMLScalarVolumeDisplayNode, maximum: float) -> None:
    """Show what is above 0 from red to yellow, voxel by voxel, and nothing elsewhere."""
    keep_window(display)
    display.SetAndObserveColorNodeID(WARM)
    display.SetWindowLevelMinMax(0, maximum)
    display.SetThreshold(float(np.finfo(np.float32).tiny), maximum)
    display.ApplyThresholdOn()
    display.InterpolateOff()  # else voxels next to those that are shown would show a part of their values


def replace(
    output: slicer.vtkMRMLScalarVolumeNode, node: slicer.vtkMRMLScalarVolumeNode, volume: slicer.vtkMRMLScalarVolumeNode
) -> None:
    """Give the output the content of a volume's clone, which is then removed; its name and display node stay.

    So does its file, unless it is the volume's: saving the scene would write over that.
    """
    shown = node.GetDisplayNode()
    output.CopyContent(node, False)  # voxels (the same, not a copy), geometry and attributes
    output.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    if not output.GetDisplayNode():
        output.CreateDefaultDisplayNodes()
    output.GetDisplayNode().CopyContent(shown)
    remove(node)
    remove(shown)
    own, other = output.GetStorageNode(), volume.GetStorageNode()
    if own and other and own.GetFullNameFromFileName() == other.GetFullNameFromFileName():
        output.SetAndObserveStorageNodeID(None)
        if own is not other:
            remove(own)
