"""Masks: the hole on the scan's grid, and how it grows."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.errors import InputError
from MedInpaintLib.volumes.mask import enlarge, hole_on_grid
from synthetic import (
    GEOMETRIES,
    HOLE,
    SCALAR_TYPES,
    SHAPE,
    as_mask,
    box,
    centred,
    physical_points,
    random_array,
    rotation,
    volume,
)


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


def test_for_a_missing_label_the_message_lists_the_present_ones():
    scan = volume(random_array())
    with pytest.raises(InputError, match=r"^The mask has no label 9: choose one of its labels \(3, 1000001\)\.$"):
        hole_on_grid(as_mask(HOLE * 3 + box(0, 0, 0) * 1000001, "int32"), scan, label=9)
    many = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    with pytest.raises(InputError, match=r"\(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, \.\.\.\)"):
        hole_on_grid(as_mask(many, "int16"), scan, label=999)


def ball(image, centre, radius):
    """The voxels with their centre in a ball of physical space."""
    return np.linalg.norm(physical_points(image) - np.reshape(centre, (3, 1, 1, 1)), axis=0) <= radius


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
    mask = centred(shape[::-1], spacing, direction, centre)
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
    fine = box(slice(8, 14), slice(8, 14), slice(8, 14), (24, 28, 32))
    fine[18, 17, 26] = True  # at (26, 17, 18) / 4 - 3 / 8 mm = (6.125, 3.875, 4.125): nearest to (6, 4, 4)
    fine[18, 6, 6:8] = True  # at x = 1.125 and 1.375, y = 1.125: nearest to (1, 1, 4)
    mask = as_mask(fine, spacing=(0.25, 0.25, 0.25), origin=(-0.375, -0.375, -0.375))
    hole = hole_on_grid(mask, scan)
    assert hole[4, 4, 6]
    assert hole[4, 1, 1]
    assert hole.sum() == 2 + hole[:4].sum()


def test_a_lesion_that_lies_wholly_between_the_scans_slices_is_refused():
    scan = volume(random_array(), spacing=(1, 1, 5), origin=(0, 0, 0))
    thin = box(slice(7, 9), slice(2, 5), slice(2, 5), (25, 7, 8))  # slices at 7 and 8 mm, the scan's at 5 and 10 mm
    with pytest.raises(InputError, match="falls between the scan's voxels"):
        hole_on_grid(as_mask(thin, spacing=(1, 1, 1), origin=(0, 0, 0)), scan)


def test_a_lesion_partly_outside_the_scan_is_refused_with_the_share_outside():
    scan = volume(random_array(), spacing=(1, 1, 1), origin=(0, 0, 0))
    row = box(3, 3, slice(0, 8))
    assert hole_on_grid(as_mask(row, spacing=(1, 1, 1), origin=(1, 0, 0)), scan).sum() == 7
    with pytest.raises(InputError, match=r"25 % of the mask's lesion lies outside the scan"):
        hole_on_grid(as_mask(row, spacing=(1, 1, 1), origin=(3, 0, 0)), scan)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (as_mask(HOLE * 0), "^The mask is empty: "),
        (as_mask(HOLE, origin=(500, 0, 0)), "does not overlap the scan"),
        (volume(np.where(HOLE, np.nan, 1.0)), "^The mask has voxels that are not finite"),
        (volume(np.where(HOLE, np.inf, 1.0)), "^The mask has voxels that are not finite"),
    ],
    ids=["empty", "elsewhere", "NaN", "infinite"],
)
def test_a_mask_that_marks_no_lesion_of_the_scan_is_refused(mask, said):
    with pytest.raises(InputError, match=said):
        hole_on_grid(mask, volume(random_array()))


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.5, 0.5)], ids=["same grid", "finer grid"])
def test_a_mask_of_the_whole_scan_is_refused(spacing):
    scan = volume(random_array(), spacing=(1, 1, 1), origin=(0, 0, 0))
    shape = (np.array(SHAPE) / spacing[0]).astype(int)
    with pytest.raises(InputError, match=r"^The mask covers the whole scan"):
        hole_on_grid(as_mask(np.ones(shape), spacing=spacing, origin=(0, 0, 0)), scan)


def test_a_lesion_grows_by_millimetres_into_tissue_alone():
    hole = box(4, 5, 6, (9, 11, 13))
    tissue = box(slice(9), slice(11), slice(7), hole.shape)
    spacing = np.array([3.0, 1.0, 0.5])
    offset = (np.indices(hole.shape) - np.reshape([4, 5, 6], (3, 1, 1, 1))) * spacing[:, None, None, None]
    ball = np.linalg.norm(offset, axis=0) <= 1
    np.testing.assert_array_equal(enlarge(hole, tissue, spacing, 1.0), ball & tissue)
    np.testing.assert_array_equal(enlarge(hole, tissue, spacing, 0), hole)
