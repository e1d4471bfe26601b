"""What is continued into the hole: closed forms on small fields, and what must stay as it is."""

from dataclasses import replace

import numpy as np
import pytest
from MedInpaintLib.blending import residual
from MedInpaintLib.blending.residual import MARGIN, NOISE, REACH, RING, krige_residual
from MedInpaintLib.space.slices import Slices
from scipy.ndimage import distance_transform_edt, gaussian_filter

SHAPE = (9, 40, 44)
BRAINS = 6


@pytest.fixture(scope="module")
def fields():
    """Components of smooth made-up brains, (n, k, h, w)."""
    noise = np.random.default_rng(0).normal(size=(BRAINS, *SHAPE))
    smooth = gaussian_filter(noise, (0, 2, 2, 2))
    return (0.15 * smooth / smooth.std() / BRAINS**0.5).swapaxes(0, 1).astype(np.float32)


def of(fields):
    return lambda n, pixels: fields[n][:, pixels].T


def slices_of(image, hole):
    return Slices(np.where(hole, 0, image).astype(np.float32), hole, hole, ~hole, np.arange(10, 10 + SHAPE[0]), 1.0)


@pytest.fixture(scope="module")
def hole():
    hole = np.zeros(SHAPE, bool)
    hole[3:6, 14:22, 15:25] = True
    return hole


def test_where_the_model_explains_the_surroundings_nothing_is_added(fields, hole):
    generated = np.random.default_rng(1).uniform(0, 1, SHAPE).astype(np.float32)
    result, _ = krige_residual(generated, slices_of(generated, hole), of(fields))
    np.testing.assert_allclose(result, generated, atol=1e-5)


def test_what_the_brains_do_not_explain_alone_is_explained_by_a_latent_that_varies_in_place(fields, hole):
    z = gaussian_filter(np.random.default_rng(2).normal(size=(BRAINS, *SHAPE)), (0, 3, 3, 3))
    z = (z / z.std()).swapaxes(0, 1)
    truth = 0.5 + (z * fields).sum(axis=1)
    generated = np.full(SHAPE, 0.5, np.float32)
    result, _ = krige_residual(generated, slices_of(truth, hole), of(fields))
    error, before = (np.square(made - truth)[hole].mean() for made in (result, generated))
    assert error < 0.5 * before


def test_it_is_the_conditional_mean_of_the_gaussian_field(fields):
    """Two pixels in the hole, against the inverse of the whole covariance."""
    hole = np.zeros(SHAPE, bool)
    hole[4, 20, 20:22] = True
    left = np.random.default_rng(3).normal(0, 0.1, SHAPE)
    generated = np.zeros(SHAPE, np.float32)
    slices = slices_of(left, hole)
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
        precision[np.ix_(inside, inside)], precision[np.ix_(inside, ~inside)] @ left[tuple(places[~inside].T)]
    )
    result, sd = krige_residual(generated, slices, of(fields))
    np.testing.assert_allclose(result[hole], expected, atol=1e-4)
    variance = np.diag(np.linalg.inv(precision[np.ix_(inside, inside)]))
    np.testing.assert_allclose(sd[hole], np.sqrt(variance), rtol=1e-3)
    assert (sd[~hole] == 0).all()


def test_near_the_hole_known_pixels_show_the_scan_and_farther_ones_what_was_generated(fields, hole):
    random = np.random.default_rng(4)
    image, generated = random.uniform(0, 1, (2, *SHAPE)).astype(np.float32)
    slices = slices_of(image, hole)
    result, _ = krige_residual(generated, slices, of(fields))
    distance = distance_transform_edt(~hole)
    ring, far = ~hole & (distance <= RING), distance > RING
    assert (result[ring] == image[ring]).all()
    assert (result[far] == generated[far]).all()


def test_neither_what_lies_in_the_hole_nor_what_is_no_context_matters(fields, hole):
    random = np.random.default_rng(5)
    image, generated = random.uniform(0, 1, (2, *SHAPE)).astype(np.float32)
    slices = slices_of(image, hole)
    context = slices.context.copy()
    context[:, :14] = False
    slices = replace(slices, context=context)
    painted = replace(slices, image=np.where(context, slices.image, np.float32(77)))
    first, second = (krige_residual(generated, given, of(fields))[0] for given in (slices, painted))
    np.testing.assert_array_equal(first, second)


def test_what_is_unknown_close_to_the_hole_is_filled_as_well(fields, hole):
    image = np.full(SHAPE, 0.7, np.float32)
    generated = np.full(SHAPE, 0.5, np.float32)
    unknown = hole.copy()
    unknown[:, 14:22, 25:30] = True
    slices = replace(slices_of(image, hole), unknown=unknown, context=~unknown)
    result, _ = krige_residual(generated, slices, of(fields))
    added = (result != generated) & ~slices.context
    assert (added == unknown & (distance_transform_edt(~hole) <= MARGIN)).all()


def test_of_many_known_pixels_some_do_and_they_are_the_same_every_time(fields, hole, monkeypatch):
    image = gaussian_filter(np.random.default_rng(6).normal(size=SHAPE), 3).astype(np.float32)
    generated = np.zeros(SHAPE, np.float32)
    slices = slices_of(image, hole)
    whole, _ = krige_residual(generated, slices, of(fields))
    monkeypatch.setattr(residual, "MOST", 400)
    some, again = (krige_residual(generated, slices, of(fields))[0] for _ in range(2))
    np.testing.assert_array_equal(some, again)
    assert not np.array_equal(some, whole)
    assert np.abs(some - whole)[hole].mean() < 0.5 * np.abs(whole)[hole].mean()


def test_a_hole_without_known_surroundings_keeps_what_was_generated(fields, hole):
    generated = np.random.default_rng(7).uniform(0, 1, SHAPE).astype(np.float32)
    slices = replace(slices_of(generated, hole), context=np.zeros(SHAPE, bool), unknown=np.ones(SHAPE, bool))
    np.testing.assert_array_equal(krige_residual(generated, slices, of(fields))[0], generated)


def test_farther_in_than_the_surroundings_have_a_say_it_is_as_if_there_were_none(fields, monkeypatch):
    """And what would be computed there, at any cost for a huge mask, is small."""
    hole = np.zeros(SHAPE, bool)
    hole[:, 2:38, 2:42] = True
    image = gaussian_filter(np.random.default_rng(9).normal(size=SHAPE), 2).astype(np.float32)
    slices = slices_of(0.2 * image / image.std(), hole)
    generated = np.zeros(SHAPE, np.float32)
    mean, sd = krige_residual(generated, slices, of(fields))
    deep = distance_transform_edt(hole) > residual.FAR
    prior = np.sqrt(np.square(fields).sum(axis=1) + residual.DETAIL**2)
    assert deep.any()
    assert (mean[deep] == 0).all()
    np.testing.assert_allclose(sd[deep], prior[deep], rtol=1e-5)
    monkeypatch.setattr(residual, "FAR", np.inf)
    whole, whole_sd = krige_residual(generated, slices, of(fields))
    np.testing.assert_allclose(mean[hole & ~deep], whole[hole & ~deep], atol=1e-6)
    assert np.abs(whole[deep]).max() < 0.02 * np.abs(whole[hole]).max()
    assert (sd[deep] / whole_sd[deep]).max() < 1.02


def test_two_holes_far_apart_do_not_touch_each_other(fields):
    one, both = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    one[2:4, 5:9, 5:9] = both[2:4, 5:9, 5:9] = both[5:8, 30:36, 30:36] = True
    image = gaussian_filter(np.random.default_rng(8).normal(size=SHAPE), 2).astype(np.float32)
    generated = np.zeros(SHAPE, np.float32)
    alone, together = (krige_residual(generated, slices_of(image, hole), of(fields))[0] for hole in (one, both))
    np.testing.assert_array_equal(alone[one], together[one])


def test_the_standard_deviation_is_that_of_the_errors(fields, hole):
    """Of 40 drawn fields: the mean square of the error over the variance is 1."""
    ratios = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        z = gaussian_filter(random.normal(size=(BRAINS, *SHAPE)), (0, REACH / 2**0.5, REACH / 2**0.5, REACH / 2**0.5))
        detail = gaussian_filter(random.normal(size=SHAPE), residual.DETAIL_REACH / 2**0.5)
        truth = ((z / z.std()).swapaxes(0, 1) * fields).sum(axis=1) + residual.DETAIL * detail / detail.std()
        seen = truth + random.normal(0, NOISE, SHAPE)
        mean, sd = krige_residual(np.zeros(SHAPE, np.float32), slices_of(seen, hole), of(fields))
        ratios.append(np.square((mean - truth)[hole] / sd[hole]).mean())
    assert np.mean(ratios) == pytest.approx(1, abs=0.3)


def test_it_is_surer_near_the_border_than_deep_in_the_hole(fields, hole):
    image = np.zeros(SHAPE, np.float32)
    _, sd = krige_residual(image, slices_of(image, hole), of(fields))
    depth = distance_transform_edt(hole)
    assert sd[hole & (depth == 1)].mean() < 0.8 * sd[depth == depth.max()].mean()


def test_without_known_surroundings_it_is_as_unsure_as_the_models_brains_are_different(fields, hole):
    generated = np.zeros(SHAPE, np.float32)
    slices = replace(slices_of(generated, hole), context=np.zeros(SHAPE, bool), unknown=np.ones(SHAPE, bool))
    _, sd = krige_residual(generated, slices, of(fields))
    prior = np.sqrt(np.square(fields).sum(axis=1) + residual.DETAIL**2)
    np.testing.assert_allclose(sd[hole], prior[hole], rtol=1e-5)
