"""Holes are of the size asked for, in one piece, in the brain and the same for the same seed."""

from math import pi

import numpy as np
import pytest
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation.holes.shapes import lesion_hole, lumpy_ellipsoid, square
from scipy import ndimage

ISOTROPIC = (1.0, 1.0, 1.0)


def ellipsoid(shape, share=0.9):
    """A brain: an ellipsoid that fills a share of each axis."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return sum(axis**2 for axis in axes) <= share**2


@pytest.fixture(scope="module")
def brain():
    return ellipsoid((60, 70, 64))


def ball_volume(radius):
    return 4 / 3 * pi * radius**3


@pytest.mark.parametrize("radius", [1.5, 4.0, 9.0, 15.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_lumpy_hole_has_80_to_100_percent_of_the_balls_volume(brain, radius, seed):
    hole = lumpy_ellipsoid(brain, ISOTROPIC, radius, np.random.default_rng(seed))
    assert 0.8 * ball_volume(radius) - 1 <= hole.sum() <= ball_volume(radius) + 1


@pytest.mark.parametrize("spacing", [ISOTROPIC, (3.0, 0.9, 0.9), (0.7, 0.7, 2.5)])
@pytest.mark.parametrize("seed", range(6))
def test_a_lumpy_hole_is_one_piece_and_lies_in_the_brain(brain, spacing, seed):
    hole = lumpy_ellipsoid(brain, spacing, 6.0, np.random.default_rng(seed))
    assert hole.dtype == bool
    assert hole.shape == brain.shape
    assert ndimage.label(hole)[1] == 1
    assert not (hole & ~brain).any()


def test_radius_is_in_millimetres(brain):
    coarse = lumpy_ellipsoid(brain, (2.0, 2.0, 2.0), 12.0, np.random.default_rng(3))
    thick = lumpy_ellipsoid(brain, (4.0, 1.0, 1.0), 12.0, np.random.default_rng(3))
    assert coarse.sum() * 8 == pytest.approx(ball_volume(12.0), rel=0.2)
    assert thick.sum() * 4 == pytest.approx(ball_volume(12.0), rel=0.2)
    height = np.ptp(np.nonzero(thick)[0]) + 1
    width = np.ptp(np.nonzero(thick)[1]) + 1
    assert height < width / 2


def test_the_seed_decides_the_hole(brain):
    first, again, other = (lumpy_ellipsoid(brain, ISOTROPIC, 7.0, np.random.default_rng(s)) for s in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_lumpy_hole_is_compact_but_is_no_ball():
    space = np.ones((61, 61, 61), dtype=bool)
    for seed in range(5):
        hole = lumpy_ellipsoid(space, ISOTROPIC, 9.0, np.random.default_rng(seed))
        voxels = np.argwhere(hole)
        furthest = np.linalg.norm(voxels - voxels.mean(axis=0), axis=1).max()
        assert 9.5 < furthest < 9.0 * 1.45 * 1.15 / 0.85
        filled = ndimage.binary_fill_holes(hole)
        assert np.array_equal(filled, hole)


def test_holes_of_different_seeds_differ_in_shape_and_lie_all_over_the_brain(brain):
    holes = [lumpy_ellipsoid(brain, ISOTROPIC, 5.0, np.random.default_rng(seed)) for seed in range(40)]
    centres = np.array([np.argwhere(hole).mean(axis=0) for hole in holes])
    assert (np.ptp(centres, axis=0) > 0.5 * np.array(brain.shape)).all()
    assert len({tuple(np.ptp(np.argwhere(hole), axis=0)) for hole in holes}) > 10


def test_a_hole_at_the_edge_of_the_volume_does_not_wrap_around():
    space = np.ones((14, 14, 14), dtype=bool)
    for seed in range(20):
        hole = lumpy_ellipsoid(space, ISOTROPIC, 5.0, np.random.default_rng(seed))
        assert ndimage.label(hole)[1] == 1
        assert hole.sum() >= 0.9 * ball_volume(5.0) - 1


def test_a_hole_is_one_piece_where_a_fissure_cuts_it():
    halves = np.ones((40, 30, 30), dtype=bool)
    halves[20] = False
    for seed in range(40):
        assert ndimage.label(lumpy_ellipsoid(halves, ISOTROPIC, 6.0, np.random.default_rng(seed)))[1] == 1


def test_a_hole_larger_than_the_brain_is_refused(brain):
    with pytest.raises(InputError, match="smaller radius"):
        lumpy_ellipsoid(brain, ISOTROPIC, 40.0, np.random.default_rng(0))


def test_a_hole_that_fits_nowhere_is_refused_though_the_brain_has_the_volume():
    sheet = np.zeros((20, 40, 40), dtype=bool)
    sheet[9:11] = True
    with pytest.raises(InputError, match="smaller radius"):
        lumpy_ellipsoid(sheet, ISOTROPIC, 6.0, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("mask", "spacing", "radius"),
    [
        (np.zeros((9, 9, 9), bool), ISOTROPIC, 2.0),
        (np.ones((9, 9), bool), ISOTROPIC, 2.0),
        (np.ones((9, 9, 9), bool), (1.0, 0.0, 1.0), 2.0),
        (np.ones((9, 9, 9), bool), ISOTROPIC, 0.0),
    ],
)
def test_a_lumpy_hole_of_wrong_input_is_refused(mask, spacing, radius):
    with pytest.raises(InputError):
        lumpy_ellipsoid(mask, spacing, radius, np.random.default_rng(0))


@pytest.mark.parametrize("side", [1, 8, 20])
def test_a_square_hole_is_a_square_in_its_slice_and_in_the_brain(brain, side):
    for seed in range(10):
        hole = square(brain, 30, side, np.random.default_rng(seed))
        voxels = np.argwhere(hole)
        assert len(voxels) == side**2
        assert (np.ptp(voxels, axis=0) + 1).tolist() == [1, side, side]
        assert (voxels[:, 0] == 30).all()
        assert (hole & brain).sum() >= 0.95 * side**2


def test_a_square_takes_the_only_place_with_enough_brain():
    mask = np.zeros((3, 12, 12), dtype=bool)
    mask[1] = np.indices((12, 12)).sum(axis=0) % 2  # brain all around, but half of it holes
    mask[1, 5:9, 7:11] = True
    for seed in range(5):
        voxels = np.argwhere(square(mask, 1, 4, np.random.default_rng(seed)))
        assert voxels[0].tolist() == [1, 5, 7]
        assert voxels[-1].tolist() == [1, 8, 10]


def test_a_square_too_large_for_the_brain_covers_as_much_of_it_as_it_can():
    mask = np.zeros((3, 12, 12), dtype=bool)
    mask[1, 5:9, 2:6] = True
    hole = square(mask, 1, 6, np.random.default_rng(0))
    assert hole.sum() == 36
    assert hole[mask].all()


@pytest.mark.parametrize(("plane", "side"), [(60, 4), (-1, 4), (30, 0), (30, 65), (0, 4)])
def test_an_impossible_square_is_refused(brain, plane, side):
    with pytest.raises(InputError):
        square(brain, plane, side, np.random.default_rng(0))


def test_a_real_lesion_is_clipped_to_the_brain_and_its_mask_does_not_change(brain):
    lesions = np.zeros(brain.shape, dtype=np.uint8)
    lesions[:, 34:37, 30:33] = 1
    hole = lesion_hole(lesions, brain)
    assert hole.dtype == bool
    assert hole.sum() == brain[:, 34:37, 30:33].sum() > 0
    hole[:] = False
    assert lesions.sum() == 60 * 9


def test_a_lesion_on_another_grid_is_refused(brain):
    with pytest.raises(InputError, match="resample"):
        lesion_hole(brain[1:], brain)
