"""MRML nodes to the engine's images and back, with Slicer's real scene, transforms and segmentations."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer_scene as mrml_scene
import vtk
from MedInpaintLib.errors import InputError
from MedInpaintLib.settings import Settings
from MedInpaintLib.slicer.scene import nodes
from MedInpaintLib.slicer.scene import results as mrml
from MedInpaintLib.volumes.image import with_voxels
from MedInpaintLib.volumes.mask import hole_on_grid
from slicer_scene import (
    GRID,
    SIZE,
    add_label_map,
    add_linear,
    add_segment,
    add_segmentation,
    add_volume,
    contents,
    oriented,
    put_under,
    turned,
    voxels,
)
from synthetic import SCALAR_TYPES, bits, extremes
from vtk.util.numpy_support import vtk_to_numpy

scene = mrml_scene.scene  # the fixture
SHAPE = SIZE[::-1]
LPS = np.diag([-1, -1, 1, 1])
TURN = turned(25, (1, 2, 3), (4, -3, 5))
OTHER_TURN = turned(-12, (3, 1, -1), (-1.5, 2, 0.7))
SCALING = np.diag([1.2, 0.85, 1.1, 1])
REFLECTION = np.diag([-1, 1, 1, 1])
REPORT = {
    "versions": {"medinpaint": "0.1.0"},
    "model": {"name": 'my "models"; 5 % <ü>:\n&'},
    "settings": Settings(seed=7).to_dict(),
    "seam": None,
}


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


def lower(image, index):
    """Where SimpleITK says an index lies, in RAS."""
    return np.array(image.TransformContinuousIndexToPhysicalPoint(index)) * (-1, -1, 1)


def indices():
    """All the scan's voxel indices (i, j, k, 1) in the order of a raveled array, as columns."""
    k, j, i = np.indices(SHAPE).reshape(3, -1)
    return np.stack([i, j, k, np.ones_like(i)]).astype(float)


def looked_up(mask, index):
    """The mask's nearest voxels at continuous indices (3, n), and which of them are too near a tie to tell."""
    nearest = np.rint(index).astype(int)
    size = np.array(mask.shape[::-1])[:, None]
    inside = ((nearest >= 0) & (nearest < size)).all(axis=0)
    found = np.zeros(index.shape[1], bool)
    i, j, k = nearest[:, inside]
    found[inside] = mask[k, j, i]
    tied = (np.abs(np.abs(index - nearest) - 0.5) < 0.02).any(axis=0)
    return found.reshape(SHAPE), tied.reshape(SHAPE)


def assert_same_place(volume, lesion, mask, index, **chosen):
    """The engine's hole is the mask's nearest neighbour at these continuous indices of the mask's grid."""
    hole = hole_on_grid(mrml.lesion_image(volume, lesion, **chosen), mrml.scan_image(volume))
    expected, tied = looked_up(mask, index)
    assert expected.sum() > 100
    assert tied.mean() < 0.15
    np.testing.assert_array_equal(hole[~tied], expected[~tied])


def add_mask(kind, scene, mask, matrix, parent=None):
    if kind == "label map":
        return add_label_map(scene, mask.astype(np.uint8), matrix, parent=parent)
    return add_segmentation(scene, mask, matrix, parent=parent)[0]


MASK_KINDS = pytest.mark.parametrize("kind", ["segment", "label map"])

# --- the scan


@pytest.mark.parametrize("matrix", GRIDS.values(), ids=GRIDS)
def test_the_scans_voxels_and_their_places_are_those_of_the_node(scene, matrix):
    array = some_voxels()
    image = mrml.scan_image(add_volume(scene, array, matrix))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
    for index in ((0, 0, 0), (19, 0, 0), (0, 23, 0), (0, 0, 27), (7, 11, 13)):
        np.testing.assert_allclose(lower(image, index), (matrix @ (*index, 1))[:3], atol=1e-6)


@pytest.mark.parametrize("dtype", SCALAR_TYPES)
def test_the_scan_keeps_its_pixel_type_and_every_bit(scene, dtype):
    array = extremes(dtype)
    image = mrml.scan_image(add_volume(scene, array))
    back = sitk.GetArrayFromImage(image)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(bits(back), bits(array))


def test_rigid_parent_transforms_nested_or_not_lead_the_scan_to_the_world(scene):
    outer = add_linear(scene, TURN)
    inner = add_linear(scene, OTHER_TURN, outer)
    for parent, matrix in ((outer, TURN), (inner, TURN @ OTHER_TURN)):
        image = mrml.scan_image(add_volume(scene, some_voxels(), parent=parent))
        np.testing.assert_allclose(lower(image, (3, 5, 7)), (matrix @ GRID @ (3, 5, 7, 1))[:3], atol=1e-6)


NOT_RIGID = {"scaled": SCALING, "mirrored": REFLECTION, "sheared": TURN + np.eye(4, k=1) * 1e-3}


@pytest.mark.parametrize("matrix", NOT_RIGID.values(), ids=NOT_RIGID)
def test_a_parent_transform_that_is_not_rigid_leaves_the_scan_its_own_geometry(scene, matrix):
    volume = add_volume(scene, some_voxels(), parent=add_linear(scene, matrix))
    np.testing.assert_allclose(lower(mrml.scan_image(volume), (3, 5, 7)), (GRID @ (3, 5, 7, 1))[:3], atol=1e-6)


def test_the_image_does_not_share_its_memory_with_the_node(scene):
    volume = add_volume(scene, some_voxels())
    image = mrml.scan_image(volume)
    voxels(volume)[:] = 0
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), some_voxels())


def deleted(scene):
    node = add_volume(scene, some_voxels())
    scene.RemoveNode(node)
    return node


def new(scene, kind, name):
    return scene.AddNewNodeByClass(f"vtkMRML{kind}Node", name)


BAD_SCANS = {
    "None": (lambda scene: None, "There is no scan"),
    "deleted": (deleted, "There is no scan"),
    "label map": (lambda scene: add_label_map(scene, some_voxels()), "'labels' is a label map"),
    "without voxels": (lambda scene: new(scene, "ScalarVolume", "head"), "'head' holds no voxels"),
    "colour": (
        lambda scene: add_volume(scene, np.ones((*SHAPE, 3), np.uint8), kind="vtkMRMLVectorVolumeNode"),
        "'head' holds several values per voxel",
    ),
    "two components": (lambda scene: add_volume(scene, np.ones((*SHAPE, 2))), "'head' holds several values per voxel"),
    "model": (lambda scene: new(scene, "Model", "skin"), "'skin' is no scalar volume"),
}


@pytest.mark.parametrize(("make", "message"), BAD_SCANS.values(), ids=BAD_SCANS)
def test_what_is_no_scan_is_refused_by_every_function_and_the_scene_stays_as_it_is(scene, make, message):
    volume, image = make(scene), sitk.Image(SIZE, sitk.sitkInt16)
    segmentation, _ = add_segmentation(scene, blob())
    before = contents(scene)
    for call in (
        lambda: mrml.scan_image(volume),
        lambda: mrml.lesion_image(volume, segmentation),
        lambda: mrml.result_node(volume, image, REPORT),
        lambda: mrml.generated_node(volume, image),
        lambda: mrml.uncertainty_node(volume, image),
        lambda: mrml.new_lesion(volume),
    ):
        with pytest.raises(InputError, match=f"^{message}.*: .*[^.]\\.$"):
            call()
    assert contents(scene) == before


# --- the lesion


@MASK_KINDS
@pytest.mark.parametrize("matrix", GRIDS.values(), ids=GRIDS)
def test_a_mask_on_the_scans_grid_marks_exactly_its_own_voxels(scene, kind, matrix):
    volume = add_volume(scene, some_voxels(), matrix)
    lesion = add_mask(kind, scene, blob(), matrix)
    before = contents(scene)
    hole = hole_on_grid(mrml.lesion_image(volume, lesion), mrml.scan_image(volume))
    np.testing.assert_array_equal(hole, blob())
    assert contents(scene) == before


PARENTS = {  # transforms to the world: of the scan, of the lesion
    "the scan turned": (TURN, None),
    "the lesion turned": (None, TURN),
    "turned differently": (TURN, OTHER_TURN),
    "the scan scaled": (SCALING, None),
    "the lesion scaled": (None, SCALING),
    "scaled and turned": (SCALING, TURN),
    "the lesion mirrored": (None, REFLECTION @ grid(origin=(-14, 0, 0))),
}


@MASK_KINDS
@pytest.mark.parametrize(("scans", "lesions"), PARENTS.values(), ids=PARENTS)
def test_parent_transforms_are_applied_to_the_mask(scene, kind, scans, lesions):
    # The lesion's own grid is placed so that it meets the scan's middle in the world.
    scan_to_world = (np.eye(4) if scans is None else scans) @ GRID
    lesion_to_world = np.eye(4) if lesions is None else lesions
    own = np.linalg.inv(lesion_to_world) @ scan_to_world @ turned(20, (2, -1, 1), (1.3, -0.6, 0.8))
    own[:3, :3] = turned(33, (1, 1, -2))[:3, :3] @ np.diag([0.83, 1.07, -1.31])  # of its own, and perpendicular
    middle = (9.4, 12.2, 12.7)
    own[:3, 3] += (np.linalg.inv(lesion_to_world) @ scan_to_world @ (*middle, 1) - own @ (*middle, 1))[:3]
    volume = add_volume(scene, some_voxels(), parent=None if scans is None else add_linear(scene, scans))
    lesion = add_mask(kind, scene, blob(), own, None if lesions is None else add_linear(scene, lesions))
    before = contents(scene)
    index = np.linalg.inv(lesion_to_world @ own) @ scan_to_world @ indices()
    assert_same_place(volume, lesion, blob(), index[:3])
    assert contents(scene) == before


@MASK_KINDS
@pytest.mark.parametrize("matrix", [TURN, SCALING], ids=["turned", "scaled"])
def test_a_mask_under_the_scans_own_transform_marks_exactly_its_own_voxels(scene, kind, matrix):
    parent = add_linear(scene, OTHER_TURN, add_linear(scene, matrix))
    volume = add_volume(scene, some_voxels(), parent=parent)
    lesion = add_mask(kind, scene, blob(), GRID, parent)
    np.testing.assert_array_equal(hole_on_grid(mrml.lesion_image(volume, lesion), mrml.scan_image(volume)), blob())


@MASK_KINDS
def test_transforms_nested_in_one_that_the_scan_shares_are_applied(scene, kind):
    outer = add_linear(scene, SCALING)
    volume = add_volume(scene, some_voxels(), parent=outer)
    lesion = add_mask(kind, scene, blob(), GRID, add_linear(scene, OTHER_TURN, outer))
    assert_same_place(volume, lesion, blob(), (np.linalg.inv(GRID) @ np.linalg.inv(OTHER_TURN) @ GRID @ indices())[:3])


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
    field.DeepCopy(mrml_scene.image_data(np.moveaxis((way(points) - points)[:3], 0, -1)))
    field.SetOrigin(-150, -150, -150)
    field.SetSpacing(10, 10, 10)
    transform = slicer.vtkOrientedGridTransform()
    transform.SetDisplacementGridData(field)
    transform.SetInterpolationModeToLinear()
    node = scene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    node.SetAndObserveTransformToParent(transform)
    return node


@MASK_KINDS
@pytest.mark.parametrize("who", ["the scan", "the lesion"])
def test_a_warp_of_either_is_applied_to_the_mask(scene, kind, who):
    warp = add_warp(scene)
    scans, lesions = (warp, None) if who == "the scan" else (None, warp)
    there = bent if who == "the scan" else unbent  # the scan's local space to the lesion's
    volume = add_volume(scene, some_voxels(), parent=scans)
    middle = there((GRID @ (9, 12, 13, 1))[:, None])[:, 0]
    own = GRID.copy()
    own[:3, 3] += (middle - GRID @ (9.2, 12.1, 12.7, 1))[:3]
    lesion = add_mask(kind, scene, blob(), own, lesions)
    before = contents(scene)
    index = np.linalg.inv(own) @ there(GRID @ indices())
    straight = np.linalg.inv(own) @ GRID @ indices()
    assert np.abs(index - straight).max() > 3  # so that a warp that is ignored cannot pass
    assert_same_place(volume, lesion, blob(), index[:3])
    assert contents(scene) == before


@MASK_KINDS
def test_scan_and_mask_under_the_same_warp_stay_together(scene, kind):
    warp = add_warp(scene)
    volume = add_volume(scene, some_voxels(), parent=warp)
    lesion = add_mask(kind, scene, blob(), GRID, warp)
    np.testing.assert_array_equal(hole_on_grid(mrml.lesion_image(volume, lesion), mrml.scan_image(volume)), blob())


def test_a_segment_whose_extent_is_cropped_lands_where_it_was_painted(scene):
    volume = add_volume(scene, some_voxels())
    cropped = blob()[8:18, 9:19, 6:16]
    segmentation, segment = add_segmentation(scene, cropped, start=(6, 9, 8))
    mask = mrml.lesion_image(volume, segmentation, segment)
    np.testing.assert_array_equal(hole_on_grid(mask, mrml.scan_image(volume)), blob())


def test_a_segment_in_a_single_slice_is_enough(scene):
    volume = add_volume(scene, some_voxels())
    mask = blob()
    mask[9:] = False
    segmentation, segment = add_segmentation(scene, mask)
    image = mrml.lesion_image(volume, segmentation, segment)
    np.testing.assert_array_equal(hole_on_grid(image, mrml.scan_image(volume)), mask)


def test_a_small_segment_between_the_scans_voxels_is_not_lost(scene):
    volume = add_volume(scene, some_voxels(), grid())
    fine = np.zeros((40, 40, 40), bool)
    fine[10:22, 10:22, 10:22] = True
    fine[30, 34, 26] = True  # at (26, 34, 30) / 4 + 0.1 mm = (6.6, 8.6, 7.6): nearest to (7, 9, 8)
    segmentation, _ = add_segmentation(scene, fine, grid((0.25, 0.25, 0.25), (0.1, 0.1, 0.1)))
    hole = hole_on_grid(mrml.lesion_image(volume, segmentation), mrml.scan_image(volume))
    assert hole[8, 9, 7]


def test_segments_are_taken_on_their_own_grids_and_not_on_the_segmentations(scene):
    volume = add_volume(scene, some_voxels(), grid((3, 3, 3)))
    segmentation, _ = mrml.new_lesion(volume)  # whose reference grid is the scan's
    small, large = np.zeros((40, 40, 40), bool), np.zeros((10, 10, 10), bool)
    small[20:30, 20:30, 20:30] = True
    large[6:8, 6:8, 6:8] = True  # reaches beyond the other's grid
    fine, coarse = (  # each in a layer of its own
        segmentation.AddSegmentFromBinaryLabelmapRepresentation(oriented(mask, grid((side,) * 3)), "part", (1, 0, 0))
        for mask, side in ((small, 0.7), (large, 3))
    )
    x = np.arange(-10, 50) * 0.7
    first, second = (x > 20 * 0.7 - 0.1) & (x < 29 * 0.7 + 0.1), (x > 6 * 3 - 1.5) & (x < 7 * 3 + 1.5)
    both = np.einsum("i,j,k", first, first, first) | np.einsum("i,j,k", second, second, second)
    for chosen, spacing, painted in ((fine, 0.7, 1000), (coarse, 3, 8), (None, 0.7, both.sum())):
        mask = mrml.lesion_image(volume, segmentation, chosen)
        assert mask.GetSpacing() == pytest.approx((spacing,) * 3)
        assert sitk.GetArrayViewFromImage(mask).sum() == painted


def test_one_segment_is_chosen_by_its_id_and_none_takes_them_all(scene):
    volume = add_volume(scene, some_voxels())
    first, second = blob(), np.zeros(SHAPE, bool)
    second[12:22, 12:20, 10:14] = True  # overlaps the first: a layer of its own
    third = np.zeros(SHAPE, bool)
    third[1:3, 1:3, 1:3] = True
    segmentation, one = add_segmentation(scene, first, segment="one")
    two, three = add_segment(segmentation, second, name="two"), add_segment(segmentation, third, name="three")
    add_segment(segmentation, np.zeros(SHAPE, bool), name="nothing")
    scan = mrml.scan_image(volume)
    for chosen, mask in ((one, first), (two, second), (three, third), (None, first | second | third)):
        image = mrml.lesion_image(volume, segmentation, chosen)
        assert np.unique(sitk.GetArrayViewFromImage(image)).tolist() == [0, 1]
        np.testing.assert_array_equal(hole_on_grid(image, scan), mask)


def test_a_segment_made_of_a_surface_is_filled_and_its_node_left_as_it_was(scene):
    volume = add_volume(scene, some_voxels(), grid())
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(9.2, 11.7, 13.4)
    sphere.SetRadius(6)
    sphere.SetThetaResolution(60)
    sphere.SetPhiResolution(60)
    sphere.Update()
    segmentation = add_segmentation(scene)
    segments = segmentation.GetSegmentation()
    segments.SetSourceRepresentationName("Closed surface")
    segmentation.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "ball", (1, 0, 0))
    before = contents(scene)
    mask = mrml.lesion_image(volume, segmentation)
    hole = hole_on_grid(mask, mrml.scan_image(volume))
    assert mask.GetSpacing() == pytest.approx((1, 1, 1))  # the scan's, where Slicer's own choice is a far finer grid
    distance = np.linalg.norm(indices()[:3].T - (9.2, 11.7, 13.4), axis=1).reshape(SHAPE)
    assert hole[distance < 5].all()
    assert not hole[distance > 7].any()
    assert not segments.ContainsRepresentation("Binary labelmap")
    assert contents(scene) == before


@pytest.mark.parametrize("parent", [None, SCALING], ids=["as it lies", "resampled"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float64"])
def test_a_label_map_keeps_its_labels(scene, dtype, parent):
    labels = blob() * 3
    labels[14:18, 9:16, 6:12] = 7
    transform = None if parent is None else add_linear(scene, parent)
    volume = add_volume(scene, some_voxels(), grid())
    mask = mrml.lesion_image(volume, add_label_map(scene, labels.astype(dtype), grid(), parent=transform))
    assert np.unique(sitk.GetArrayViewFromImage(mask)).tolist() == [0, 3, 7]
    one = hole_on_grid(mask, mrml.scan_image(volume), label=7)
    index = indices()[:3] if parent is None else (np.linalg.inv(SCALING) @ indices())[:3]
    np.testing.assert_array_equal(one, looked_up(labels == 7, index)[0])


def test_an_empty_label_map_is_left_to_the_engine(scene):
    for number, parent in enumerate((None, add_linear(scene, SCALING))):
        volume = add_volume(scene, some_voxels())
        lesion = add_label_map(scene, np.zeros(SHAPE, np.uint8), name=f"empty {number}", parent=parent)
        with pytest.raises(InputError, match=r"^The mask is empty"):
            hole_on_grid(mrml.lesion_image(volume, lesion), mrml.scan_image(volume))


@MASK_KINDS
@pytest.mark.parametrize("parent", [None, SCALING, "warp"], ids=["rigid", "scaled", "warped"])
def test_a_mask_wholly_outside_the_scan_is_refused_by_name(scene, kind, parent):
    node = None if parent is None else add_warp(scene) if isinstance(parent, str) else add_linear(scene, parent)
    lesion = add_mask(kind, scene, blob(), grid(origin=(90, 90, 90)), node)
    before = contents(scene)
    name = "label map 'labels'" if kind == "label map" else "segmentation 'drawn'"
    with pytest.raises(InputError, match=f"^The {name} does not overlap the scan 'head': check .*[^.]\\.$"):
        mrml.lesion_image(add_volume(scene, some_voxels(), grid()), lesion)
    assert set(before) <= set(contents(scene))
    assert len(contents(scene)) == len(before) + 2  # the scan and its display


def deleted_segmentation(scene):
    node, segment = add_segmentation(scene, blob())
    scene.RemoveNode(node)
    return node, segment


def drawn(scene, mask=None):
    return (add_segmentation(scene) if mask is None else add_segmentation(scene, mask)[0]), None


NOTHING = np.zeros(SHAPE, bool)
BAD_LESIONS = {
    "None": (lambda scene: (None, None), "There is no lesion mask in the scene"),
    "deleted": (deleted_segmentation, "There is no lesion mask in the scene"),
    "no segments": (drawn, "The segmentation 'drawn' has no segments"),
    "no segments, yet one is named": (lambda scene: (drawn(scene)[0], "a"), "The segmentation 'drawn' has no segments"),
    "unknown segment": (lambda scene: (drawn(scene, blob())[0], "a"), "The segmentation 'drawn' has no segment 'a'"),
    "empty segment": (lambda scene: add_segmentation(scene, NOTHING, segment="spot"), "The segment 'spot' is empty"),
    "never painted": (lambda scene: mrml.new_lesion(add_volume(scene, some_voxels())), "The segment 'lesion' is empty"),
    "all segments empty": (lambda scene: drawn(scene, NOTHING), "The segmentation 'drawn' is empty"),
    "a volume": (lambda scene: (add_volume(scene, some_voxels(), name="mask"), None), "'mask' is no mask"),
    "a model": (lambda scene: (new(scene, "Model", "skin"), None), "'skin' is no mask"),
    "a label map's segment": (
        lambda scene: (add_label_map(scene, blob().astype(np.uint8)), "a"),
        "The label map 'labels' has no segments",
    ),
    "a label map without voxels": (
        lambda scene: (new(scene, "LabelMapVolume", "labels"), None),
        "The label map 'labels' holds no voxels",
    ),
}


@pytest.mark.parametrize(("make", "message"), BAD_LESIONS.values(), ids=BAD_LESIONS)
def test_what_is_no_mask_is_refused_with_one_sentence_and_the_scene_stays_as_it_is(scene, make, message):
    volume = add_volume(scene, some_voxels())
    lesion, segment = make(scene)
    before = contents(scene)
    with pytest.raises(InputError, match=f"^{message}.*: .*[^.]\\.$"):
        mrml.lesion_image(volume, lesion, segment)
    assert contents(scene) == before


# --- the result


def filled(volume, hole=None):
    """What the engine would return, with other voxels in the hole."""
    hole = blob() if hole is None else hole
    return with_voxels(mrml.scan_image(volume), np.arange(hole.sum()) % 90, hole)


@pytest.mark.parametrize("dtype", SCALAR_TYPES)
def test_the_result_holds_the_fill_and_every_other_voxel_bit_for_bit(scene, dtype):
    array = some_voxels(dtype)
    kind = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    array[0, 0, :2] = kind.min, kind.max
    if np.dtype(dtype).kind == "f":
        array[0, 0, 2:4] = -0.0, np.nan
    volume = add_volume(scene, array)
    node = mrml.result_node(volume, filled(volume), REPORT)
    assert node.GetImageData().GetScalarType() == volume.GetImageData().GetScalarType()
    np.testing.assert_array_equal(bits(voxels(node))[~blob()], bits(array)[~blob()])
    np.testing.assert_array_equal(voxels(node)[blob()], np.arange(blob().sum()) % 90)
    np.testing.assert_array_equal(bits(voxels(volume)), bits(array))


@pytest.mark.parametrize("vtk_type", [vtk.VTK_CHAR, vtk.VTK_LONG_LONG, vtk.VTK_UNSIGNED_LONG_LONG])
def test_vtks_other_names_for_the_same_types_are_kept(scene, vtk_type):
    dtype = {vtk.VTK_CHAR: "int8", vtk.VTK_LONG_LONG: "int64", vtk.VTK_UNSIGNED_LONG_LONG: "uint64"}[vtk_type]
    volume = add_volume(scene, some_voxels())
    volume.SetAndObserveImageData(mrml_scene.image_data(some_voxels(dtype), vtk_type))
    node = mrml.result_node(volume, filled(volume), REPORT)
    assert node.GetImageData().GetScalarType() == vtk_type
    np.testing.assert_array_equal(voxels(node)[~blob()], some_voxels(dtype)[~blob()])


def set_up_display(volume):
    display = volume.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    display.AutoWindowLevelOn()  # would follow the new voxels
    return display.GetWindow(), display.GetLevel()


@pytest.mark.parametrize("matrix", [None, TURN, SCALING], ids=["no transform", "turned", "scaled"])
def test_the_result_lies_where_the_scan_lies_and_looks_like_it(scene, matrix):
    parent = None if matrix is None else add_linear(scene, matrix)
    volume = add_volume(scene, some_voxels(), parent=parent)
    shown = set_up_display(volume)
    image = filled(volume)
    image[0, 0, 0] = 30000  # a range of which 0.1 % would be cut off, and more
    image[:10, :10, 0] = 20000
    node = mrml.result_node(volume, image, REPORT)
    before, after = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(before)
    node.GetIJKToRASMatrix(after)
    assert [after.GetElement(r, c) for r in range(4) for c in range(4)] == [
        before.GetElement(r, c) for r in range(4) for c in range(4)
    ]
    assert node.GetParentTransformNode() is parent
    display = node.GetDisplayNode()
    assert display is not volume.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == shown
    assert display.GetColorNodeID() == "vtkMRMLColorTableNodeIron"
    assert volume.GetDisplayNode().GetAutoWindowLevel()


def test_the_result_carries_its_report_and_refers_to_the_scan(scene):
    volume = add_volume(scene, some_voxels())
    volume.SetAttribute("Study", "A")
    node = mrml.result_node(volume, filled(volume), REPORT)
    assert mrml.report_of(node) == REPORT
    assert mrml.input_of(node) is volume
    assert node.GetAttribute("MedInpaint.Version") == "0.1.0"
    assert node.GetAttribute("MedInpaint.Model") == REPORT["model"]["name"]
    assert Settings(**json.loads(node.GetAttribute("MedInpaint.Settings"))) == Settings(seed=7)
    assert node.GetAttribute("Study") == "A"
    assert list(volume.GetAttributeNames()) == ["Study"]


def test_a_result_can_be_filled_again_and_names_stay_unique(scene):
    volume = add_volume(scene, some_voxels())
    first = mrml.result_node(volume, filled(volume), REPORT)
    second = mrml.result_node(volume, filled(volume), REPORT)
    third = mrml.result_node(first, filled(first), REPORT)
    generated = mrml.generated_node(first, sitk.Cast(filled(first), sitk.sitkFloat32))
    names = [node.GetName() for node in (first, second, third, generated)]
    assert names[0] == "head inpainted"
    assert names[1].startswith("head inpainted")
    assert len(set(names)) == 4
    assert mrml.input_of(third) is first
    assert mrml.input_of(generated) is first
    assert mrml.report_of(generated) is None


def test_what_was_not_made_by_medinpaint_has_no_input_and_no_report(scene):
    volume = add_volume(scene, some_voxels())
    assert mrml.input_of(None) is None
    assert mrml.report_of(None) is None
    assert mrml.input_of(volume) is None
    assert mrml.report_of(volume) is None
    for text in ("", "{", "[1]", "null", "3"):
        volume.SetAttribute("MedInpaint.Report", text)
        assert mrml.report_of(volume) is None


def test_a_result_outlives_its_scan(scene):
    volume = add_volume(scene, some_voxels())
    node = mrml.result_node(volume, filled(volume), REPORT)
    scene.RemoveNode(volume)
    assert mrml.input_of(node) is None
    assert mrml.report_of(node) == REPORT


def test_the_result_has_no_file_so_that_saving_never_writes_over_the_scans(scene, tmp_path):
    volume = add_volume(scene, some_voxels())
    for name in ("scan.nrrd", "other.nrrd"):
        storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
        storage.SetFileName(str(tmp_path / name))
        volume.AddAndObserveStorageNodeID(storage.GetID())
    before = contents(scene)
    node = mrml.result_node(volume, filled(volume), REPORT)
    assert node.GetNumberOfStorageNodes() == 0
    assert volume.GetNumberOfStorageNodes() == 2
    assert len(contents(scene)) == len(before) + 2


def test_g_of_z_is_a_float_volume_beside_an_integer_scan_shown_alike(scene):
    volume = add_volume(scene, some_voxels(), parent=add_linear(scene, TURN))
    shown = set_up_display(volume)
    image = sitk.Cast(filled(volume), sitk.sitkFloat32) + 0.25
    node = mrml.generated_node(volume, image)
    assert node.GetName() == "head generated"
    assert voxels(node).dtype == np.float32
    np.testing.assert_array_equal(voxels(node), sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(mrml.world_position(node, (1, 2, 3)), (TURN @ GRID @ (1, 2, 3, 1))[:3])
    assert (node.GetDisplayNode().GetWindow(), node.GetDisplayNode().GetLevel()) == shown


def deviations(volume):
    """What the engine would return: different from voxel to voxel in the lesion, small at its rim; 0 outside."""
    values = np.zeros(SHAPE, np.float32)
    values[blob()] = np.linspace(0.001, 24, blob().sum())
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(mrml.scan_image(volume))
    return image


def colours(display, volume):
    """The display's own colours of the voxels, uint8 (z, y, x, RGBA)."""
    display.SetInputImageDataConnection(volume.GetImageDataConnection())
    display.UpdateImageDataPipeline()
    display.GetOutputImageDataConnection().GetProducer().Update()
    data = display.GetOutputImageData()
    return vtk_to_numpy(data.GetPointData().GetScalars()).reshape(*SHAPE, -1)


@pytest.mark.parametrize("shown", [True, False], ids=["the scan is shown", "the scan was never shown"])
def test_the_uncertainty_is_a_float_volume_whose_lesion_alone_is_seen_in_warm_colours(scene, shown):
    volume = add_volume(scene, some_voxels(), parent=add_linear(scene, TURN))
    if not shown:
        scene.RemoveNode(volume.GetDisplayNode())
    image = deviations(volume)
    node = mrml.uncertainty_node(volume, image)
    assert node.GetName() == "head uncertainty"
    assert voxels(node).dtype == np.float32
    np.testing.assert_array_equal(voxels(node), sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(mrml.world_position(node, (1, 2, 3)), (TURN @ GRID @ (1, 2, 3, 1))[:3])
    assert mrml.input_of(node) is volume
    assert mrml.report_of(node) is None

    display = node.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((0, 24))
    assert not display.GetAutoWindowLevel()
    assert not display.GetInterpolate()
    red, green, blue, alpha = np.moveaxis(colours(display, node), -1, 0)
    np.testing.assert_array_equal(alpha > 0, blob())
    assert (red[blob()] == 255).all()
    assert (blue[blob()] == 0).all()
    assert np.ptp(green[blob()].astype(int)) > 100
    assert (np.diff(green[blob()].astype(int)) >= 0).all()  # the more uncertain, the nearer to yellow


def test_the_scan_is_shown_as_before_beside_its_uncertainty(scene):
    volume = add_volume(scene, some_voxels())
    display = volume.GetDisplayNode()
    before = display.GetColorNodeID(), display.GetApplyThreshold(), display.GetInterpolate()
    mrml.uncertainty_node(volume, deviations(volume))
    assert (display.GetColorNodeID(), display.GetApplyThreshold(), display.GetInterpolate()) == before


def test_a_scan_that_was_never_shown_gives_a_result_that_can_be(scene):
    volume = add_volume(scene, some_voxels())
    scene.RemoveNode(volume.GetDisplayNode())
    assert mrml.result_node(volume, filled(volume), REPORT).GetDisplayNode().GetInputImageData() is not None


def hierarchy_with(scene, volume):
    """The subject hierarchy with the volume in a folder."""
    hierarchy = scene.GetSubjectHierarchyNode()
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "patient")
    hierarchy.CreateItem(folder, volume)
    return hierarchy, folder


def test_what_is_made_lies_beside_the_scan_in_the_subject_hierarchy(scene):
    volume = add_volume(scene, some_voxels())
    hierarchy, folder = hierarchy_with(scene, volume)
    made = [
        mrml.result_node(volume, filled(volume), REPORT),
        mrml.generated_node(volume, filled(volume)),
        mrml.uncertainty_node(volume, filled(volume)),
        mrml.new_lesion(volume)[0],
    ]
    assert [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in made] == [folder] * 4


def test_a_scene_without_a_subject_hierarchy_gets_none(scene):
    volume = add_volume(scene, some_voxels())
    scene.RemoveNode(scene.GetSubjectHierarchyNode())
    mrml.result_node(volume, filled(volume), REPORT)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSubjectHierarchyNode") == 0


# --- an output that is there already


def test_an_output_gets_everything_but_a_name(scene):
    parent = add_linear(scene, TURN)
    volume = add_volume(scene, some_voxels(), parent=parent)
    shown = set_up_display(volume)
    output = add_volume(scene, np.zeros((3, 4, 5)), grid(), "mine")
    display, before = output.GetDisplayNode(), contents(scene)
    assert mrml.result_node(volume, filled(volume), REPORT, output) is output
    assert contents(scene) == before
    assert output.GetName() == "mine"
    np.testing.assert_array_equal(voxels(output), sitk.GetArrayFromImage(filled(volume)))
    assert voxels(output).dtype == np.int16
    np.testing.assert_allclose(mrml.world_position(output, (1, 2, 3)), (TURN @ GRID @ (1, 2, 3, 1))[:3])
    assert output.GetDisplayNode() is display
    assert (display.GetWindow(), display.GetLevel()) == shown
    assert display.GetColorNodeID() == "vtkMRMLColorTableNodeIron"
    assert display.GetInputImageData().GetDimensions() == SIZE
    assert mrml.report_of(output) == REPORT
    assert mrml.input_of(output) is volume


def test_a_new_empty_output_is_filled_and_shown(scene):
    volume = add_volume(scene, some_voxels())
    output = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "new")
    mrml.result_node(volume, filled(volume), REPORT, output)
    np.testing.assert_array_equal(voxels(output), sitk.GetArrayFromImage(filled(volume)))
    assert output.GetDisplayNode().GetInputImageData().GetDimensions() == SIZE


def with_file(scene, volume, path):
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    volume.SetAndObserveStorageNodeID(storage.GetID())


def test_an_output_keeps_its_file_unless_that_is_the_scans(scene, tmp_path):
    volume, own, shared = (add_volume(scene, some_voxels(), name=name) for name in ("head", "own", "loaded twice"))
    for node, name in ((volume, "scan.nrrd"), (own, "own.nrrd"), (shared, "scan.nrrd")):
        with_file(scene, node, tmp_path / name)
    mrml.result_node(volume, filled(volume), REPORT, own)
    mrml.result_node(volume, filled(volume), REPORT, shared)
    assert own.GetStorageNode().GetFileName().endswith("own.nrrd")
    assert own.GetModifiedSinceRead()
    assert shared.GetStorageNode() is None
    assert volume.GetStorageNode() is not None
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeArchetypeStorageNode") == 2


BAD_OUTPUTS = {
    "the scan": lambda scene, volume: volume,
    "deleted": lambda scene, volume: deleted(scene),
    "a label map": lambda scene, volume: add_label_map(scene, some_voxels()),
    "colour": lambda scene, volume: scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode"),
    "a segmentation": lambda scene, volume: add_segmentation(scene),
}


@pytest.mark.parametrize("make", BAD_OUTPUTS.values(), ids=BAD_OUTPUTS)
def test_an_output_that_cannot_take_the_result_is_refused_and_nothing_changes(scene, make):
    volume = add_volume(scene, some_voxels())
    output = make(scene, volume)
    before = contents(scene)
    with pytest.raises(InputError, match=r"^The output is .*: choose .*\.$"):
        mrml.result_node(volume, filled(volume), REPORT, output)
    assert contents(scene) == before
    np.testing.assert_array_equal(voxels(volume), some_voxels())


# --- failures


def test_an_image_of_another_size_or_type_is_a_defect_of_the_caller_and_leaves_no_node(scene):
    volume = add_volume(scene, some_voxels())
    before = contents(scene)
    for wrong in (sitk.Image((20, 24, 27), sitk.sitkInt16), sitk.Image((28, 24, 20), sitk.sitkInt16)):
        with pytest.raises(ValueError, match=r"The scan has \(20, 24, 28\) voxels, the result"):
            mrml.result_node(volume, wrong, REPORT)
        with pytest.raises(ValueError, match=r"The scan has \(20, 24, 28\) voxels, the result"):
            mrml.generated_node(volume, wrong)
        with pytest.raises(ValueError, match=r"The scan has \(20, 24, 28\) voxels, the result"):
            mrml.uncertainty_node(volume, wrong)
    with pytest.raises(ValueError, match="The scan has int16 voxels, the result float32"):
        mrml.result_node(volume, sitk.Image(SIZE, sitk.sitkFloat32), REPORT)
    assert contents(scene) == before


@pytest.mark.parametrize("report", [{}, {**REPORT, "seam": {1, 2}}, {**REPORT, "settings": object()}])
def test_a_report_that_cannot_be_stored_leaves_no_node_and_an_output_as_it_was(scene, report):
    volume, output = add_volume(scene, some_voxels()), add_volume(scene, some_voxels("float64") + 1)
    before = contents(scene)
    for target in (None, output):
        with pytest.raises((KeyError, TypeError)):
            mrml.result_node(volume, filled(volume), report, target)
    assert contents(scene) == before
    np.testing.assert_array_equal(voxels(output), some_voxels("float64") + 1)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("step", ["keep_window", "show_as_overlay", "place_beside"])
def test_a_failure_half_way_leaves_no_node_and_no_item(scene, monkeypatch, step, error):
    volume = add_volume(scene, some_voxels())
    hierarchy, _ = hierarchy_with(scene, volume)
    image, real = filled(volume), getattr(nodes, step)

    def fail(*arguments):
        real(*arguments)
        raise error

    monkeypatch.setattr(nodes, step, fail)
    before, items = contents(scene), hierarchy.GetNumberOfItems()
    calls = [lambda: mrml.uncertainty_node(volume, image)]
    if step != "show_as_overlay":
        calls += [lambda: mrml.result_node(volume, image, REPORT), lambda: mrml.generated_node(volume, image)]
    if step == "place_beside":
        calls.append(lambda: mrml.new_lesion(volume))
    for call in calls:
        with pytest.raises(error):
            call()
        assert contents(scene) == before
        assert hierarchy.GetNumberOfItems() == items


def test_a_failure_half_way_leaves_the_output_as_it_was(scene, monkeypatch):
    volume, output = add_volume(scene, some_voxels()), add_volume(scene, some_voxels("float64") + 1, grid(), "mine")
    image, before = filled(volume), contents(scene)

    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(nodes, "keep_window", fail)
    with pytest.raises(MemoryError):
        mrml.result_node(volume, image, REPORT, output)
    assert contents(scene) == before
    np.testing.assert_array_equal(voxels(output), some_voxels("float64") + 1)
    assert mrml.world_position(output, (1, 2, 3)) == (1, 2, 3)
    assert mrml.report_of(output) is None


# --- a saved scene


def test_report_reference_and_voxels_survive_a_scene_file(scene, tmp_path):
    matrix = GRIDS["oblique"]  # a left-handed grid would be stored with its slices in the other order
    parent = add_linear(scene, TURN)
    volume = add_volume(scene, some_voxels(), matrix, parent=parent)
    result = mrml.result_node(volume, filled(volume), REPORT)
    segmentation, segment = mrml.new_lesion(volume)
    assert scene.WriteToMRB(str(tmp_path / "case.mrb"))

    opened = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(opened)
    files, cache = slicer.vtkDataIOManager(), slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(str(tmp_path))
    files.SetCacheManager(cache)
    opened.SetDataIOManager(files)
    assert opened.ReadFromMRB(str(tmp_path / "case.mrb"))

    again = opened.GetFirstNodeByName("head inpainted")
    assert mrml.report_of(again) == REPORT
    assert again.GetAttribute("MedInpaint.Model") == REPORT["model"]["name"]
    assert mrml.input_of(again) is opened.GetFirstNodeByName("head")
    np.testing.assert_array_equal(voxels(again), voxels(result))
    np.testing.assert_array_equal(voxels(mrml.input_of(again)), some_voxels())
    np.testing.assert_allclose(mrml.world_position(again, (3, 5, 7)), (TURN @ matrix @ (3, 5, 7, 1))[:3], atol=1e-4)
    drawn = opened.GetFirstNodeByName(segmentation.GetName())
    assert drawn.GetSegmentation().GetSegment(segment).GetName() == "lesion"


# --- a lesion to paint


@pytest.mark.parametrize("matrix", [None, TURN, SCALING], ids=["no transform", "turned", "scaled"])
def test_a_new_lesion_is_painted_on_the_scans_own_grid(scene, matrix):
    parent = None if matrix is None else add_linear(scene, matrix)
    volume = add_volume(scene, some_voxels(), parent=parent)
    segmentation, segment_id = mrml.new_lesion(volume)
    assert segmentation.GetName() == "head lesion"
    assert segmentation.GetParentTransformNode() is parent
    assert segmentation.GetNodeReference("referenceImageGeometryRef") is volume
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    assert segment.GetName() == "lesion"
    red, green, blue = segment.GetColor()
    assert red > 0.7 > 0.4 > max(green, blue)
    assert segmentation.GetDisplayNode().GetSegmentVisibility(segment_id)

    text = segmentation.GetSegmentation().GetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    )
    geometry = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, geometry, True)
    assert geometry.GetDimensions() == SIZE
    corner = geometry.GetExtent()[::2]
    to_local = vtk.vtkMatrix4x4()
    geometry.GetImageToWorldMatrix(to_local)
    np.testing.assert_allclose(to_local.MultiplyPoint((*corner, 1)), GRID @ (0, 0, 0, 1), atol=1e-5)

    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(oriented(blob()), segmentation, segment_id)
    mask = mrml.lesion_image(volume, segmentation, segment_id)
    np.testing.assert_array_equal(hole_on_grid(mask, mrml.scan_image(volume)), blob())


def test_a_second_new_lesion_has_a_name_of_its_own(scene):
    volume = add_volume(scene, some_voxels())
    (first, _), (second, _) = mrml.new_lesion(volume), mrml.new_lesion(volume)
    assert first is not second
    assert first.GetName() != second.GetName()


# --- positions


def test_a_voxels_place_in_the_world_is_that_of_all_its_transforms(scene):
    volume, index = add_volume(scene, some_voxels()), (3, 5.5, 7)
    local = GRID @ (*index, 1)
    outer = add_linear(scene, SCALING)
    inner = add_linear(scene, TURN, outer)
    warp = add_warp(scene)
    for parent, world in (
        (None, local),
        (inner, SCALING @ TURN @ local),
        (warp, bent(local[:, None])[:, 0]),
    ):
        put_under(volume, parent)
        np.testing.assert_allclose(mrml.world_position(volume, index), world[:3], atol=1e-5)
    put_under(warp, outer)
    np.testing.assert_allclose(
        mrml.world_position(volume, index), (SCALING @ bent(local[:, None])[:, 0])[:3], atol=1e-5
    )
