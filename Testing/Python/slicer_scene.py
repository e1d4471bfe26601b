"""A real MRML scene with the logic that Slicer gives it, and nodes to put into it. There is no window and no Qt."""

import types

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from MedInpaintLib import Settings
from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk

QUICK = Settings(iterations=1, device="cpu")  # of a run
SIZE = (20, 24, 28)  # i, j, k
SHAPE = SIZE[::-1]  # of an array
COLUMNS = np.array(  # an oblique, anisotropic, left-handed grid: mm along i, j and k
    [[0.80, -0.40, 0.30], [0.45, 1.00, -0.50], [-0.10, 0.35, -1.60]]
)
COLUMNS = np.linalg.qr(COLUMNS)[0] @ np.diag([0.9, 1.1, 1.7])
COLUMNS[:, 2] *= -np.sign(np.linalg.det(COLUMNS))
GRID = np.eye(4)
GRID[:3, :3], GRID[:3, 3] = COLUMNS, (-11.5, 23.25, 40.75)
LOGICS = {
    "Volumes": slicer.vtkSlicerVolumesLogic,
    "Segmentations": slicer.vtkSlicerSegmentationsModuleLogic,
    "Colors": slicer.vtkMRMLColorLogic,
    "SubjectHierarchy": slicer.vtkSlicerSubjectHierarchyModuleLogic,
}


@pytest.fixture
def scene(monkeypatch):
    """A fresh scene as slicer.mrmlScene, with the logics of the application and of the core modules it needs."""
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    modules = types.SimpleNamespace()  # the application keeps weak pointers only
    for name, kind in LOGICS.items():
        logic = kind()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name, logic)
        setattr(modules, name.lower(), types.SimpleNamespace(logic=lambda logic=logic: logic))
    monkeypatch.setattr(slicer, "modules", modules, raising=False)
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())  # the Colors module does this
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    yield scene
    scene.Clear(True)


def vtk_matrix(matrix):
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.ravel(matrix).tolist())
    return result


def turned(degrees, axis=(1, 2, 3), shift=(0, 0, 0)):
    """A rigid 4 x 4 matrix, by Rodrigues' formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    matrix[:3, 3] = shift
    return matrix


def image_data(array, vtk_type=None):
    array = np.ascontiguousarray(array)
    data = vtk.vtkImageData()
    data.SetDimensions(array.shape[2], array.shape[1], array.shape[0])
    kind = get_vtk_array_type(array.dtype) if vtk_type is None else vtk_type
    data.GetPointData().SetScalars(numpy_to_vtk(array.reshape(-1, *array.shape[3:]), deep=True, array_type=kind))
    return data


def add_volume(scene, array, matrix=GRID, name="head", kind="vtkMRMLScalarVolumeNode", parent=None):
    node = scene.AddNewNodeByClass(kind, name)
    node.SetIJKToRASMatrix(vtk_matrix(matrix))
    node.SetAndObserveImageData(image_data(array))
    node.CreateDefaultDisplayNodes()
    put_under(node, parent)
    return node


def add_label_map(scene, array, matrix=GRID, name="labels", parent=None):
    return add_volume(scene, array, matrix, name, "vtkMRMLLabelMapVolumeNode", parent)


def add_linear(scene, matrix, parent=None):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(vtk_matrix(matrix))
    put_under(node, parent)
    return node


def put_under(node, parent):
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)


def oriented(mask, matrix=GRID, start=(0, 0, 0)):
    """A bool array (z, y, x) as Slicer's image of a segment; the first voxel has the index `start` on the grid."""
    data = slicer.vtkOrientedImageData()
    data.DeepCopy(image_data(np.asarray(mask, np.uint8)))
    shape = np.array(mask.shape[::-1])
    extent = np.stack([start, np.array(start) + shape - 1], axis=1)
    data.SetExtent(*extent.ravel().tolist())
    data.SetImageToWorldMatrix(vtk_matrix(matrix))
    return data


def add_segment(segmentation, mask, matrix=GRID, name="lesion", start=(0, 0, 0)):
    """A segment painted as in the segment editor, in a layer with those that it does not overlap; returns its id."""
    segment = segmentation.GetSegmentation().AddEmptySegment("", name)
    data = oriented(mask, matrix, start)
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(data, segmentation, segment)
    return segment


def add_segmentation(scene, mask=None, matrix=GRID, name="drawn", parent=None, segment="lesion", start=(0, 0, 0)):
    """A segmentation, and the id of its one segment if there is a mask."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    put_under(node, parent)
    if mask is None:
        return node
    return node, add_segment(node, mask, matrix, segment, start)


def voxels(node):
    return slicer.util.arrayFromVolume(node)


def scans():
    """The names of all volumes that are no label maps."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node.GetName() for node in volumes if not node.IsA("vtkMRMLLabelMapVolumeNode")]


def contents(scene):
    """The ids of all nodes: what a failure must leave as it was."""
    return sorted(node.GetID() for node in scene.GetNodes())


TURN = turned(25, (1, 2, 3), (4, -3, 5))
SCALING = np.diag([1.2, 0.85, 1.1, 1])


def grid(columns=(1, 1, 1), origin=(0, 0, 0)):
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(columns) if np.ndim(columns) == 1 else columns
    matrix[:3, 3] = origin
    return matrix


GRIDS = {
    "axis-aligned": grid((1, 1, 1), (-8, 3, 2)),
    "anisotropic": grid((0.7, 1.3, 2.6), (-8, 3, 2)),
    "oblique": turned(25) @ grid((0.9, 1.1, 1.7), (5, 3, 2)),
    "left-handed": grid((0.9, 1.1, -1.7), (5, 3, 2)),
    "as scanners give it": grid((-0.9, -1.1, 1.7), (5, 3, 2)),
    "oblique and left-handed": GRID,
}


def some_voxels(dtype="int16"):
    return np.random.default_rng(0).integers(1, 100, SHAPE).astype(dtype)


def blob(shape=SHAPE):
    """A lopsided lesion, which no reflection or exchange of axes takes to itself."""
    mask = np.zeros(shape, bool)
    mask[8:18, 9:16, 6:12] = True
    mask[8:11, 9:19, 6:9] = True
    mask[8:10, 9:11, 6:16] = True
    return mask


def deleted(scene):
    """A volume that is not in the scene any more."""
    node = add_volume(scene, some_voxels())
    scene.RemoveNode(node)
    return node


BEND = 0.004  # 1/mm


def bent(points):
    """x' = x + BEND y z, whose inverse is x = x' - BEND y z; a trilinear displacement field holds it exactly."""
    return points + np.stack([BEND * points[1] * points[2], 0 * points[0], 0 * points[0], 0 * points[0]])


def unbent(points):
    return 2 * points - bent(points)


def add_warp(scene, way=bent):
    axes = np.arange(-150.0, 151.0, 10)
    z, y, x = np.meshgrid(axes, axes, axes, indexing="ij")
    points = np.stack([x, y, z, np.ones_like(x)])
    field = vtk.vtkImageData()
    field.DeepCopy(image_data(np.moveaxis((way(points) - points)[:3], 0, -1)))
    field.SetOrigin(-150, -150, -150)
    field.SetSpacing(10, 10, 10)
    transform = slicer.vtkOrientedGridTransform()
    transform.SetDisplacementGridData(field)
    transform.SetInterpolationModeToLinear()
    node = scene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    node.SetAndObserveTransformToParent(transform)
    return node
