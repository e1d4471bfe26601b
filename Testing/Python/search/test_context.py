"""The context weights against closed forms and a count by hand, and the balance of several scans."""

import numpy as np
import pytest
import torch
from MedInpaintLib.search.context import ScanLoss, balance, context_weights
from MedInpaintLib.space.intensities import LEVELS
from MedInpaintLib.space.slices import Slices


def counted(hole, known, window, floor):
    weights = np.zeros(hole.shape)
    reach = window // 2
    for n, i, j in np.argwhere(known):
        around = hole[max(n - reach, 0) : n + reach + 1, max(i - reach, 0) : i + reach + 1]
        weights[n, i, j] = around[:, :, max(j - reach, 0) : j + reach + 1].sum() / window**3 + floor
    return weights


def of_stack(hole, known, window=7, **named):
    return context_weights(hole, known, np.arange(len(hole)), window, **named)


def test_a_single_pixel_weighs_its_window_and_leaves_the_rest_at_exactly_the_floor():
    hole = np.zeros((21, 21, 21), dtype=bool)
    hole[10, 10, 10] = True
    weights = of_stack(hole, ~hole, window=7, floor=0.05)
    expected = np.full(hole.shape, 0.05)
    expected[7:14, 7:14, 7:14] += 1 / 343
    expected[10, 10, 10] = 0
    np.testing.assert_array_equal(weights, expected.astype(np.float32))
    assert weights.dtype == np.float32


def test_far_from_the_hole_no_round_off_is_left():
    hole = np.zeros((3, 200, 200), dtype=bool)
    hole[:, :40, :40] = np.random.default_rng(0).random((3, 40, 40)) < 0.5
    weights = of_stack(hole, ~hole, window=25, floor=0.0)
    assert (weights[:, 52:] == 0).all()
    assert (weights[:, :, 52:] == 0).all()


@pytest.mark.parametrize(("window", "shape"), [(3, (5, 17, 12)), (25, (2, 40, 33)), (25, (2, 9, 14))])
def test_the_weight_is_the_share_of_hole_pixels_in_the_window(window, shape):
    rng = np.random.default_rng(1)
    hole = rng.random(shape) < 0.3
    known = ~hole & (rng.random(shape) < 0.8)
    weights = of_stack(hole, known, window, floor=0.02)
    np.testing.assert_allclose(weights, counted(hole, known, window, 0.02), rtol=1e-6)


def test_a_slice_weighs_by_its_distance_along_the_height():
    hole = np.zeros((3, 15, 15), dtype=bool)
    hole[1, 7, 7] = True
    heights = np.array([10, 12, 15])  # two slices below, three above the hole's
    weights = context_weights(hole, ~hole, heights, window=5, floor=0.02)
    assert weights[0, 7, 7] == pytest.approx(0.02 + 1 / 125)
    np.testing.assert_array_equal(weights[2], np.float32(0.02))


def test_a_slice_on_its_own_is_weighed_as_in_the_paper():
    hole = np.zeros((1, 15, 15), dtype=bool)
    hole[0, 5:8, 5:8] = True
    weights = of_stack(hole, ~hole, window=7, floor=0.0)
    assert weights[0, 6, 4] == pytest.approx(9 / 49)
    assert weights[0, 6, 2] == pytest.approx(3 / 49)


def test_hole_and_unusable_pixels_weigh_nothing():
    hole = np.zeros((1, 15, 15), dtype=bool)
    hole[0, 5:8, 5:8] = True
    known = ~hole
    known[0, :, 9:] = False
    weights = of_stack(hole, known)
    assert (weights[~known] == 0).all()
    assert (weights[known] > 0).all()


def test_without_weighting_every_known_pixel_counts_one():
    rng = np.random.default_rng(2)
    hole = rng.random((2, 10, 10)) < 0.3
    known = ~hole & (rng.random(hole.shape) < 0.8)
    weights = of_stack(hole, known, weighting=False)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, known)


def scan_of(image):
    """The loss of a T1-weighted scan with these slices (n, h, w) and a hole of one pixel."""
    hole = np.zeros(image.shape, bool)
    hole[0, 3, 4] = True
    slices = Slices(image.astype(np.float32), hole, hole, ~hole, np.arange(len(image)), 1.0)
    return ScanLoss(slices, of_stack(hole, ~hole), LEVELS, torch.device("cpu"))


def test_scans_count_in_units_of_their_distance_from_the_mean_brain():
    random = np.random.default_rng(0)
    mean = random.uniform(0.2, 0.8, (2, 9, 9))
    near, far = mean + 0.05, mean + random.choice([-0.2, 0.2], mean.shape)
    scans = [scan_of(near), scan_of(far)]
    before = [scan.weight.clone() for scan in scans]
    balance(scans, torch.tensor(mean, dtype=torch.float32)[:, None])
    torch.testing.assert_close(scans[0].weight, before[0])
    torch.testing.assert_close(scans[1].weight, before[1] / 4)


def test_a_scan_that_knows_nothing_does_not_disturb_the_others():
    mean = torch.full((1, 1, 9, 9), 0.5)
    scans = [scan_of(np.full((1, 9, 9), 0.6)), scan_of(np.full((1, 9, 9), 0.7))]
    scans[1].weight.zero_()
    balance(scans, mean)
    assert all(scan.weight.isfinite().all() for scan in scans)
