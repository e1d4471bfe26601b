"""The contrast of a scan: its curve, its name, and how much it explains."""

import numpy as np
import pytest
from MedInpaintLib.space.intensities import LEVELS, contrast_name, gain_between, lesions_are_bright, measure_contrast

AVERAGE = np.random.default_rng(0).uniform(0.2, 0.9, 20000)
CURVES = {  # scan intensity at model intensity 0.2 (fluid), 0.5 (grey matter), 0.85 (white matter)
    "T1": (100, 250, 420),
    "FLAIR": (60, 320, 240),
    "T2": (900, 400, 280),
    "other": (400, 250, 300),
}


def scan_of(name, noise=0.03, seed=1):
    """A scan with this contrast and this noise, relative to its range."""
    clean = np.interp(AVERAGE, (0.2, 0.5, 0.85), CURVES[name])
    return clean + noise * np.ptp(CURVES[name]) * np.random.default_rng(seed).standard_normal(len(AVERAGE))


def contrast_of(scan):
    return measure_contrast(AVERAGE, scan, np.ones(len(scan)))


@pytest.mark.parametrize("name", CURVES)
def test_a_contrast_is_recognised_and_its_curve_is_found(name):
    found = contrast_of(scan_of(name))
    assert contrast_name(found.values) == name
    assert found.explained > 0.9
    assert found.straight is (name == "T1")
    assert lesions_are_bright(found.values) is (name in ("FLAIR", "T2"))
    shown = (LEVELS > 0.25) & (LEVELS < 0.85)
    expected = np.interp(LEVELS[shown], (0.2, 0.5, 0.85), CURVES[name])
    assert np.abs(found.values[shown] - expected).max() < 0.1 * np.ptp(CURVES[name])


def test_a_flair_whose_white_matter_is_a_little_brighter_stays_a_flair_with_bright_lesions():
    for white, name in ((1350, "FLAIR"), (1400, "FLAIR"), (1700, "T1")):
        curve = np.interp(LEVELS, (0.2, 0.5, 0.8), (500, 1340, white))
        assert (contrast_name(curve), lesions_are_bright(curve)) == (name, name == "FLAIR")


def test_two_scans_of_one_contrast_differ_by_a_gain_and_other_contrasts_have_none():
    curves = {name: np.interp(LEVELS, (0.2, 0.5, 0.85), values) for name, values in CURVES.items()}
    for curve in curves.values():
        assert gain_between(curve, 3 * curve + 50) == pytest.approx(3)
    for one, other in (("T1", "FLAIR"), ("FLAIR", "T1"), ("T1", "T2"), ("T2", "FLAIR"), ("FLAIR", "other")):
        assert gain_between(curves[one], curves[other]) is None
    assert gain_between(LEVELS, np.ones(len(LEVELS))) is None
    assert gain_between(np.ones(len(LEVELS)), LEVELS) is None


def test_lesions_that_the_mask_leaves_out_hardly_change_the_curve():
    scan = scan_of("FLAIR")
    clean = contrast_of(scan)
    scan[np.random.default_rng(2).random(len(scan)) < 0.1] = 600
    found = contrast_of(scan)
    assert contrast_name(found.values) == "FLAIR"
    shown = (LEVELS > 0.25) & (LEVELS < 0.85)
    assert np.abs(found.values - clean.values)[shown].max() < 0.05 * np.ptp(CURVES["FLAIR"])


def test_levels_that_the_brain_does_not_have_take_the_value_of_the_nearest():
    """So the ventricles, which the average brain blurs, are bright in T2 and not dark."""
    found = contrast_of(scan_of("T2")).values
    assert found[0] == pytest.approx(found[2], rel=0.05)
    assert found[-1] == pytest.approx(found[9], rel=0.05)


def test_noise_explains_nothing():
    assert contrast_of(np.random.default_rng(3).uniform(0, 1000, len(AVERAGE))).explained < 0.01
    assert contrast_of(np.full(len(AVERAGE), 7.0)).explained == 0


def test_the_unit_of_the_scan_does_not_matter():
    scan = scan_of("T2")
    small, large = contrast_of(scan), contrast_of(1e6 * scan)
    assert small.straight == large.straight
    assert small.explained == pytest.approx(large.explained)
    np.testing.assert_allclose(large.values, 1e6 * small.values, rtol=1e-6)
