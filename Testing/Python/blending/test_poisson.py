"""Poisson blending: closed forms, and a dense least-squares solution."""

import tracemalloc

import numpy as np
import pytest
from MedInpaintLib.blending import poisson
from MedInpaintLib.blending.poisson import harmonic_fill, poisson_blend
from MedInpaintLib.errors import InputError

ANISOTROPIC = (3.0, 0.8, 1.1)


def ball(shape, radius, centre=None):
    centre = np.array(shape) // 2 if centre is None else centre
    offset = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    return (offset**2).sum(axis=0) <= radius**2


def physical_coordinates(shape, spacing):
    return np.indices(shape) * np.reshape(spacing, (3, 1, 1, 1))


def row(values):
    """A volume of a single row of voxels along the last axis: one-dimensional problems have closed forms."""
    return np.array(values)[None, None, :]


def least_squares(known, source, hole, spacing, guide=None, slicewise=False):
    """The definition: one equation for each pair of face neighbours, solved densely."""
    number = {voxel: n for n, voxel in enumerate(map(tuple, np.argwhere(hole)))}
    equations, right_side = [], []
    for p in np.ndindex(hole.shape):
        for axis in (1, 2) if slicewise else (0, 1, 2):
            q = tuple(i + (a == axis) for a, i in enumerate(p))
            if q[axis] == hole.shape[axis] or not (hole[p] or hole[q]):
                continue
            if any(not hole[v] and not np.isfinite(known[v]) for v in (p, q)):
                continue
            equation = np.zeros(len(number))
            value = source[p] - source[q] if guide is None or (guide[p] and guide[q]) else 0.0
            for voxel, sign in ((p, 1), (q, -1)):
                if hole[voxel]:
                    equation[number[voxel]] = sign
                else:
                    value -= sign * known[voxel]
            equations.append(equation / spacing[axis])
            right_side.append(value / spacing[axis])
    return np.linalg.lstsq(np.array(equations), np.array(right_side), rcond=None)[0]


@pytest.mark.parametrize("slicewise", [False, True])
def test_a_source_that_is_the_scan_plus_an_offset_restores_the_scan(slicewise):
    known = np.random.default_rng(0).normal(100, 20, (9, 12, 11))
    hole = ball(known.shape, 3)
    scan = np.where(hole, np.nan, known)
    blended = poisson_blend(scan, known + 500, hole, ANISOTROPIC, slicewise=slicewise)
    np.testing.assert_allclose(blended, known[hole], atol=1e-2)


@pytest.mark.parametrize("fill", ["harmonic fill", "constant source"])
def test_a_linear_ramp_is_continued_across_the_hole(fill):
    z, y, x = physical_coordinates((11, 14, 13), ANISOTROPIC)
    ramp = 10 + 2 * z - 3 * y + 5 * x
    hole = ball(ramp.shape, 4)
    scan = np.where(hole, -999, ramp)
    if fill == "harmonic fill":
        filled = harmonic_fill(scan, hole, ANISOTROPIC)
    else:
        filled = poisson_blend(scan, np.full(scan.shape, 7.0), hole, ANISOTROPIC)
    np.testing.assert_allclose(filled, ramp[hole], atol=1e-3)


def test_the_harmonic_fill_restores_a_harmonic_quadratic_only_with_the_right_spacing():
    z, y, x = physical_coordinates((11, 14, 13), ANISOTROPIC)
    saddle = 2 * x**2 - y**2 - z**2  # second differences over h²: 4 - 2 - 2 = 0
    hole = ball(saddle.shape, 4)
    np.testing.assert_allclose(harmonic_fill(saddle, hole, ANISOTROPIC), saddle[hole], atol=1e-3)
    assert np.abs(harmonic_fill(saddle, hole, (1, 1, 1)) - saddle[hole]).max() > 1


def test_across_a_slab_the_mismatch_at_its_faces_is_spread_linearly():
    x = np.arange(20.0)
    source = 0.5 * x**2 - 4 * x
    known = np.where(x < 10, 30.0, 80.0)
    hole = (x >= 5) & (x < 15)
    expected = (source + np.interp(x, [4, 15], [30 - source[4], 80 - source[15]]))[hole]
    shape = (3, 4, 20)
    blended = poisson_blend(*(np.broadcast_to(a, shape) for a in (known, source, hole)), ANISOTROPIC)
    np.testing.assert_allclose(blended.reshape(3, 4, 10), np.broadcast_to(expected, (3, 4, 10)), atol=1e-3)


def test_a_pair_with_an_unguided_end_asks_for_no_difference():
    known, source = row([10.0, 0, 0, 0, 0, 20.0]), row([0.0, 3, 6, 9, 12, 15])
    hole, guide = row([False, True, True, True, True, False]), row([True, True, True, False, False, False])
    # Steps asked for: 3, 3, 0, 0, 0; the remaining 10 - 6 is shared by the five of them.
    blended = poisson_blend(known, source, hole, (1, 1, 1), guide=guide)
    np.testing.assert_allclose(blended, [13.8, 17.6, 18.4, 19.2], atol=1e-4)


@pytest.mark.parametrize("outer", [[], [np.nan], [np.inf]], ids=["border", "nan", "infinite"])
def test_the_border_of_the_volume_and_voxels_that_are_not_finite_set_no_value(outer):
    known = row([10.0, 0, 0, 0, *outer])
    source = row([1.0, 4, 2, 8, *outer])
    hole = row([False, True, True, True, *(False for _ in outer)])
    np.testing.assert_allclose(poisson_blend(known, source, hole, (1, 1, 1)), [13, 11, 17], atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slicewise", [False, True])
@pytest.mark.parametrize("guided", [False, True])
def test_it_is_the_least_squares_solution_over_the_edges(seed, slicewise, guided):
    rng = np.random.default_rng(seed)
    shape = (4, 6, 5)
    known, source = rng.normal(100, 30, shape), rng.normal(0, 30, shape)
    hole = rng.random(shape) < 0.4
    known[rng.random(shape) < 0.05] = np.nan
    guide = rng.random(shape) < 0.8 if guided else None
    spacing = rng.uniform(0.5, 5, 3)
    blended = poisson_blend(known, source, hole, spacing, guide, slicewise, tolerance=1e-12)
    expected = least_squares(known, source, hole, spacing, guide, slicewise)
    np.testing.assert_allclose(blended, expected, atol=1e-8)


def test_the_default_tolerance_errs_by_less_than_a_ten_thousandth_of_the_intensity_range():
    rng = np.random.default_rng(1)
    known, source = rng.uniform(0, 1000, (2, 30, 30, 30))
    problem = known, source, ball(known.shape, 12), (1, 1, 1)
    error = poisson_blend(*problem) - poisson_blend(*problem, tolerance=1e-13)
    assert np.abs(error).max() < 0.1


def test_several_holes_are_filled_as_each_would_be_alone():
    rng = np.random.default_rng(2)
    shape = (12, 20, 20)
    known, source = rng.normal(100, 30, (2, *shape))
    first, second = ball(shape, 3, (5, 5, 5)), ball(shape, 4, (6, 13, 14))
    together = known.copy()
    together[first | second] = poisson_blend(known, source, first | second, ANISOTROPIC, tolerance=1e-10)
    for hole in (first, second):
        alone = poisson_blend(known, source, hole, ANISOTROPIC, tolerance=1e-10)
        np.testing.assert_allclose(together[hole], alone, atol=1e-5)


def test_a_hole_that_reaches_the_background_goes_down_to_it():
    known = row([100.0, 0, 0, 0, 0.0])
    hole = row([False, True, True, True, False])
    np.testing.assert_allclose(harmonic_fill(known, hole, (1, 1, 1)), [75, 50, 25], atol=1e-4)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int64", "float32", "float64"])
def test_every_pixel_type_gives_the_same_values(dtype):
    rng = np.random.default_rng(3)
    known, source = rng.integers(0, 120, (2, 6, 9, 9)).astype(dtype)
    hole = ball(known.shape, 2)
    blended = poisson_blend(known, source, hole, (1, 1, 1), tolerance=1e-12)
    assert blended.dtype == np.float64
    np.testing.assert_allclose(blended, least_squares(known.astype(float), source.astype(float), hole, (1, 1, 1)))


def test_the_harmonic_fill_stays_within_the_range_of_the_rim():
    rng = np.random.default_rng(4)
    known = rng.uniform(200, 900, (10, 16, 16))
    hole = ball(known.shape, 4)
    filled = harmonic_fill(np.where(hole, 1e6, known), hole, ANISOTROPIC)
    assert known.min() < filled.min()
    assert filled.max() < known.max()


def test_the_inputs_do_not_change():
    rng = np.random.default_rng(5)
    arrays = [*rng.normal(size=(2, 6, 8, 8)), ball((6, 8, 8), 2), np.ones((6, 8, 8), dtype=bool)]
    for array in arrays:
        array.flags.writeable = False  # writing would raise
    known, source, hole, guide = arrays
    poisson_blend(known, source, hole, ANISOTROPIC, guide)


def test_memory_grows_with_the_hole_and_not_with_the_volume():
    known, hole = np.zeros((256, 256, 256), dtype=np.int16), np.zeros((256, 256, 256), dtype=bool)
    hole[3:6, 3:6, 3:6] = hole[250:253, 250:253, 250:253] = True
    tracemalloc.start()
    harmonic_fill(known, hole, (1, 1, 1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6  # bytes; a single copy of the mask would be 17e6


def test_an_empty_hole_gives_no_values():
    assert harmonic_fill(np.ones((2, 3, 3)), np.zeros((2, 3, 3), dtype=bool), (1, 1, 1)).shape == (0,)


def test_a_hole_that_is_the_whole_volume_is_refused():
    with pytest.raises(InputError, match="no known voxel around it"):
        harmonic_fill(np.ones((3, 4, 4)), np.ones((3, 4, 4), dtype=bool), (1, 1, 1))


def test_one_undetermined_hole_among_sound_ones_is_refused():
    known = row([5.0, 0, 5, np.nan, 0, np.nan])
    hole = row([False, True, False, False, True, False])
    with pytest.raises(InputError, match="no known voxel around it"):
        harmonic_fill(known, hole, (1, 1, 1))


def test_a_slice_inside_the_hole_is_refused_slicewise_and_filled_in_3d():
    known = np.arange(5.0)[:, None, None] * np.ones((1, 4, 4))
    hole = np.zeros(known.shape, dtype=bool)
    hole[2] = hole[3, 1, 1] = True
    with pytest.raises(InputError, match="use 3-D blending"):
        poisson_blend(known, np.zeros_like(known), hole, (1, 1, 1), slicewise=True)
    np.testing.assert_allclose(harmonic_fill(known, hole, (1, 1, 1)), known[hole], atol=1e-5)


def test_a_source_that_is_not_finite_in_the_hole_is_a_defect():
    hole = ball((5, 5, 5), 1)
    with pytest.raises(ValueError, match="not finite"):
        poisson_blend(np.ones(hole.shape), np.where(hole, np.nan, 1), hole, (1, 1, 1))


def test_no_convergence_is_an_error_and_not_a_poor_result(monkeypatch):
    monkeypatch.setattr(poisson, "MAXIMUM_ITERATIONS", 2)
    known = np.random.default_rng(6).normal(size=(12, 12, 12))
    with pytest.raises(RuntimeError, match="did not converge"):
        harmonic_fill(known, ball(known.shape, 4), (1, 1, 1))
