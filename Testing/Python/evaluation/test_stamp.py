"""What is stamped into a hole, and the masks that are drawn for it."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation.holes.cases import check_kinds, cut_hole, draw_hole, split_kind, variant_of
from MedInpaintLib.evaluation.holes.shapes import ball_in
from MedInpaintLib.evaluation.holes.stamp import DARKNESS, stamp_lesion
from MedInpaintLib.report.measures import brain_range
from MedInpaintLib.volumes.image import scan_values, spacing_zyx
from scipy import ndimage


def voxels(image):
    return sitk.GetArrayFromImage(image).astype(float)


@pytest.fixture(scope="module")
def stamped(subject, hole):
    return stamp_lesion(subject.scan, subject.brain, hole.lesion, np.random.default_rng(0))


def test_a_lesion_is_dark_and_nothing_outside_of_it_changes(subject, hole, stamped):
    before, after = voxels(subject.scan), voxels(stamped)
    np.testing.assert_array_equal(after[~hole.lesion], before[~hole.lesion])
    assert (after[hole.lesion] <= before[hole.lesion]).all()
    deep = ndimage.binary_erosion(hole.lesion, iterations=1)
    assert np.median(after[deep]) == pytest.approx(DARKNESS * brain_range(before, subject.brain), rel=0.15)
    assert after[deep].std() > 0


def test_a_bright_lesion_is_bright_and_nothing_outside_of_it_changes(subject, hole):
    before = voxels(subject.scan)
    bright = stamp_lesion(subject.scan, subject.brain, hole.lesion, np.random.default_rng(0), bright=True)
    after = voxels(bright)
    np.testing.assert_array_equal(after[~hole.lesion], before[~hole.lesion])
    assert (after[hole.lesion] >= before[hole.lesion]).all()
    deep = ndimage.binary_erosion(hole.lesion, iterations=1)
    assert np.median(after[deep]) > 0.8 * brain_range(before, subject.brain)


def test_lesion_and_tissue_mix_at_the_border(subject, hole):
    """At a finer grid, where the outermost voxels hold only a part of the lesion."""
    fine = sitk.Resample(subject.scan, [n * 4 for n in subject.scan.GetSize()], sitk.Transform(), sitk.sitkLinear,
                         subject.scan.GetOrigin(), [s / 4 for s in subject.scan.GetSpacing()],
                         subject.scan.GetDirection())  # fmt: skip
    z, y, x = np.indices(fine.GetSize()[::-1])
    centre = [n / 2 for n in fine.GetSize()[::-1]]
    lesion = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= 36
    values = scan_values(fine, lesion)
    after = voxels(stamp_lesion(fine, values > 0, lesion, np.random.default_rng(0)))
    border = lesion & ~ndimage.binary_erosion(lesion)
    deep = ndimage.binary_erosion(lesion, iterations=3)
    lost = values - after
    assert 0.1 * np.median(lost[deep]) < np.median(lost[border]) < 0.8 * np.median(lost[deep])


def test_the_variants_of_a_kind_have_one_lesion_and_their_own_masks(subject):
    exact, tight, generous, zero = (
        draw_hole(f"ellipsoid14{variant}", 0, subject, {}, subject.brain, seed=0)
        for variant in ("", "-tight", "-generous", "-zero")
    )
    for other in (tight, generous, zero):
        np.testing.assert_array_equal(other.lesion, exact.lesion)
    np.testing.assert_array_equal(exact.voxels, exact.lesion)
    np.testing.assert_array_equal(zero.voxels, exact.lesion)
    np.testing.assert_array_equal(tight.voxels, ndimage.binary_erosion(exact.lesion))
    assert (generous.voxels >= exact.lesion).all()


def test_the_case_of_a_tight_mask_shows_the_lesions_rim_and_hides_what_was_there(data, subject):
    hole = draw_hole("ellipsoid14-tight", 0, subject, {}, subject.brain, seed=0)
    case = cut_hole(subject, hole, data.template, seed=0)
    rim = hole.lesion & ~hole.voxels
    before, after = voxels(subject.scan), voxels(case.scan)
    assert (after[rim] < before[rim]).mean() > 0.9
    np.testing.assert_array_equal(after[~hole.lesion], before[~hole.lesion])
    np.testing.assert_array_equal(case.hole, hole.voxels)
    empty = cut_hole(subject, replace(hole, kind="ellipsoid14-zero", voxels=hole.lesion), data.template, seed=0)
    assert (voxels(empty.scan)[hole.lesion] == 0).all()


def test_a_ball_lies_in_the_region_and_depends_on_the_generator_alone(subject):
    spacing = spacing_zyx(subject.scan)
    region = ndimage.binary_erosion(subject.brain, iterations=2)
    one, again, other = (ball_in(region, spacing, 10.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert region[one].mean() > 0.95
    assert one.sum() * spacing.prod() == pytest.approx(4 / 3 * np.pi * 1000, rel=0.25)
    with pytest.raises(InputError, match="region for balls is empty"):
        ball_in(np.zeros_like(region), spacing, 10.0, np.random.default_rng(0))


def test_kinds_are_a_shape_a_size_and_a_variant():
    assert split_kind("ellipsoid12-tight") == ("ellipsoid", 12)
    assert (variant_of("lesions-generous"), variant_of("ball7")) == ("generous", "")
    check_kinds(["lesions", "stroke-tight", "ball7-zero", "ellipsoid4", "square25"])
    for wrong in ("lesions7", "ball", "ellipsoid0", "square25-tight", "lesions-small", "cube4"):
        with pytest.raises(InputError, match="There is no hole"):
            check_kinds([wrong])
