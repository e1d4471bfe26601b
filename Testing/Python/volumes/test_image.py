"""Images: geometry, which scans are accepted, and new voxels in a hole."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.errors import InputError
from MedInpaintLib.volumes.image import affine, check_scan, same_grid, scan_values, spacing_zyx, with_voxels
from synthetic import (
    GEOMETRIES,
    HOLE,
    INTEGER_TYPES,
    SCALAR_TYPES,
    SHAPE,
    bits,
    box,
    extremes,
    random_array,
    rotation,
    volume,
)


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


def test_a_nan_background_becomes_zero_but_its_diagonal_neighbour_belongs_to_the_head():
    head = box(slice(1, 5), slice(1, 6), slice(2, 7))
    array = np.where(head, random_array("float32") + 1, np.nan)
    np.testing.assert_array_equal(scan_values(volume(array), HOLE), np.where(head, array, 0))
    array[1, 1, 3] = np.nan  # joined to the background by a face
    scan_values(volume(array), HOLE)
    array[2, 2, 3] = np.nan  # joined by an edge only
    with pytest.raises(InputError, match="has 1 non-finite voxels"):
        scan_values(volume(array), box(0, 0, 0))


@pytest.mark.parametrize("dtype", SCALAR_TYPES)
def test_only_the_voxels_of_the_hole_change_in_the_order_of_the_array(dtype):
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
def test_values_that_do_not_fill_the_hole_raise_a_value_error(values):
    with pytest.raises(ValueError, match="18 finite values"):
        with_voxels(volume(random_array()), values, HOLE)
