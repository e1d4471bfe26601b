"""The linear latent model against closed forms: exact where it can be, the mean where nothing is known."""

import numpy as np
import pytest
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation.fills.linear import LinearModel

SHAPE = (20, 24)
RANK = 6


@pytest.fixture(scope="module")
def generator():
    """Slices of a low-rank family with an empty rim, as around a brain: draw(n) -> (n, h, w)."""
    rng = np.random.default_rng(0)
    mean, basis = rng.uniform(50, 100, SHAPE), rng.standard_normal((RANK, *SHAPE)) * 5
    inside = np.zeros(SHAPE)
    inside[3:-3, 3:-3] = 1

    def draw(count, noise=0.0, seed=1):
        rng = np.random.default_rng(seed)
        family = mean + np.tensordot(rng.standard_normal((count, RANK)), basis, 1)
        return ((family + noise * rng.standard_normal((count, *SHAPE))) * inside).astype(np.float32)

    return draw


@pytest.fixture
def model(generator):
    return LinearModel().fit(generator(40)[:, None], components=RANK)


@pytest.fixture
def weights():
    known = np.ones(SHAPE, dtype=np.float32)
    known[6:14, 8:18] = 0
    return known


@pytest.mark.parametrize("components", [RANK, 30, 1000])
def test_an_unseen_slice_of_a_low_rank_family_is_recovered_in_the_hole(generator, weights, components):
    model = LinearModel().fit(generator(40)[:, None], components=components)
    unseen = generator(1, seed=7)[0]
    fill = model.fill(np.where(weights > 0, unseen, 0), weights, 0)
    assert fill.dtype == np.float32
    assert fill.shape == SHAPE
    assert np.abs(fill - unseen).max() < 1e-2  # of about 75 +- 12


def test_values_in_the_hole_are_not_used(model, generator, weights):
    unseen = generator(1, seed=7)[0]
    zero, nan = (model.fill(np.where(weights > 0, unseen, value), weights, 0) for value in (0, np.nan))
    assert np.array_equal(zero, nan)


def test_with_nothing_known_the_fill_is_the_mean(model, generator):
    fill = model.fill(generator(1, seed=7)[0], np.zeros(SHAPE), 0)
    assert fill == pytest.approx(generator(40).mean(axis=0), abs=1e-4)


def test_more_noise_pulls_the_fill_to_the_mean(model, generator, weights):
    unseen, mean = generator(1, seed=7)[0], generator(40).mean(axis=0)
    distances = [np.linalg.norm(model.fill(unseen, weights, 0, noise) - mean) for noise in (1e-2, 1e3, 1e5, 1e12)]
    assert distances == sorted(distances, reverse=True)
    assert distances[1] < 0.999 * distances[0]
    assert distances[-1] < 1e-3 * distances[0]


def test_with_fewer_known_pixels_than_components_the_fill_stays_finite_and_fits_them(model, generator):
    unseen, weights = generator(1, seed=7)[0], np.zeros(SHAPE)
    weights[10, 10:13] = 1
    fill = model.fill(unseen, weights, 0)
    assert np.isfinite(fill).all()
    assert fill[10, 10:13] == pytest.approx(unseen[10, 10:13], abs=0.05)


def test_one_component_is_a_scalar_ridge_regression(weights):
    pattern = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    slices = np.stack([10 + 2 * pattern, 10 - 2 * pattern])  # mean 10, covariance 4 pattern pattern^T
    weights = weights * np.linspace(1, 5, SHAPE[1])
    image, noise = 10 + 3 * pattern, 50.0
    fill = LinearModel().fit(slices[:, None], components=1).fill(image, weights, 0, noise)

    basis, w = 2 * pattern, weights / weights.max()
    z = (w * basis * (image - 10)).sum() / ((w * basis**2).sum() + noise)
    assert fill == pytest.approx(10 + basis * z, abs=1e-3)


def test_the_noise_is_the_mean_discarded_eigenvalue_and_z_is_standard_normal(generator):
    """Against the textbook: the eigenvectors of the covariance of the pixels."""
    samples = generator(60, noise=2.0)
    inside = np.ptp(samples, axis=0) > 0
    pixels = samples[:, inside].astype(np.float64)
    mean, covariance = pixels.mean(axis=0), np.cov(pixels.T, bias=True)
    values, vectors = (result[..., ::-1] for result in np.linalg.eigh(covariance))
    noise = values[RANK:].mean()
    basis = vectors[:, :RANK] * np.sqrt(values[:RANK] - noise)

    image, weights = generator(1, noise=2.0, seed=9)[0], np.random.default_rng(4).uniform(0, 1, SHAPE)
    weights[8:12, 8:12] = 0
    w = weights[inside] / weights.max()
    system = basis.T * w @ basis + noise * np.eye(RANK)
    z = np.linalg.solve(system, basis.T * w @ (image[inside] - mean))

    fill = LinearModel().fit(samples[:, None], components=RANK).fill(image, weights, 0)
    assert fill[inside] == pytest.approx(mean + basis @ z, abs=1e-3)
    assert not fill[~inside].any()


def test_only_the_ratio_of_weights_counts(model, generator, weights):
    noisy = generator(1, noise=5.0, seed=8)[0]
    uneven = weights * np.linspace(0.1, 1, SHAPE[0])[:, None]
    assert model.fill(noisy, uneven, 0) == pytest.approx(model.fill(noisy, 1000 * uneven, 0), abs=1e-3)
    assert np.abs(model.fill(noisy, uneven, 0) - model.fill(noisy, weights, 0)).max() > 0.1


def test_a_height_is_trained_on_its_neighbours_only(generator):
    slices = np.zeros((10, 7, *SHAPE), dtype=np.float32)
    for height in range(7):
        slices[:, height] = 100 * height
    nothing = np.zeros(SHAPE)
    model = LinearModel().fit(slices, neighbours=2)
    means = [model.fill(nothing, nothing, height)[0, 0] for height in range(7)]
    assert means == pytest.approx([100, 150, 200, 300, 400, 450, 500])  # fewer neighbours at both ends
    alone = LinearModel().fit(slices, neighbours=0)
    assert alone.fill(nothing, nothing, 4)[0, 0] == pytest.approx(400)


def test_fits_are_made_once_when_asked_for_and_dropped_by_a_new_fit(generator, weights, monkeypatch):
    from MedInpaintLib.evaluation.fills import linear

    fits = []
    original = linear._fit
    monkeypatch.setattr(linear, "_fit", lambda *arguments: fits.append(1) or original(*arguments))
    slices = generator(30).reshape(10, 3, *SHAPE)
    model = LinearModel().fit(slices)
    assert not fits
    for height in (1, 1, 2, 1):
        model.fill(slices[0, 1], weights, height)
    assert len(fits) == 2
    model.fit(slices).fill(slices[0, 1], weights, 1)
    assert len(fits) == 3


def test_a_stack_is_filled_slice_by_slice_each_at_its_height(generator, weights):
    slices = generator(30).reshape(10, 3, *SHAPE)
    model = LinearModel().fit(slices, components=4, neighbours=0)
    images, masks, heights = (
        slices[:3, 1],
        np.stack([weights, weights.T[: SHAPE[0]].repeat(2, 1)[:, :24], weights]),
        [2, 0, 1],
    )
    stack = model.fill_stack(images, masks, heights)
    assert stack.shape == (3, *SHAPE)
    for n, height in enumerate(heights):
        assert np.array_equal(stack[n], model.fill(images[n], masks[n], height))
    with pytest.raises(InputError):
        model.fill_stack(images, masks, [0, 1])


def test_a_single_training_slice_is_its_own_mean(generator, weights):
    only = generator(1)
    assert np.array_equal(LinearModel().fit(only[None]).fill(generator(1, seed=3)[0], weights, 0), only[0])


def test_the_model_fills_better_than_the_mean_on_noisy_slices(generator, weights):
    model = LinearModel().fit(generator(60, noise=3.0)[:, None], components=RANK)
    hole = weights == 0
    mean = model.fill(np.zeros(SHAPE), np.zeros(SHAPE), 0)
    for clean, noisy in zip(generator(5, seed=7), generator(5, noise=0, seed=7), strict=True):
        noisy = noisy + np.random.default_rng(5).normal(0, 3, SHAPE)
        fill = model.fill(np.where(hole, 0, noisy), weights, 0)
        assert np.square(fill - clean)[hole].mean() < 0.1 * np.square(mean - clean)[hole].mean()


def test_wrong_input_is_refused(model, generator, weights):
    image = generator(1)[0]
    for arguments in (
        (image[1:], weights, 0),
        (image, weights[1:], 0),
        (image, -weights, 0),
        (image, weights, 1),
        (image, weights, -1),
        (image, weights, 0, 0.0),
    ):
        with pytest.raises(InputError):
            model.fill(*arguments)
    with pytest.raises(InputError):
        LinearModel().fit(generator(4))
    with pytest.raises(InputError):
        LinearModel().fit(generator(4)[None], components=0)
    with pytest.raises(RuntimeError, match="fit"):
        LinearModel().fill(image, weights, 0)
