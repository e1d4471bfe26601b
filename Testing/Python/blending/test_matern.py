"""The Matérn blending against its dense equations, and what it must and must not heed."""

from itertools import product

import numpy as np
import pytest
from MedInpaintLib.blending import matern
from MedInpaintLib.blending.matern import EDGE, NOISE_SHARE, POWER, REACH, RING, matern_blend, matern_correlation
from MedInpaintLib.blending.poisson import poisson_blend
from scipy.ndimage import distance_transform_edt, gaussian_filter

SHAPE = (14, 15, 16)
SPACING = (1.2, 0.9, 1.0)


@pytest.fixture
def hole():
    hole = np.zeros(SHAPE, bool)
    hole[5:9, 5:10, 5:9] = True
    return hole


def smooth(seed, width=2.0):
    field = gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), width)
    return field / field.std()


def blend(known, source, hole, spacing=SPACING, trust=None, noise=0.05, **options):
    trust = np.ones(hole.shape) if trust is None else trust
    return matern_blend(known, source, hole, spacing, trust, 1.0, noise, **options)


def test_a_source_that_agrees_with_the_surroundings_is_left_as_it_is(hole):
    source = smooth(0)
    known = np.where(hole, 99, source)
    np.testing.assert_array_equal(blend(known, source, hole), source[hole])


def test_it_solves_the_normal_equations_of_its_energy():
    """The dense matrix, pair by pair, and its solution."""
    shape = (5, 6, 5)
    hole = np.zeros(shape, bool)
    hole[2, 2:4, 2] = True
    random = np.random.default_rng(1)
    source, known = 0.1 * random.normal(size=shape), random.normal(size=shape)
    spacing, noise = np.array(SPACING), 0.4
    places = list(product(*map(range, shape)))
    near = np.abs(np.indices(shape).transpose(1, 2, 3, 0)[..., None, :] - np.argwhere(hole)).sum(-1).min(-1) <= RING
    places = [place for place in places if near[place]]
    operator = np.eye(len(places))
    for a, first in enumerate(places):
        for b, second in enumerate(places):
            step = np.subtract(first, second)
            if np.abs(step).sum() == 1:
                jump = source[first] - source[second]
                weight = (REACH / spacing[np.abs(step).argmax()]) ** 2 * np.exp(-((jump / EDGE) ** 2) / 2)
                operator[a, a] += weight
                operator[a, b] -= weight
    seen = np.array([not hole[place] for place in places])
    difference = np.array([known[place] - source[place] for place in places]) * seen
    # The variance of a field with this precision, in 3-D: Gamma(nu) / Gamma(nu + 3/2) / (4 pi)^(3/2), nu = 5/2.
    unit = (0.75 * np.sqrt(np.pi)) / 6 / (4 * np.pi) ** 1.5 * np.prod(spacing) / REACH**3
    share = NOISE_SHARE * noise**2 / np.square(difference[seen]).mean()
    system = share * unit * np.linalg.matrix_power(operator, POWER) + np.diag(seen.astype(float))
    expected = np.linalg.solve(system, difference)[~seen] + source[hole]
    result = blend(known, source, hole, noise=noise, tolerance=1e-10)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_close_to_the_border_the_scan_is_continued_and_far_from_it_the_source_stays():
    shape = (41, 41, 41)
    distance = np.linalg.norm(np.indices(shape) - 20, axis=0)
    hole = distance <= 14
    filled = np.zeros(shape)
    filled[hole] = blend(np.ones(shape), np.zeros(shape), hole, (1, 1, 1), noise=0.01)
    depth = distance_transform_edt(hole)
    assert filled[hole & (depth <= 1)].min() > 0.8
    assert np.abs(filled[depth > 9]).max() < 0.03
    poisson = np.zeros(shape)
    poisson[hole] = poisson_blend(np.ones(shape), np.zeros(shape), hole, (1, 1, 1))
    assert poisson[20, 20, 20] == pytest.approx(1, abs=1e-3)  # which carries the difference right through


def test_a_slope_is_continued_across_the_border_where_poisson_stops_it(hole):
    ramp = np.linspace(0, 1, SHAPE[2])[None, None].repeat(SHAPE[1], 1).repeat(SHAPE[0], 0) ** 2
    known, source = np.where(hole, 0, ramp), np.zeros(SHAPE)
    here, poisson = (
        np.abs(fill - ramp[hole]).max()
        for fill in (blend(known, source, hole, noise=0.001), poisson_blend(known, source, hole, SPACING))
    )
    assert here < 0.7 * poisson


def test_what_is_restored_is_closer_to_the_truth_than_poissons(hole):
    gain = []
    for seed in range(8):
        source = smooth(seed)
        truth = source + 0.3 * smooth(100 + seed, 1.3)
        known = np.where(hole, 0, truth)
        errors = [
            np.square(fill - truth[hole]).mean()
            for fill in (blend(known, source, hole), poisson_blend(known, source, hole, SPACING))
        ]
        gain.append(errors[1] / errors[0])
    assert sum(g > 1 for g in gain) >= 6
    assert np.median(gain) > 1.5


def test_what_is_not_trusted_or_not_finite_or_in_the_hole_does_not_matter(hole):
    random = np.random.default_rng(3)
    source, known = smooth(4), smooth(4) + 0.2 * smooth(5)
    trusted = random.uniform(size=SHAPE) < 0.7
    first = blend(np.where(hole, 0, known), source, hole, trust=trusted)
    second = blend(np.where(hole | ~trusted, 1e6, known), source, hole, trust=trusted)
    third = blend(np.where(hole | ~trusted, np.nan, known), source, hole)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)


def test_a_hole_without_trusted_surroundings_keeps_the_source(hole):
    source = smooth(6)
    np.testing.assert_array_equal(blend(smooth(7), source, hole, trust=np.zeros(SHAPE)), source[hole])


def test_the_noisier_the_scan_the_less_a_single_voxel_is_followed(hole):
    source, known = np.zeros(SHAPE), 0.1 * smooth(8)
    outlier = known.copy()
    outlier[4, 7, 7] += 1  # touches the hole
    moved = [
        np.abs(blend(outlier, source, hole, noise=n) - blend(known, source, hole, noise=n)).max() for n in (0, 0.1)
    ]
    assert moved[1] < 0.7 * moved[0]


def test_what_is_hardly_trusted_hardly_matters(hole):
    source, known = smooth(18), smooth(18) + 0.1 * smooth(19)
    rim = distance_transform_edt(~hole) == 1
    dark = np.where(rim, known - 1, known)
    trust = np.where(rim, 1e-4, 1)
    clean, followed = blend(known, source, hole, trust=trust), blend(dark, source, hole)
    distrusted = blend(dark, source, hole, trust=trust)
    assert np.abs(followed - clean).mean() > 0.3
    assert np.abs(distrusted - clean).mean() < 0.15


def test_a_difference_does_not_cross_an_edge_of_the_source():
    shape = (9, 9, 20)
    hole = np.zeros(shape, bool)
    hole[3:6, 3:6, 5:15] = True
    known = np.zeros(shape)
    known[..., :10] = 0.3  # darker than generated on this side alone
    flat, edged = np.zeros(shape), np.zeros(shape)
    edged[..., 10:] = 1
    known_edged = known + edged
    beyond = np.argwhere(hole)[:, 2] == 10
    leak = [
        np.abs(blend(k, s, hole, (1, 1, 1)) - s[hole])[beyond].max() for k, s in ((known, flat), (known_edged, edged))
    ]
    assert leak[1] < 0.2 * leak[0]


def test_the_axes_are_alike(hole):
    source, known = smooth(9), smooth(10)
    first, second = np.zeros(SHAPE), np.zeros(SHAPE[::-1])
    first[hole] = blend(known, source, hole, tolerance=1e-8)
    second[hole.T] = blend(known.T, source.T, hole.T, SPACING[::-1], tolerance=1e-8)
    np.testing.assert_allclose(first, second.T, atol=1e-5)


def test_the_intensities_unit_does_not_matter(hole):
    source, known = smooth(11), smooth(12)
    trusted = np.ones(SHAPE)
    result = blend(known, source, hole)
    scaled = matern_blend(1e4 * known, 1e4 * source, hole, SPACING, trusted, 1e4, 0.05 * 1e4)
    np.testing.assert_allclose(scaled, 1e4 * result, atol=1)  # the solver's tolerance


def test_the_default_tolerance_errs_by_less_than_half_a_percent_of_the_difference(hole):
    source, known = smooth(13), smooth(14)
    exact = blend(known, source, hole, tolerance=1e-10)
    assert np.abs(blend(known, source, hole) - exact).max() < 5e-3 * np.abs(known - source).max()


def test_holes_far_apart_are_filled_as_each_would_be_alone():
    shape = (12, 12, 40)
    one, both = np.zeros(shape, bool), np.zeros(shape, bool)
    one[4:8, 4:8, 4:8] = both[4:8, 4:8, 4:8] = True
    both[4:8, 4:8, 30:34] = True
    known = np.random.default_rng(15).normal(size=shape)
    known[..., 20:] = known[..., 19::-1]  # the same surroundings, so the same variance
    both_alone, together = np.zeros(shape), np.zeros(shape)
    both_alone[one] = blend(known, np.zeros(shape), one, tolerance=1e-9)
    together[both] = blend(known, np.zeros(shape), both, tolerance=1e-9)
    assert np.abs(together - both_alone)[one].max() < 0.05 * np.abs(both_alone[one]).max()


def test_memory_grows_with_the_hole_and_not_with_the_volume(monkeypatch):
    seen, original = [], matern._operator
    monkeypatch.setattr(matern, "_operator", lambda field, *rest: seen.append(field.shape) or original(field, *rest))
    hole = np.zeros((60, 60, 60), bool)
    hole[30:33, 30:33, 30:33] = True
    blend(np.zeros(hole.shape), np.ones(hole.shape), hole)
    assert seen == [(3 + 2 * RING,) * 3]


def test_the_inputs_are_left_as_they_were(hole):
    source, known = smooth(16), smooth(17)
    copies = source.copy(), known.copy(), hole.copy()
    blend(known, source, hole)
    for now, before in zip((source, known, hole), copies, strict=True):
        np.testing.assert_array_equal(now, before)


def test_the_correlation_is_one_at_no_distance_and_a_half_at_two_and_a_half_millimetres():
    values = matern_correlation(np.array([0.0, 1.0, 2.35, 20.0]))
    np.testing.assert_allclose(values[[0, 3]], [1, 0], atol=1e-6)
    assert (np.diff(values) < 0).all()
    assert values[2] == pytest.approx(0.5, abs=0.02)
