"""Kriging of the residual: closed forms on small fields, and the pixels that must not change."""

from dataclasses import replace

import numpy as np
import pytest
from MedInpaintLib.blending import residual
from MedInpaintLib.blending.residual import MARGIN, NOISE, REACH, RING, krige_residual, residual_noise
from MedInpaintLib.space.intensities import LEVELS
from MedInpaintLib.space.slices import Slices
from scipy.ndimage import distance_transform_edt, gaussian_filter

SHAPE = (9, 40, 44)
BRAINS = 6


@pytest.fixture(scope="module")
def fields():
    """Components of smooth synthetic brains, (n, k, h, w)."""
    noise = np.random.default_rng(0).normal(size=(BRAINS, *SHAPE))
    smooth = gaussian_filter(noise, (0, 2, 2, 2))
    return (0.15 * smooth / smooth.std() / BRAINS**0.5).swapaxes(0, 1).astype(np.float32)


def krige(fields, generated, slices, noise=NOISE):
    """krige_residual with these fields (n, k, h, w) as components."""
    return krige_residual(generated, slices, lambda n, pixels: fields[n][:, pixels].T, noise=noise)


def slices_of(image, hole):
    return Slices(np.where(hole, 0, image).astype(np.float32), hole, hole, ~hole, np.arange(10, 10 + len(hole)), 1.0)


@pytest.fixture(scope="module")
def hole():
    hole = np.zeros(SHAPE, bool)
    hole[3:6, 14:22, 15:25] = True
    return hole


def test_if_the_residual_is_zero_the_mean_is_the_generated_slices(fields, hole):
    generated = np.random.default_rng(1).uniform(0, 1, SHAPE).astype(np.float32)
    result, _ = krige(fields, generated, slices_of(generated, hole))
    np.testing.assert_allclose(result, generated, atol=1e-5)


def test_kriging_predicts_slices_of_a_latent_that_varies_in_space(fields, hole):
    z = gaussian_filter(np.random.default_rng(2).normal(size=(BRAINS, *SHAPE)), (0, 3, 3, 3))
    z = (z / z.std()).swapaxes(0, 1)
    truth = 0.5 + (z * fields).sum(axis=1)
    generated = np.full(SHAPE, 0.5, np.float32)
    result, _ = krige(fields, generated, slices_of(truth, hole))
    error, before = (np.square(slices - truth)[hole].mean() for slices in (result, generated))
    assert error < 0.5 * before


def test_an_unrelated_residual_changes_nothing_and_leaves_the_deviation_of_the_prior(fields, hole):
    generated = np.full(SHAPE, 0.5, np.float32)
    observed = generated + gaussian_filter(np.random.default_rng(2).normal(size=SHAPE), 2)
    mean, deviation = krige(fields, generated, slices_of(observed, hole), noise=None)
    np.testing.assert_allclose(mean, generated, atol=2e-3)
    prior = np.sqrt((fields**2).sum(axis=1) + residual.DETAIL**2)
    np.testing.assert_allclose(deviation[hole], prior[hole], rtol=0.02)


def test_the_residual_of_a_t2_weighted_scan_counts_for_nothing(hole):
    t1 = slices_of(np.zeros(SHAPE), hole)
    flair, t2 = (
        np.interp(LEVELS, (0, 0.2, 0.5, 0.8, 1.2), values) for values in ((0, 0.1, 1, 0.8, 0.7), (0, 2, 1, 0.5, 0.3))
    )
    assert residual_noise(t1, LEVELS) == NOISE
    assert residual_noise(replace(t1, curve=flair), flair) == NOISE
    assert residual_noise(replace(t1, curve=t2), t2) is None


def test_mean_and_deviation_are_those_of_the_gaussian_process(fields):
    """Two pixels in the hole, compared with the inverse of the whole covariance matrix."""
    hole = np.zeros(SHAPE, bool)
    hole[4, 20, 20:22] = True
    observed = np.random.default_rng(3).normal(0, 0.1, SHAPE)
    generated = np.zeros(SHAPE, np.float32)
    slices = slices_of(observed, hole)
    known = (distance_transform_edt(~hole) <= RING) & ~hole
    places = np.argwhere(hole | known)
    values = np.array([fields[k][:, j, i] for k, j, i in places], dtype=float)
    squared = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    joint = values @ values.T * np.exp(-squared / (2 * residual.REACH**2))
    joint += residual.DETAIL**2 * np.exp(-squared / (2 * residual.DETAIL_REACH**2))
    inside = hole[tuple(places.T)]
    joint[~inside, ~inside] += NOISE**2
    precision = np.linalg.inv(joint)
    expected = -np.linalg.solve(
        precision[np.ix_(inside, inside)], precision[np.ix_(inside, ~inside)] @ observed[tuple(places[~inside].T)]
    )
    result, deviation = krige(fields, generated, slices)
    np.testing.assert_allclose(result[hole], expected, atol=1e-4)
    variance = np.diag(np.linalg.inv(precision[np.ix_(inside, inside)]))
    np.testing.assert_allclose(deviation[hole], np.sqrt(variance), rtol=1e-3)
    assert (deviation[~hole] == 0).all()


def test_in_the_ring_the_result_is_the_same_smooth_prediction_as_in_the_hole(fields, hole):
    """A constant residual is continued across the border without a step; white noise in the ring is smoothed."""
    random = np.random.default_rng(4)
    generated = random.uniform(0, 1, SHAPE).astype(np.float32)
    distance = distance_transform_edt(~hole)
    ring, far = ~hole & (distance <= RING), distance > RING
    noise = 0.1 * random.standard_normal(SHAPE).astype(np.float32)
    result, _ = krige(fields, generated, slices_of(generated + noise, hole))
    assert (result[far] == generated[far]).all()
    assert (result - generated)[ring].std() < 0.6 * noise[ring].std()
    assert np.corrcoef((result - generated)[ring], noise[ring])[0, 1] > 0.2


def test_pixels_in_the_hole_and_pixels_outside_the_context_do_not_matter(fields, hole):
    random = np.random.default_rng(5)
    image, generated = random.uniform(0, 1, (2, *SHAPE)).astype(np.float32)
    slices = slices_of(image, hole)
    context = slices.context.copy()
    context[:, :14] = False
    slices = replace(slices, context=context)
    painted = replace(slices, image=np.where(context, slices.image, np.float32(77)))
    first, second = (krige(fields, generated, each)[0] for each in (slices, painted))
    np.testing.assert_array_equal(first, second)


def test_unknown_pixels_close_to_the_hole_are_filled_as_well(fields, hole):
    image = np.full(SHAPE, 0.7, np.float32)
    generated = np.full(SHAPE, 0.5, np.float32)
    unknown = hole.copy()
    unknown[:, 14:22, 25:30] = True
    slices = replace(slices_of(image, hole), unknown=unknown, context=~unknown)
    result, _ = krige(fields, generated, slices)
    added = (result != generated) & ~slices.context
    assert (added == unknown & (distance_transform_edt(~hole) <= MARGIN)).all()


def test_of_many_known_pixels_a_sample_is_used_that_is_always_the_same(fields, hole, monkeypatch):
    image = gaussian_filter(np.random.default_rng(6).normal(size=SHAPE), 3).astype(np.float32)
    generated = np.zeros(SHAPE, np.float32)
    slices = slices_of(image, hole)
    whole, _ = krige(fields, generated, slices)
    monkeypatch.setattr(residual, "MAXIMUM_KNOWN", 400)
    some, again = (krige(fields, generated, slices)[0] for _ in range(2))
    np.testing.assert_array_equal(some, again)
    assert not np.array_equal(some, whole)
    assert np.abs(some - whole)[hole].mean() < 0.5 * np.abs(whole)[hole].mean()


def test_a_hole_without_known_surroundings_keeps_the_generated_slices(fields, hole):
    generated = np.random.default_rng(7).uniform(0, 1, SHAPE).astype(np.float32)
    slices = replace(slices_of(generated, hole), context=np.zeros(SHAPE, bool), unknown=np.ones(SHAPE, bool))
    np.testing.assert_array_equal(krige(fields, generated, slices)[0], generated)


def test_far_from_all_known_pixels_mean_and_deviation_are_those_of_the_prior(fields, monkeypatch):
    """The posterior would hardly differ there, and for a huge mask it would cost much."""
    fields = fields[:3]
    shape = len(fields), *SHAPE[1:]
    hole = np.zeros(shape, bool)
    hole[:, 2:38, 2:42] = True
    image = gaussian_filter(np.random.default_rng(9).normal(size=shape), 2).astype(np.float32)
    slices = slices_of(0.2 * image / image.std(), hole)
    generated = np.zeros(shape, np.float32)
    mean, deviation = krige(fields, generated, slices)
    deep = distance_transform_edt(hole) > residual.FAR
    prior = np.sqrt(np.square(fields).sum(axis=1) + residual.DETAIL**2)
    assert deep.any()
    assert (mean[deep] == 0).all()
    np.testing.assert_allclose(deviation[deep], prior[deep], rtol=1e-5)
    monkeypatch.setattr(residual, "FAR", np.inf)
    whole, whole_deviation = krige(fields, generated, slices)
    np.testing.assert_allclose(mean[hole & ~deep], whole[hole & ~deep], atol=1e-6)
    assert np.abs(whole[deep]).max() < 0.02 * np.abs(whole[hole]).max()
    assert (deviation[deep] / whole_deviation[deep]).max() < 1.02


def test_two_holes_far_apart_do_not_influence_each_other(fields):
    one, both = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    one[2:4, 5:9, 5:9] = both[2:4, 5:9, 5:9] = both[5:8, 30:36, 30:36] = True
    image = gaussian_filter(np.random.default_rng(8).normal(size=SHAPE), 2).astype(np.float32)
    generated = np.zeros(SHAPE, np.float32)
    alone, together = (krige(fields, generated, slices_of(image, hole))[0] for hole in (one, both))
    np.testing.assert_array_equal(alone[one], together[one])


def test_the_standard_deviation_is_that_of_the_errors(fields):
    """For 40 random fields, the mean square of error over standard deviation is 1."""
    hole = np.zeros(SHAPE, bool)
    hole[4:6, 18:22, 20:24] = True
    ratios = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        z = gaussian_filter(random.normal(size=(BRAINS, *SHAPE)), (0, REACH / 2**0.5, REACH / 2**0.5, REACH / 2**0.5))
        detail = gaussian_filter(random.normal(size=SHAPE), residual.DETAIL_REACH / 2**0.5)
        truth = ((z / z.std()).swapaxes(0, 1) * fields).sum(axis=1) + residual.DETAIL * detail / detail.std()
        image = truth + random.normal(0, NOISE, SHAPE)
        mean, deviation = krige(fields, np.zeros(SHAPE, np.float32), slices_of(image, hole))
        ratios.append(np.square((mean - truth)[hole] / deviation[hole]).mean())
    assert np.mean(ratios) == pytest.approx(1, abs=0.3)


def test_the_deviation_is_smaller_near_the_border_than_deep_in_the_hole(fields, hole):
    image = np.zeros(SHAPE, np.float32)
    _, deviation = krige(fields, image, slices_of(image, hole))
    depth = distance_transform_edt(hole)
    assert deviation[hole & (depth == 1)].mean() < 0.9 * deviation[depth == depth.max()].mean()


def test_without_known_surroundings_the_deviation_is_that_of_the_prior(fields, hole):
    generated = np.zeros(SHAPE, np.float32)
    slices = replace(slices_of(generated, hole), context=np.zeros(SHAPE, bool), unknown=np.ones(SHAPE, bool))
    _, deviation = krige(fields, generated, slices)
    prior = np.sqrt(np.square(fields).sum(axis=1) + residual.DETAIL**2)
    np.testing.assert_allclose(deviation[hole], prior[hole], rtol=1e-5)
