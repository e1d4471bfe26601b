"""Checking volumes and masks, putting them on one grid, and writing voxels into them."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.errors import InputError
from MedInpaintLib.volumes.image import affine, check_scan, same_grid, scan_values, spacing_zyx, with_voxels
from MedInpaintLib.volumes.mask import enlarge, hole_on_grid
from synthetic import (
    GEOMETRIES,
    HOLE,
    INTEGER_TYPES,
    SCALAR_TYPES,
    SHAPE,
    as_mask,
    bits,
    box,
    extremes,
    random_array,
    rotation,
    volume,
)

# --- geometry


def test_affine_takes_an_index_to_the_point_that_simpleitk_gives():
    image = volume(random_array(), GEOMETRIES["oblique and left-handed"])
    point = affine(image) @ (1, 2, 3, 1)
    np.testing.assert_allclose(point[:3], image.TransformIndexToPhysicalPoint((1, 2, 3)), atol=1e-9)
    np.testing.assert_array_equal(spacing_zyx(image), (2.5, 1.1, 0.9))


def test_grids_are_the_same_up_to_a_hundredth_of_a_voxel():
    image = volume(random_array())
    assert same_grid(image, volume(random_array("uint8"), origin=(-31.25 + 0.008, 12.5, 100.75)))
    assert not same_grid(image, volume(random_array(), origin=(-31.25 + 0.01, 12.5, 100.75)))
    assert not same_grid(image, volume(random_array(), rotation(1)))
    assert not same_grid(image, volume(random_array(), spacing=(0.9, 1.1, 2.51)))
    assert not same_grid(image, volume(random_array()[1:]))


# --- scans


@pytest.mark.parametrize("dtype", SCALAR_TYPES)
def test_every_scalar_type_is_accepted_as_a_scan_and_computed_in_float32(dtype):
    array = random_array(dtype)
    image = volume(array)
    check_scan(image)
    values = scan_values(image, HOLE)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, array)


@pytest.mark.parametrize(
    "array",
    [np.full(SHAPE, 7, "int16"), np.full(SHAPE, np.nan), np.where(HOLE, np.nan, 3.0), np.where(HOLE, 1e300, 3.0)],
    ids=["one value", "all NaN", "one value and NaN", "one value and overflow"],
)
def test_a_scan_without_contrast_is_refused(array):
    with pytest.raises(InputError, match=r"^The scan has the same value in every voxel"):
        check_scan(volume(array))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_without_a_finite_value_within_the_head_are_counted(value):
    array = random_array("float64")
    array[3, 3, 3] = array[1, 4, 2] = value
    with pytest.raises(InputError, match="has 2 non-finite voxels"):
        scan_values(volume(array), box(0, 0, 0))
    with pytest.raises(InputError, match="has 1 non-finite voxels"):
        scan_values(volume(array), box(3, 3, 3))


def test_non_finite_voxels_in_the_hole_become_zero():
    array = np.where(HOLE, np.nan, random_array("float64"))
    np.testing.assert_array_equal(scan_values(volume(array), HOLE), np.where(HOLE, 0, array))


def test_a_nan_background_becomes_zero_but_a_diagonal_neighbour_is_within_the_head():
    head = box(slice(1, 5), slice(1, 6), slice(2, 7))
    array = np.where(head, random_array("float32") + 1, np.nan)
    np.testing.assert_array_equal(scan_values(volume(array), HOLE), np.where(head, array, 0))
    array[1, 1, 3] = np.nan  # joined to the background by a face
    scan_values(volume(array), HOLE)
    array[2, 2, 3] = np.nan  # joined by an edge only
    with pytest.raises(InputError, match="has 1 non-finite voxels"):
        scan_values(volume(array), box(0, 0, 0))


# --- masks


@pytest.mark.parametrize("dtype", SCALAR_TYPES)
def test_a_mask_of_any_scalar_type_on_the_scans_grid_is_taken_as_it_is(dtype):
    scan = volume(random_array(), GEOMETRIES["oblique and left-handed"])
    mask = as_mask(HOLE * 3, dtype, direction=GEOMETRIES["oblique and left-handed"])
    np.testing.assert_array_equal(hole_on_grid(mask, scan), HOLE)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
@pytest.mark.parametrize("shift", [0, 0.3], ids=["same grid", "shifted grid"])
def test_a_label_selects_one_lesion(dtype, shift):
    labels = np.zeros(SHAPE, dtype)
    labels[2:4, 2:4, 2:4] = 1
    labels[2:4, 2:4, 4:7] = 2
    mask = as_mask(labels, dtype, origin=(-31.25 + shift, 12.5, 100.75))
    scan = volume(random_array())
    np.testing.assert_array_equal(hole_on_grid(mask, scan), labels > 0)
    np.testing.assert_array_equal(hole_on_grid(mask, scan, label=2), labels == 2)


def test_a_label_that_is_not_there_is_answered_with_those_that_are():
    scan = volume(random_array())
    with pytest.raises(InputError, match=r"^The mask has no label 9: choose one of its labels \(3, 1000001\)\.$"):
        hole_on_grid(as_mask(HOLE * 3 + box(0, 0, 0) * 1000001, "int32"), scan, label=9)
    many = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    with pytest.raises(InputError, match=r"\(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, \.\.\.\)"):
        hole_on_grid(as_mask(many, "int16"), scan, label=999)


def ball(image, centre, radius):
    """The voxels of an image's grid whose centres lie in a ball of physical space: the tests' own ground truth."""
    inside = np.zeros(image.GetSize()[::-1], bool)
    for index in itertools.product(*map(range, image.GetSize())):
        point = image.TransformIndexToPhysicalPoint(index)
        inside[index[::-1]] = np.linalg.norm(np.subtract(point, centre)) <= radius
    return inside


MASK_GRIDS = {
    "finer": (np.eye(3), (0.5, 0.5, 0.5)),
    "coarser": (np.eye(3), (1.7, 1.7, 1.7)),
    "rotated": (rotation(30), (0.6, 0.6, 0.6)),
    "left-handed": (np.diag([1, -1, 1]), (0.7, 0.6, 0.8)),
}


@pytest.mark.parametrize("scan_direction", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize(("direction", "spacing"), MASK_GRIDS.values(), ids=MASK_GRIDS)
def test_a_mask_on_another_grid_hits_the_same_physical_places(direction, spacing, scan_direction):
    scan = volume(random_array(shape=(12, 14, 16)), scan_direction, spacing=(1, 1.2, 1.5))
    centre = np.array(scan.TransformContinuousIndexToPhysicalPoint((7.3, 6.8, 5.6)))
    shape = np.ceil(14 / np.array(spacing)[::-1]).astype(int)
    mask = volume(np.zeros(shape, "uint8"), direction, spacing)
    middle = np.array(mask.TransformContinuousIndexToPhysicalPoint(((shape[::-1] - 1) / 2).tolist()))
    mask.SetOrigin((np.array(mask.GetOrigin()) + centre - middle).tolist())
    lesion = as_mask(ball(mask, centre, 4), direction=direction, spacing=spacing, origin=mask.GetOrigin())

    hole = hole_on_grid(lesion, scan)

    # A nearest voxel lies at most half the mask's voxel diagonal away.
    slack = np.linalg.norm(spacing) / 2
    assert not (hole & ~ball(scan, centre, 4 + slack)).any()
    assert not (~hole & ball(scan, centre, 4 - slack)).any()


def test_a_cropped_mask_lands_where_it_was_cut_from():
    direction = GEOMETRIES["oblique and left-handed"]
    scan = volume(random_array(), direction)
    cropped = sitk.RegionOfInterest(as_mask(HOLE, "int64", direction=direction), (4, 4, 3), (2, 1, 1))
    np.testing.assert_array_equal(hole_on_grid(cropped, scan), HOLE)


def test_a_small_lesion_between_the_scans_voxels_is_not_lost():
    scan = volume(random_array(), spacing=(1, 1, 1), origin=(0, 0, 0))
    fine = np.zeros((24, 28, 32), bool)
    fine[8:14, 8:14, 8:14] = True
    fine[18, 17, 26] = True  # at (26, 17, 18) / 4 - 3 / 8 mm = (6.125, 3.875, 4.125): nearest to (6, 4, 4)
    fine[18, 6, 6:8] = True  # at x = 1.125 and 1.375, y = 1.125: nearest to (1, 1, 4)
    mask = as_mask(fine, spacing=(0.25, 0.25, 0.25), origin=(-0.375, -0.375, -0.375))
    hole = hole_on_grid(mask, scan)
    assert hole[4, 4, 6]
    assert hole[4, 1, 1]
    assert hole.sum() == 2 + hole[:4].sum()


def test_a_lesion_that_lies_wholly_between_the_scans_slices_is_refused():
    scan = volume(random_array(), spacing=(1, 1, 5), origin=(0, 0, 0))
    thin = np.zeros((25, 7, 8), bool)
    thin[7:9, 2:5, 2:5] = True  # slices at 7 and 8 mm, the scan's at 5 and 10 mm
    with pytest.raises(InputError, match="falls between the scan's voxels"):
        hole_on_grid(as_mask(thin, spacing=(1, 1, 1), origin=(0, 0, 0)), scan)


def test_a_lesion_that_does_not_overlap_the_scan_is_refused():
    with pytest.raises(InputError, match="does not overlap the scan"):
        hole_on_grid(as_mask(HOLE, origin=(500, 0, 0)), volume(random_array()))


def test_a_lesion_partly_outside_the_scan_is_refused_with_the_share_outside():
    scan = volume(random_array(), spacing=(1, 1, 1), origin=(0, 0, 0))
    row = box(3, 3, slice(0, 8))
    assert hole_on_grid(as_mask(row, spacing=(1, 1, 1), origin=(1, 0, 0)), scan).sum() == 7
    with pytest.raises(InputError, match=r"25 % of the mask's lesion lies outside the scan"):
        hole_on_grid(as_mask(row, spacing=(1, 1, 1), origin=(3, 0, 0)), scan)


def test_an_empty_mask_is_refused():
    with pytest.raises(InputError, match=r"^The mask is empty: "):
        hole_on_grid(as_mask(HOLE * 0), volume(random_array()))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_mask_with_voxels_that_are_not_finite_is_refused(value):
    with pytest.raises(InputError, match=r"^The mask has voxels that are not finite"):
        hole_on_grid(volume(np.where(HOLE, value, 1.0)), volume(random_array()))


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.5, 0.5)], ids=["same grid", "finer grid"])
def test_a_mask_of_the_whole_scan_is_refused(spacing):
    scan = volume(random_array(), spacing=(1, 1, 1), origin=(0, 0, 0))
    shape = (np.array(SHAPE) / spacing[0]).astype(int)
    with pytest.raises(InputError, match=r"^The mask covers the whole scan"):
        hole_on_grid(as_mask(np.ones(shape), spacing=spacing, origin=(0, 0, 0)), scan)


# --- results


@pytest.mark.parametrize("dtype", SCALAR_TYPES)
def test_only_the_holes_voxels_change_and_in_the_scans_own_order(dtype):
    array = extremes(dtype)
    scan = volume(array, GEOMETRIES["oblique and left-handed"])
    scan.SetMetaData("Scanner", "3 T")
    values = np.arange(HOLE.sum(), dtype=np.float32)
    result = with_voxels(scan, values, HOLE)
    voxels = sitk.GetArrayFromImage(result)
    assert result.GetPixelID() == scan.GetPixelID()
    assert result.GetMetaData("Scanner") == "3 T"
    np.testing.assert_array_equal(affine(result), affine(scan))
    np.testing.assert_array_equal(bits(voxels)[~HOLE], bits(array)[~HOLE])
    np.testing.assert_array_equal(voxels[HOLE], values)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(scan), array)


def test_nan_payloads_and_negative_zeros_outside_the_hole_stay_as_they_are():
    array = random_array("float32")
    bits(array)[0, 0, :3] = 0x7FC12345, 0x7F812345, 0x80000000  # quiet NaN, signalling NaN, -0.0
    voxels = sitk.GetArrayFromImage(with_voxels(volume(array), np.ones(HOLE.sum()), HOLE))
    np.testing.assert_array_equal(bits(voxels)[~HOLE], bits(array)[~HOLE])


@pytest.mark.parametrize("dtype", INTEGER_TYPES)
def test_integer_scans_get_rounded_values_clipped_to_the_types_range(dtype):
    hole = box(0, 0, slice(0, 5))
    scan = volume(random_array(dtype))
    values = sitk.GetArrayFromImage(with_voxels(scan, np.array([-1e30, 1e30, 2.6, 3.4, 4.0]), hole))[hole]
    assert values.tolist() == [np.iinfo(dtype).min, np.iinfo(dtype).max, 3, 3, 4]


@pytest.mark.parametrize("values", [np.ones(3), np.ones(SHAPE), np.ones(()), np.full(HOLE.sum(), np.nan)])
def test_values_that_do_not_fill_the_hole_are_a_defect_of_the_caller(values):
    with pytest.raises(ValueError, match="18 finite values"):
        with_voxels(volume(random_array()), values, HOLE)


def test_a_lesion_grows_by_millimetres_into_tissue_alone():
    hole = np.zeros((9, 11, 13), bool)
    hole[4, 5, 6] = True
    tissue = np.ones(hole.shape, bool)
    tissue[..., 7:] = False
    spacing = np.array([3.0, 1.0, 0.5])
    offset = (np.indices(hole.shape) - np.reshape([4, 5, 6], (3, 1, 1, 1))) * spacing[:, None, None, None]
    ball = np.linalg.norm(offset, axis=0) <= 1
    np.testing.assert_array_equal(enlarge(hole, tissue, spacing, 1.0), ball & tissue)
    np.testing.assert_array_equal(enlarge(hole, tissue, spacing, 0), hole)
