"""The blending as a whole: inside and outside the brain of a head, and beside a dark lesion."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.blending.blend import (
    MODEL_ERROR,
    blend_into_scan,
    blend_matern,
    blend_poisson,
    follow,
    limit_range,
    shrink_detail,
    shrink_fluid,
)
from MedInpaintLib.blending.matern import matern_blend
from MedInpaintLib.blending.poisson import harmonic_fill, poisson_blend
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.alignment import Alignment
from MedInpaintLib.space.case import Case
from MedInpaintLib.space.intensities import Contrast
from MedInpaintLib.space.slices import Slices, Tissue
from scipy import ndimage
from synthetic import volume

SETTINGS = Settings()


def synthetic_case(extracted):
    """A head: a brain of 800 in one half, a skull of 500 in the other, and a hole across their border."""
    values = np.full((12, 14, 16), 500, np.float32)
    values[..., :8] = 800
    brain = values == 800
    hole = np.zeros(values.shape, bool)
    hole[3:9, 4:10, 4:12] = True
    alignment = Alignment(sitk.AffineTransform(3), brain, 1.0, extracted)
    nothing = np.zeros((0, 16, 16))
    slices = Slices(nothing, nothing, nothing, nothing, np.zeros(0, int), 1.0)
    return Case(volume(values), values, hole, None, alignment, slices)


@pytest.mark.parametrize("blending", ["3d", "2d"])
def test_beyond_the_brain_of_a_head_the_fill_continues_the_surroundings(blending):
    case = synthetic_case(extracted=False)
    generated = np.where(case.alignment.brain, 700.0, 0.0)  # outside the brain the model is black
    fill = blend_poisson(case, generated, blending)
    assert fill.min() >= 500 - 0.01
    assert fill.max() <= 800 + 0.01
    # In a brain-extracted scan, where the background is black, the same step stays.
    assert blend_poisson(synthetic_case(extracted=True), generated, blending).min() < 400


def test_beyond_the_brain_of_a_head_the_matern_fill_continues_the_surroundings_too():
    case = synthetic_case(extracted=False)
    generated = np.where(case.alignment.brain, 700.0, 0.0)
    fill = np.zeros(case.values.shape)
    fill[case.hole] = blend_matern(case, generated, np.ones(case.hole.shape, bool), noise=1.0)
    assert fill[case.hole].min() >= 500 - 0.01
    assert fill[case.hole].max() <= 800 + 5
    assert np.abs(fill[case.hole & case.alignment.brain] - 800).max() < 40  # the generated slices are 100 too dark


def lesioned_case(inside, rim):
    """A brain of 800 with a lesion of these values, and a rim of this value that the mask does not cover."""
    case = synthetic_case(extracted=True)
    near = ndimage.binary_dilation(case.hole) & ~case.hole
    case.values[:] = 800 + np.random.default_rng(0).normal(0, 5, case.hole.shape)
    case.values[near] = rim
    case.values[case.hole] = inside
    return dataclasses.replace(case, slices=dataclasses.replace(case.slices, scale=1000.0))


def test_the_dark_rim_of_a_tight_mask_does_not_darken_the_fill():
    generated, everywhere = np.full((12, 14, 16), 800.0), np.ones((12, 14, 16), bool)
    for inside in (0, 500, 900):  # the values in the hole do not matter
        case = lesioned_case(inside, 650)
        arguments = case, generated, Tissue(generated, generated / 1000, everywhere), SETTINGS
        tight, exact = (blend_into_scan(*arguments, tight=lesions)[0] for lesions in (case.hole, None))
        assert np.median(tight) > 750
        assert np.median(exact) < 730  # the rim counts as brain


def test_only_beside_the_tight_lesion_the_rim_does_not_count():
    """Two lesions with a dark rim, one of which is known to be tight."""
    case, generated = lesioned_case(500, 650), np.full((12, 14, 16), 800.0)
    here = case.hole.copy()
    here[:, :, 8:] = False
    gap = np.zeros_like(here)
    gap[:, :, 8] = case.hole[:, :, 8]
    case.values[gap] = 650
    case.hole[gap] = False
    there = case.hole & ~here
    assert here.any()
    assert there.any()
    arguments = case, generated, Tissue(generated, generated / 1000, np.ones(here.shape, bool)), SETTINGS
    none, one, both = (blend_into_scan(*arguments, tight=lesions)[0] for lesions in (None, here, case.hole))
    assert np.median(one[here[case.hole]]) > np.median(none[here[case.hole]]) + 30
    assert np.median(one[there[case.hole]]) < np.median(both[there[case.hole]]) - 30


def test_what_another_scan_shows_takes_the_place_of_the_source_and_the_rest_joins_it():
    case = lesioned_case(0, 800)
    source, shown = np.full(case.values.shape, 500.0), np.full(case.values.shape, np.nan)
    here = case.hole.copy()
    here[:, :, 8:] = False
    shown[here] = 800.0
    result = follow(source, shown, case, noise=5.0)
    assert (result[here] == 800).all()
    assert (result[~case.hole] == 500).all()
    beside = case.hole & ~here & ndimage.binary_dilation(here)
    assert beside.any()
    assert result[beside].mean() > 600
    everywhere = np.where(case.hole, 800.0, np.nan)
    np.testing.assert_array_equal(follow(source, everywhere, case, noise=5.0), np.where(case.hole, 800.0, 500.0))


def test_what_another_scan_shows_is_not_shrunk_to_the_smoothest_continuation():
    case = lesioned_case(0, 800)
    structure = np.where(np.arange(case.values.shape[2]) % 2, 900.0, 700.0) * np.ones(case.values.shape)
    generated, everywhere = np.full(case.values.shape, 800.0), np.ones(case.values.shape, bool)
    tissue = Tissue(generated, generated / 1000, everywhere)
    shown = np.where(case.hole, structure, np.nan)
    filled, _ = blend_into_scan(case, generated, tissue, SETTINGS, shown=shown)
    assert np.abs(filled - structure[case.hole]).mean() < 10


def test_a_continuation_does_not_leave_the_range_of_the_tissue_around():
    case = synthetic_case(extracted=True)
    case.alignment.brain[:] = True
    generated = np.full(case.values.shape, 700.0)
    wild = np.random.default_rng(0).normal(650, 500, np.count_nonzero(case.hole))
    limited = limit_range(case, generated, wild)
    assert limited.min() >= 500
    assert limited.max() <= 800
    inside = (wild > 700) & (wild < 800)
    np.testing.assert_array_equal(limited[inside], wild[inside])


def test_detail_below_the_error_goes_and_structure_stays():
    case = synthetic_case(extracted=True)
    smooth = harmonic_fill(case.values, case.hole, case.scan.GetSpacing()[::-1])
    faint = smooth + np.random.default_rng(0).normal(0, 2, smooth.shape)
    strong = smooth + np.where(np.arange(len(smooth)) % 2, 100.0, -100.0)
    np.testing.assert_allclose(shrink_detail(case, faint, smooth, noise=20.0), smooth)
    np.testing.assert_allclose(shrink_detail(case, strong, smooth, noise=20.0), strong, atol=3)
    fainter = smooth + (faint - smooth) * MODEL_ERROR * case.slices.scale / 10
    np.testing.assert_allclose(shrink_detail(case, fainter, smooth, noise=0.0), smooth)
    np.testing.assert_allclose(shrink_detail(case, strong, smooth, noise=0.0), strong, atol=3)


@pytest.mark.parametrize(("model", "kept"), [(-0.1, 0.0), (0.0, 0.0), (0.1, 0.5), (0.2, 1.0), (0.8, 1.0)])
def test_where_g_of_z_shows_fluid_the_fill_is_the_harmonic_one(model, kept):
    case = synthetic_case(extracted=True)
    smooth = np.full(np.count_nonzero(case.hole), 500.0)
    tissue = Tissue(case.values, np.full(case.hole.shape, model), case.hole)
    np.testing.assert_allclose(shrink_fluid(case, smooth + 100, smooth, tissue), 500 + 100 * kept)


@pytest.mark.parametrize(("straight", "tight", "used"), [(True, False, 0), (False, False, 1), (False, True, 0)])
def test_fluid_counts_less_only_in_curved_contrasts_with_an_exact_mask(straight, tight, used, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "MedInpaintLib.blending.blend.shrink_fluid", lambda case, filled, *others: calls.append(filled) or filled
    )
    case = lesioned_case(700, 800)
    contrast = dataclasses.replace(case.alignment.contrast, straight=straight)
    case = dataclasses.replace(case, alignment=dataclasses.replace(case.alignment, contrast=contrast))
    generated, everywhere = np.full(case.values.shape, 800.0), np.ones(case.values.shape, bool)
    blend_into_scan(
        case, generated, Tissue(generated, generated / 1000, everywhere), SETTINGS, case.hole if tight else None
    )
    assert len(calls) == used


def test_the_matern_fill_does_not_use_the_source_where_it_is_not_defined():
    """Above the searched slices, the source repeats the nearest slice, which may be wrong."""
    case = synthetic_case(extracted=True)
    generated = np.full(case.values.shape, 800.0)
    valid = np.ones(case.hole.shape, bool)
    valid[9:] = False
    wrong = np.where(valid, generated, 0)
    right, also = (blend_matern(case, source, valid, noise=1.0) for source in (generated, wrong))
    np.testing.assert_allclose(right, also, atol=1e-6)


def with_contrast(values, straight):
    """A brain of these values, in the contrast of T1 or in one that needs a curve."""
    case = synthetic_case(extracted=True)
    alignment = dataclasses.replace(case.alignment, contrast=Contrast(straight=straight))
    slices = dataclasses.replace(case.slices, scale=1000.0)
    return dataclasses.replace(case, values=values, alignment=alignment, slices=slices)


def correction(values, straight):
    """What the blending adds to generated tissue of 0 in the hole."""
    generated = np.zeros(values.shape)
    return blend_matern(with_contrast(values, straight), generated, np.ones(values.shape), noise=1.0)


@pytest.mark.parametrize("extracted", [True, False])
def test_in_t1_all_of_the_difference_but_the_scans_noise_is_continued(extracted):
    case = synthetic_case(extracted)
    case.alignment.brain[:] = True
    values = np.random.default_rng(2).normal(0, 100, case.values.shape).astype(np.float32)
    case = dataclasses.replace(case, values=values)
    source, trust = np.zeros(values.shape), np.ones(values.shape)
    expected = matern_blend(values, source, case.hole, case.scan.GetSpacing()[::-1], trust, case.slices.scale, 1.0)
    blended = blend_matern(case, source, trust, noise=1.0)
    np.testing.assert_array_equal(blended.astype(np.float32), expected.astype(np.float32))  # of a head they are float32


def test_detail_that_a_contrast_curve_misses_is_not_carried_into_the_hole_and_an_offset_is():
    shape = synthetic_case(extracted=True).values.shape
    detail = np.random.default_rng(3).normal(0, 100, shape).astype(np.float32)
    curved, straight = (np.std(correction(detail, kind)) for kind in (False, True))
    assert curved < 0.7 * straight
    offset = np.full(shape, 100, np.float32)
    assert correction(offset, straight=False).max() > 80


def test_in_the_brain_of_a_head_the_fill_keeps_the_generated_detail():
    case = synthetic_case(extracted=False)
    detail = 100 * np.random.default_rng(0).random(case.values.shape)
    fill = np.zeros_like(detail)
    fill[case.hole] = blend_poisson(case, np.where(case.alignment.brain, 700 + detail, 0), "3d")
    deep = ndimage.binary_erosion(case.hole & case.alignment.brain)

    def laplacian(array):
        axes = enumerate(case.scan.GetSpacing()[::-1])
        return sum((np.roll(array, 1, i) + np.roll(array, -1, i) - 2 * array) / side**2 for i, side in axes)[deep]

    np.testing.assert_allclose(laplacian(fill), laplacian(detail), atol=0.1)  # of some 100


def test_pasting_takes_the_generated_values_as_they_are():
    case = synthetic_case(extracted=True)
    generated = np.random.default_rng(0).random(case.values.shape)
    np.testing.assert_array_equal(blend_poisson(case, generated, "none"), generated[case.hole])


@pytest.mark.parametrize("blending", ["3d", "2d"])
def test_the_fill_is_that_of_the_whole_volume_though_only_its_box_is_solved(blending):
    case = synthetic_case(extracted=True)
    generated = np.random.default_rng(1).random(case.values.shape)
    expected = poisson_blend(
        case.values, generated, case.hole, case.scan.GetSpacing()[::-1], slicewise=blending == "2d"
    )
    np.testing.assert_allclose(blend_poisson(case, generated, blending), expected, rtol=1e-4)
