"""Measurements against closed forms, against scikit-image, and in the direction they must move."""

import json

import numpy as np
import pytest
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation.measures.quality import mae, measure, noise, sharpness, ssim
from MedInpaintLib.report.measures import brain_range, psnr, seam
from scipy import ndimage

SPACING = (1.5, 1.0, 0.8)


@pytest.fixture(scope="module")
def truth():
    """Smooth tissue with some texture, (24, 30, 28), about 100."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal((24, 30, 28)), 3)
    fine = ndimage.gaussian_filter(rng.standard_normal((24, 30, 28)), 1)
    return 100 + 20 * smooth / smooth.std() + 5 * fine / fine.std()


@pytest.fixture
def hole():
    mask = np.zeros((24, 30, 28), dtype=bool)
    mask[9:15, 10:19, 11:18] = True
    return mask


def filled(truth, hole, values):
    fill = truth.copy()
    fill[hole] = np.broadcast_to(values, truth.shape)[hole]
    return fill


def test_a_perfect_fill_has_perfect_measurements(truth, hole):
    values = measure(truth, truth.copy(), hole, np.ones_like(hole), SPACING)
    assert set(values) == {"psnr", "ssim", "mae", "sharpness", "noise", "seam"}
    assert values["psnr"] == np.inf
    assert values["ssim"] == pytest.approx(1)
    assert values["mae"] == 0
    assert values["sharpness"] == 1
    assert values["seam"] == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("share", "decibels"), [(1.0, 0.0), (0.1, 20.0), (0.01, 40.0)])
def test_psnr_and_mae_of_a_constant_offset_have_closed_forms(truth, hole, share, decibels):
    fill = filled(truth, hole, truth + share * 150)
    assert psnr(truth, fill, hole, 150) == pytest.approx(decibels, abs=1e-9)
    assert mae(truth, fill, hole, 150) == pytest.approx(share)


def test_psnr_and_mae_differ_when_the_error_is_uneven(truth, hole):
    error = np.where(np.arange(28) % 2, 30.0, 0.0)
    fill = filled(truth, hole, truth + error)
    share = (error * hole)[hole].astype(bool).mean()
    assert psnr(truth, fill, hole, 100) == pytest.approx(-10 * np.log10(share * 0.09))
    assert mae(truth, fill, hole, 100) == pytest.approx(share * 0.3)


def test_only_the_hole_counts_for_psnr_and_mae(truth, hole):
    fill = np.where(hole, truth, 0)
    assert psnr(truth, fill, hole, 100) == np.inf
    assert mae(truth, fill, hole, 100) == 0


def test_unsigned_integers_do_not_wrap_around(hole):
    truth, fill = np.full(hole.shape, 20, np.uint8), np.full(hole.shape, 10, np.uint8)
    assert mae(truth, fill, hole, 100) == pytest.approx(0.1)
    assert psnr(truth, fill, hole, 100) == pytest.approx(20)


def test_full_scale_is_the_brains_99_5th_percentile():
    scan = np.full((10, 10, 10), 5000.0)
    brain = np.zeros(scan.shape, dtype=bool)
    brain[:2] = True
    scan[brain] = np.linspace(0, 200, 200)
    assert brain_range(scan, brain) == pytest.approx(199)
    with pytest.raises(InputError, match="positive"):
        brain_range(np.zeros_like(scan), brain)


@pytest.mark.parametrize("corner", [(9, 10, 11), (0, 0, 0), (18, 21, 21), (1, 10, 20)])
def test_ssim_is_scikit_images_on_the_whole_volume_averaged_over_the_hole(truth, corner):
    from skimage.metrics import structural_similarity

    hole = np.zeros(truth.shape, dtype=bool)
    hole[tuple(slice(c, c + n) for c, n in zip(corner, (6, 9, 7), strict=True))] = True
    fill = filled(truth, hole, ndimage.gaussian_filter(truth, 2) + 10)
    _, similarity = structural_similarity(
        truth, fill, data_range=150, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert ssim(truth, fill, hole, 150) == pytest.approx(similarity[hole].mean(), rel=1e-9)


def test_ssim_of_flat_images_has_a_closed_form():
    truth, fill = np.full((12, 12, 12), 100.0), np.full((12, 12, 12), 50.0)
    c1 = (0.01 * 200) ** 2
    expected = (2 * 100 * 50 + c1) / (100**2 + 50**2 + c1)
    assert ssim(truth, fill, truth > 0, 200) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(1, 20, 20), (3, 4, 40), (2, 2, 2)])
def test_volumes_thinner_than_the_window_are_measured(shape):
    rng = np.random.default_rng(1)
    truth, hole = rng.uniform(50, 100, shape), np.zeros(shape, dtype=bool)
    hole[0, 1:3, 1:3] = True
    fill = filled(truth, hole, truth[::-1, ::-1, ::-1])
    assert ssim(truth, truth, hole, 100) == pytest.approx(1)
    assert -1 < ssim(truth, fill, hole, 100) < 0.95
    assert sharpness(truth, fill, hole, SPACING) > 0


def test_a_single_slice_is_measured_by_two_dimensional_ssim(truth):
    from skimage.metrics import structural_similarity

    flat, hole = truth[:1], np.zeros((1, 30, 28), dtype=bool)
    hole[0, 10:18, 9:20] = True
    fill = filled(flat, hole, flat + 12)
    _, similarity = structural_similarity(
        flat[0], fill[0], data_range=150, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert ssim(flat, fill, hole, 150) == pytest.approx(similarity[hole[0]].mean())


def test_sharpness_of_a_ramp_is_the_ratio_of_slopes_whatever_the_spacing(hole):
    z, y, x = np.indices(hole.shape)
    steep = 2.0 * z * SPACING[0] + 3.0 * y * SPACING[1] + 6.0 * x * SPACING[2]  # 7 a mm
    gentle = 3.5 * x * SPACING[2]
    assert sharpness(steep, gentle, hole, SPACING) == pytest.approx(0.5)
    assert sharpness(gentle, steep, hole, SPACING) == pytest.approx(2)


def test_blurring_lowers_sharpness_and_noise_raises_it(truth, hole):
    ratios = [
        sharpness(truth, filled(truth, hole, values), hole, SPACING)
        for values in (ndimage.gaussian_filter(truth, 2), ndimage.gaussian_filter(truth, 1), truth)
    ]
    assert ratios[0] < ratios[1] < 0.95 < ratios[2]
    noise = np.random.default_rng(2).normal(0, 20, truth.shape)
    assert sharpness(truth, filled(truth, hole, truth + noise), hole, SPACING) > 1.5


def test_sharpness_of_flat_truth_is_one_for_a_flat_fill_and_else_infinite(truth, hole):
    flat = np.full_like(truth, 3.0)
    assert sharpness(flat, flat, hole, SPACING) == 1
    assert sharpness(flat, filled(flat, hole, truth), hole, SPACING) == np.inf


def test_noise_is_the_ratio_of_the_noises_whatever_lies_below_them():
    random = np.random.default_rng(1)
    shape = (20, 30, 28)
    ramp = np.indices(shape).sum(axis=0)
    hole = np.zeros(shape, bool)
    hole[3:17, 4:26, 4:24] = True
    quiet, loud = (ramp + random.normal(0, level, shape) for level in (2.0, 3.0))
    assert noise(quiet, np.where(hole, loud, quiet), hole) == pytest.approx(1.5, rel=0.05)
    assert noise(quiet, np.where(hole, 2.0 * ramp, quiet), hole) < 0.2
    single = np.s_[10:11]
    assert noise(quiet[single], loud[single], hole[single]) == pytest.approx(1.5, rel=0.15)


def test_a_ramp_has_no_seam_and_an_offset_raises_it_as_far_as_it_jumps(hole):
    ramp = np.indices(hole.shape)[2] * 4.0
    assert seam(ramp, hole, (1, 1, 1)) == pytest.approx(1)
    every_axis = np.indices(hole.shape).sum(axis=0) * 1.0
    lifted = np.where(hole, every_axis + 1000, every_axis)
    assert seam(lifted, hole, (1, 1, 1)) == pytest.approx(1000)  # 999 on one side, 1001 on the other


def test_the_jumps_of_a_seam_are_per_millimetre():
    spacing = (5, 1, 1)
    z, y, x = np.indices((20, 20, 20))
    slope = 5.0 * z + y + x  # 1 a mm along every axis
    cube = (np.indices(slope.shape) // 6 == 1).all(axis=0)
    lifted = np.where(cube, slope + 1000, slope)
    assert seam(lifted, cube, spacing) == pytest.approx((1000 / 5 + 1000 + 1000) / 3)


def test_the_seam_grows_with_the_offset_of_the_fill(truth, hole):
    seams = [seam(filled(truth, hole, truth + offset), hole, SPACING) for offset in (0, 10, 20, 40)]
    assert seams == sorted(seams)
    assert seams[1] > 1.2 * seams[0]
    assert seams[3] > 3


def test_thick_slices_and_flat_holes_are_no_seam():
    shape = (9, 20, 20)
    volume = 30.0 * np.indices(shape)[0] + np.indices(shape)[1:].sum(axis=0)
    hole = np.zeros(shape, dtype=bool)
    hole[4, 5:15, 5:15] = True
    assert seam(volume, hole, (1, 1, 1)) == pytest.approx(1)
    assert seam(volume, hole, (5, 1, 1)) == pytest.approx(1)


def test_the_brains_own_edge_is_no_seam_when_the_brain_is_given(truth, hole):
    brain = np.zeros_like(hole)
    brain[:, :, :18] = True  # ends where the hole ends
    scan = np.where(brain, truth, 0)
    assert seam(scan, hole, SPACING) > 2
    assert seam(scan, hole, SPACING, brain) == pytest.approx(1, abs=0.2)


def test_a_hole_without_known_neighbours_has_no_seam_to_measure(truth):
    assert np.isnan(seam(truth, np.ones(truth.shape, dtype=bool), SPACING))


def test_what_lies_far_from_the_hole_changes_nothing(truth, hole):
    fill = filled(truth, hole, ndimage.gaussian_filter(truth, 1))
    far = ~ndimage.binary_dilation(hole, np.ones((3, 3, 3)), iterations=6)
    other_truth, other_fill = np.where(far, 0, truth), np.where(far, 0, fill)
    brain = ~far
    assert measure(truth, fill, hole, brain, SPACING) == measure(other_truth, other_fill, hole, brain, SPACING)


def test_measurements_are_plain_numbers_that_json_takes(truth, hole):
    fill = filled(truth.astype(np.float32), hole, 90)
    values = measure(truth.astype(np.float32), fill, hole, np.ones_like(hole), SPACING)
    assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize("function", [psnr, ssim, mae])
def test_an_empty_hole_and_mismatched_grids_are_refused(truth, hole, function):
    with pytest.raises(InputError, match="empty"):
        function(truth, truth, np.zeros_like(hole), 100)
    with pytest.raises(InputError, match="boolean"):
        function(truth, truth, hole.astype(np.uint8), 100)
    with pytest.raises(InputError, match="grid"):
        function(truth, truth[1:], hole, 100)
