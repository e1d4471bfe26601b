"""The scan and the mask of its lesion, from MRML nodes to images, with Slicer's real transforms and segmentations."""

import numpy as np
import pytest
import SimpleITK as sitk
import vtk
from MedInpaintLib.errors import InputError
from MedInpaintLib.slicer.scene import images, results
from MedInpaintLib.volumes.mask import hole_on_grid
from slicer_scene import (
    GRID,
    GRIDS,
    SCALING,
    SHAPE,
    SIZE,
    TURN,
    add_label_map,
    add_linear,
    add_segment,
    add_segmentation,
    add_volume,
    add_warp,
    bent,
    blob,
    contents,
    deleted,
    grid,
    oriented,
    some_voxels,
    turned,
    unbent,
    voxels,
)
from synthetic import SCALAR_TYPES, bits, extremes

OTHER_TURN = turned(-12, (3, 1, -1), (-1.5, 2, 0.7))
REFLECTION = np.diag([-1, 1, 1, 1])


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
    hole = hole_on_grid(images.lesion_image(volume, lesion, **chosen), images.scan_image(volume))
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
    image = images.scan_image(add_volume(scene, array, matrix))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
    for index in ((0, 0, 0), (19, 0, 0), (0, 23, 0), (0, 0, 27), (7, 11, 13)):
        np.testing.assert_allclose(lower(image, index), (matrix @ (*index, 1))[:3], atol=1e-6)


@pytest.mark.parametrize("dtype", SCALAR_TYPES)
def test_the_scan_keeps_its_pixel_type_and_every_bit(scene, dtype):
    array = extremes(dtype)
    image = images.scan_image(add_volume(scene, array))
    back = sitk.GetArrayFromImage(image)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(bits(back), bits(array))


def test_rigid_parent_transforms_nested_or_not_lead_the_scan_to_the_world(scene):
    outer = add_linear(scene, TURN)
    inner = add_linear(scene, OTHER_TURN, outer)
    for parent, matrix in ((outer, TURN), (inner, TURN @ OTHER_TURN)):
        image = images.scan_image(add_volume(scene, some_voxels(), parent=parent))
        np.testing.assert_allclose(lower(image, (3, 5, 7)), (matrix @ GRID @ (3, 5, 7, 1))[:3], atol=1e-6)


NOT_RIGID = {"scaled": SCALING, "mirrored": REFLECTION, "sheared": TURN + np.eye(4, k=1) * 1e-3}


@pytest.mark.parametrize("matrix", NOT_RIGID.values(), ids=NOT_RIGID)
def test_a_parent_transform_that_is_not_rigid_leaves_the_scan_its_own_geometry(scene, matrix):
    volume = add_volume(scene, some_voxels(), parent=add_linear(scene, matrix))
    np.testing.assert_allclose(lower(images.scan_image(volume), (3, 5, 7)), (GRID @ (3, 5, 7, 1))[:3], atol=1e-6)


def test_the_image_does_not_share_its_memory_with_the_node(scene):
    volume = add_volume(scene, some_voxels())
    image = images.scan_image(volume)
    voxels(volume)[:] = 0
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), some_voxels())


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
        lambda: images.scan_image(volume),
        lambda: images.lesion_image(volume, segmentation),
        lambda: results.result_node(volume, image, {}),
        lambda: results.generated_node(volume, image),
        lambda: results.uncertainty_node(volume, image),
        lambda: results.new_lesion(volume),
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
    hole = hole_on_grid(images.lesion_image(volume, lesion), images.scan_image(volume))
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
    np.testing.assert_array_equal(hole_on_grid(images.lesion_image(volume, lesion), images.scan_image(volume)), blob())


@MASK_KINDS
def test_transforms_nested_in_one_that_the_scan_shares_are_applied(scene, kind):
    outer = add_linear(scene, SCALING)
    volume = add_volume(scene, some_voxels(), parent=outer)
    lesion = add_mask(kind, scene, blob(), GRID, add_linear(scene, OTHER_TURN, outer))
    assert_same_place(volume, lesion, blob(), (np.linalg.inv(GRID) @ np.linalg.inv(OTHER_TURN) @ GRID @ indices())[:3])


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
    np.testing.assert_array_equal(hole_on_grid(images.lesion_image(volume, lesion), images.scan_image(volume)), blob())


def test_a_segment_whose_extent_is_cropped_lands_where_it_was_painted(scene):
    volume = add_volume(scene, some_voxels())
    cropped = blob()[8:18, 9:19, 6:16]
    segmentation, segment = add_segmentation(scene, cropped, start=(6, 9, 8))
    mask = images.lesion_image(volume, segmentation, segment)
    np.testing.assert_array_equal(hole_on_grid(mask, images.scan_image(volume)), blob())


def test_a_segment_in_a_single_slice_is_enough(scene):
    volume = add_volume(scene, some_voxels())
    mask = blob()
    mask[9:] = False
    segmentation, segment = add_segmentation(scene, mask)
    image = images.lesion_image(volume, segmentation, segment)
    np.testing.assert_array_equal(hole_on_grid(image, images.scan_image(volume)), mask)


def test_a_small_segment_between_the_scans_voxels_is_not_lost(scene):
    volume = add_volume(scene, some_voxels(), grid())
    fine = np.zeros((40, 40, 40), bool)
    fine[10:22, 10:22, 10:22] = True
    fine[30, 34, 26] = True  # at (26, 34, 30) / 4 + 0.1 mm = (6.6, 8.6, 7.6): nearest to (7, 9, 8)
    segmentation, _ = add_segmentation(scene, fine, grid((0.25, 0.25, 0.25), (0.1, 0.1, 0.1)))
    hole = hole_on_grid(images.lesion_image(volume, segmentation), images.scan_image(volume))
    assert hole[8, 9, 7]


def test_segments_are_taken_on_their_own_grids_and_not_on_the_segmentations(scene):
    volume = add_volume(scene, some_voxels(), grid((3, 3, 3)))
    segmentation, _ = results.new_lesion(volume)  # whose reference grid is the scan's
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
        mask = images.lesion_image(volume, segmentation, chosen)
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
    scan = images.scan_image(volume)
    for chosen, mask in ((one, first), (two, second), (three, third), (None, first | second | third)):
        image = images.lesion_image(volume, segmentation, chosen)
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
    mask = images.lesion_image(volume, segmentation)
    hole = hole_on_grid(mask, images.scan_image(volume))
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
    mask = images.lesion_image(volume, add_label_map(scene, labels.astype(dtype), grid(), parent=transform))
    assert np.unique(sitk.GetArrayViewFromImage(mask)).tolist() == [0, 3, 7]
    one = hole_on_grid(mask, images.scan_image(volume), label=7)
    index = indices()[:3] if parent is None else (np.linalg.inv(SCALING) @ indices())[:3]
    np.testing.assert_array_equal(one, looked_up(labels == 7, index)[0])


def test_an_empty_label_map_is_left_to_the_engine(scene):
    for number, parent in enumerate((None, add_linear(scene, SCALING))):
        volume = add_volume(scene, some_voxels())
        lesion = add_label_map(scene, np.zeros(SHAPE, np.uint8), name=f"empty {number}", parent=parent)
        with pytest.raises(InputError, match=r"^The mask is empty"):
            hole_on_grid(images.lesion_image(volume, lesion), images.scan_image(volume))


@MASK_KINDS
@pytest.mark.parametrize("parent", [None, SCALING, "warp"], ids=["rigid", "scaled", "warped"])
def test_a_mask_wholly_outside_the_scan_is_refused_by_name(scene, kind, parent):
    node = None if parent is None else add_warp(scene) if isinstance(parent, str) else add_linear(scene, parent)
    lesion = add_mask(kind, scene, blob(), grid(origin=(90, 90, 90)), node)
    before = contents(scene)
    name = "label map 'labels'" if kind == "label map" else "segmentation 'drawn'"
    with pytest.raises(InputError, match=f"^The {name} does not overlap the scan 'head': check .*[^.]\\.$"):
        images.lesion_image(add_volume(scene, some_voxels(), grid()), lesion)
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
    "never painted": (
        lambda scene: results.new_lesion(add_volume(scene, some_voxels())),
        "The segment 'lesion' is empty",
    ),
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
        images.lesion_image(volume, lesion, segment)
    assert contents(scene) == before
