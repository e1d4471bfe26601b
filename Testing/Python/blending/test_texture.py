"""The scan's noise is measured, the fill can get as much, and edges are sharpened where the hole is deep."""

import numpy as np
import pytest
from MedInpaintLib.blending.noise import Noise, estimate_noise
from MedInpaintLib.blending.texture import SHARP, missing_noise, sharpen
from scipy.ndimage import distance_transform_edt, gaussian_filter

SHAPE = (40, 42, 44)
SPACING = (1.0, 0.9, 1.1)


@pytest.fixture(scope="module")
def hole():
    return np.linalg.norm(np.indices(SHAPE) - np.reshape([20, 21, 22], (3, 1, 1, 1)), axis=0) <= 9


@pytest.fixture(scope="module")
def brain():
    return np.linalg.norm(np.indices(SHAPE) - np.reshape([20, 21, 22], (3, 1, 1, 1)), axis=0) <= 18


def level_of(*given):
    return estimate_noise(*given).level


def even(level):
    return Noise(np.zeros(1), np.array([level]))


def structure(seed=0):
    return 100 + 20 * gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 3) * 40


@pytest.mark.parametrize("noise", [0.5, 5.0])
def test_white_noise_is_measured_whatever_lies_below_it_and_in_the_hole(hole, brain, noise):
    image = structure() + np.random.default_rng(1).normal(0, noise, SHAPE)
    image[hole] = 1e4
    assert level_of(image, hole, brain) == pytest.approx(noise, rel=0.1)


def test_edges_do_not_count_as_noise(hole, brain):
    image = np.random.default_rng(2).normal(0, 1, SHAPE)
    image[..., 10:] += 100
    image[:, ::15] += 50
    assert level_of(image, hole, brain) == pytest.approx(1, rel=0.3)


def test_a_noisier_tissue_is_told_from_a_quieter_one(hole, brain):
    bright = np.indices(SHAPE)[2] >= 22
    image = np.where(bright, 300, 100) + np.random.default_rng(7).normal(0, 1, SHAPE) * np.where(bright, 1, 4)
    noise = estimate_noise(image, hole, brain)
    np.testing.assert_allclose(noise.at(np.array([100, 300])), [4, 1], rtol=0.2)
    painted = np.where(bright, 300.0, 100.0)
    added = np.zeros(SHAPE)
    added[hole] = missing_noise(painted, hole, noise, seed=0)
    assert added[hole & bright].std() == pytest.approx(1, rel=0.25)
    assert added[hole & ~bright].std() == pytest.approx(4, rel=0.25)


def test_what_lies_outside_the_brain_does_not_count(hole, brain):
    random = np.random.default_rng(3)
    image = np.where(brain, random.normal(0, 1, SHAPE), random.normal(0, 30, SHAPE))
    assert level_of(image, hole, brain) == pytest.approx(1, rel=0.1)


def test_a_scan_without_noise_or_without_brain_round_the_hole_has_none(hole, brain):
    ramp = np.indices(SHAPE).sum(axis=0).astype(float)
    assert level_of(ramp, hole, brain) == pytest.approx(0, abs=1e-9)
    assert level_of(structure(), hole, hole) == 0


def test_a_single_slice_has_its_noise_measured_too(hole, brain):
    image = 100 + np.random.default_rng(4).normal(0, 2, SHAPE)
    one = np.s_[20:21]
    assert level_of(image[one], hole[one], brain[one]) == pytest.approx(2, rel=0.25)


def test_the_grain_is_as_strong_as_the_noise_where_there_is_none(hole):
    assert missing_noise(structure(), hole, even(3.0), seed=0).std() == pytest.approx(3, rel=0.05)


def test_noise_that_is_there_already_is_not_added_again(hole):
    noisy = structure() + np.random.default_rng(5).normal(0, 2, SHAPE)
    assert missing_noise(noisy, hole, even(2.0), seed=0).std() < 0.8
    assert missing_noise(noisy, hole, even(2.5), seed=0).std() == pytest.approx(1.5, rel=0.15)
    assert (missing_noise(noisy, hole, even(1.0), seed=0) == 0).all()


def test_the_grain_depends_on_the_seed_alone(hole):
    first, again, other = (missing_noise(structure(), hole, even(1.0), seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_filled_tissue_is_as_noisy_as_the_scan(hole, brain):
    """Measured in the hole as it was round it."""
    image = structure() + np.random.default_rng(6).normal(0, 2, SHAPE)
    noise = estimate_noise(image, hole, brain)
    image[hole] = structure()[hole]
    image[hole] += missing_noise(image, hole, noise, seed=0)
    assert level_of(image, ~brain, hole) == pytest.approx(2, rel=0.1)


def correlated(level, width, seed=8):
    """Noise of this standard deviation: white noise smoothed with a Gaussian of this width in voxels."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), width)
    return level * noise / noise.std()


@pytest.mark.parametrize("width", [0.5, 0.6])
def test_correlated_noise_is_measured_with_its_width(hole, brain, width):
    noise = estimate_noise(100 + correlated(3.0, width), hole, brain, brain & ~hole)
    assert noise.width == pytest.approx(width, abs=0.08)
    assert noise.level == pytest.approx(3.0, rel=0.25)
    means = correlated(3.0, width)[4:36, 4:36, 4:36].reshape(4, 8, 4, 8, 4, 8).mean(axis=(1, 3, 5))
    assert noise.white_level == pytest.approx(means.std() * 8**1.5, rel=0.35)  # the power at low frequencies


def test_white_noise_and_smooth_structure_have_no_width(hole, brain):
    white = 100 + np.random.default_rng(9).normal(0, 3, SHAPE)
    assert estimate_noise(white, hole, brain, brain & ~hole).width < 0.3
    assert estimate_noise(structure(), hole, brain, brain & ~hole).width == 0
    assert estimate_noise(white, hole, brain, brain & ~hole).white_level == pytest.approx(3, rel=0.1)


def test_fine_structure_of_grey_matter_is_not_taken_for_strong_correlated_noise(hole, brain):
    image = 100 + correlated(3.0, 0.6)
    grey = np.arange(SHAPE[2]) < SHAPE[2] // 2
    image[..., grey] -= 40 + np.random.default_rng(1).normal(0, 6, SHAPE)[..., grey]
    noise = estimate_noise(image, hole, brain, brain & ~hole & ~grey)
    assert noise.width > 0.5
    assert noise.levels.max() < 4


def test_the_noise_that_is_added_is_correlated_like_the_scans(hole, brain):
    noise = Noise(np.zeros(1), np.array([3.0]), 0.7)
    flat = np.full(SHAPE, 100.0)
    flat[hole] += missing_noise(flat, hole, noise, seed=0)
    assert flat[hole].std() == pytest.approx(3, rel=0.05)
    inner = hole[:, :, 1:] & hole[:, :, :-1]
    a, b = (flat[:, :, 1:][inner], flat[:, :, :-1][inner])
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(np.exp(-1 / (4 * 0.7**2)), abs=0.1)


def test_only_deep_in_the_hole_edges_get_steeper(hole):
    source = np.zeros(SHAPE, np.float32)
    source[..., 22:] = 1
    source = gaussian_filter(source, 1.5)
    result = sharpen(source, hole, SPACING)
    depth = distance_transform_edt(hole, sampling=SPACING)
    np.testing.assert_array_equal(result[depth <= SHARP[0]], source[depth <= SHARP[0]])
    before, after = (np.diff(image[20, 21, 16:28]).max() for image in (source, result))
    assert after > 1.07 * before
    assert result.dtype == np.float32


def test_a_ramp_is_sharp_already(hole):
    ramp = np.indices(SHAPE).sum(axis=0).astype(np.float32)
    np.testing.assert_allclose(sharpen(ramp, hole, SPACING), ramp, atol=1e-3)
