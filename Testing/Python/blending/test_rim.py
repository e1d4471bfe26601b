"""A tight mask leaves a dark rim in white matter, or a bright one; an exact mask does not."""

import numpy as np
import pytest
from MedInpaintLib.blending.rim import find_rim, rim_voxels, rim_zone
from MedInpaintLib.space.case import Case
from MedInpaintLib.space.slices import Slices, Tissue
from scipy.ndimage import distance_transform_edt
from synthetic import volume

SHAPE, SPACING, SCALE = (30, 31, 32), (1.0, 1.0, 1.0), 400.0
WHITE = 0.75 * SCALE
DISTANCE = distance_transform_edt(
    np.linalg.norm(np.indices(SHAPE) - np.reshape([15, 15, 16], (3, 1, 1, 1)), axis=0) > 5
)
HOLE = DISTANCE == 0
GENERATED = np.full(SHAPE, WHITE, np.float32)
TISSUE = GENERATED / SCALE
EVERYWHERE = np.ones(SHAPE, bool)


class Aligned:
    brain = EVERYWHERE


def case_of(values, hole=HOLE):
    nothing = np.zeros((1, 1, 1))
    slices = Slices(nothing, nothing > 0, nothing > 0, nothing > 0, np.array([0]), SCALE)
    values = np.asarray(values, np.float32)
    case = Case(volume(values, spacing=SPACING), values, hole, None, Aligned, slices)
    object.__setattr__(case, "crop", lambda box: case)
    return case


def scan(rim=0.0, width=0.0, noise=0.02, seed=0):
    """White matter with noise, darker by `rim` of the model's intensity within `width` mm of the hole."""
    dark = rim * (width >= DISTANCE)
    return WHITE * np.ones(SHAPE) + SCALE * (noise * np.random.default_rng(seed).standard_normal(SHAPE) - dark)


@pytest.fixture(autouse=True)
def whole_volume(monkeypatch):
    """The case is small: it need not be cropped."""
    monkeypatch.setattr("MedInpaintLib.blending.rim.bounding_box", lambda mask, margin: (slice(None),) * 3)
    monkeypatch.setattr(Case, "crop", lambda self, box: self)


@pytest.mark.parametrize("seed", range(5))
def test_a_mask_without_a_dark_rim_is_not_tight(seed):
    rim = find_rim(case_of(scan(seed=seed)), Tissue(GENERATED, TISSUE, EVERYWHERE))
    assert not rim.tight
    assert abs(rim.deficit) < 0.01


@pytest.mark.parametrize("width", [1.0, 2.0])
def test_a_dark_rim_is_found_with_its_width(width):
    rim = find_rim(case_of(scan(rim=0.05, width=width)), Tissue(GENERATED, TISSUE, EVERYWHERE))
    assert rim.tight
    assert rim.deficit == pytest.approx(0.05, abs=0.01)
    assert rim.width == width


def test_a_small_deficit_that_reaches_far_is_an_error_of_the_model():
    assert find_rim(case_of(scan(rim=0.03, width=1)), Tissue(GENERATED, TISSUE, EVERYWHERE)).width == 1
    far = find_rim(case_of(scan(rim=0.03, width=2)), Tissue(GENERATED, TISSUE, EVERYWHERE))
    assert far.deficit == pytest.approx(0.03, abs=0.01)
    assert not far.tight
    bright = case_of(scan(rim=-0.1, width=2))
    assert not find_rim(bright, Tissue(GENERATED, TISSUE, EVERYWHERE, bright=True)).tight


def test_a_bright_rim_is_no_dark_one():
    assert not find_rim(case_of(scan(rim=-0.05, width=1)), Tissue(GENERATED, TISSUE, EVERYWHERE)).tight


def test_where_lesions_are_bright_a_bright_rim_counts_and_a_dark_one_does_not():
    bright, dark = (case_of(scan(rim=rim, width=1, noise=0.02)) for rim in (-0.1, 0.1))
    rim = find_rim(bright, Tissue(GENERATED, TISSUE, EVERYWHERE, bright=True))
    assert rim.tight
    assert rim.deficit == pytest.approx(0.1, abs=0.01)
    assert not find_rim(dark, Tissue(GENERATED, TISSUE, EVERYWHERE, bright=True)).tight
    found = rim_voxels(case_of(scan(rim=-0.2, width=1, noise=0)), GENERATED, HOLE, bright=True)
    np.testing.assert_array_equal(found, (DISTANCE > 0) & (DISTANCE <= 1))


def test_where_lesions_are_bright_a_faint_rim_is_an_error_of_the_curve():
    faint = case_of(scan(rim=-0.045, width=1, noise=0.02))
    assert not find_rim(faint, Tissue(GENERATED, TISSUE, EVERYWHERE, bright=True)).tight


def test_a_deficit_within_its_error_is_not_believed():
    rim = find_rim(case_of(scan(rim=0.02, width=1, noise=0.3)), Tissue(GENERATED, TISSUE, EVERYWHERE))
    assert rim.error > 0.02
    assert not rim.tight


SMALL = distance_transform_edt(np.linalg.norm(np.indices(SHAPE) - np.reshape([4, 4, 26], (3, 1, 1, 1)), axis=0) > 2)
SEVERAL = HOLE | (SMALL == 0)


def find_rim_of_several(rim, width=1.0, noise=0.02, bright=False):
    """A large exact lesion and a small one with a rim."""
    values = WHITE + SCALE * noise * np.random.default_rng(0).standard_normal(SHAPE)
    values[(SMALL > 0) & (width >= SMALL)] -= rim * SCALE
    return find_rim(case_of(values, SEVERAL), Tissue(GENERATED, TISSUE, EVERYWHERE, bright))


def test_a_tight_lesion_among_exact_ones_is_found_by_itself():
    rim = find_rim_of_several(0.3)
    assert rim.tight
    assert rim.lesions == 1
    assert rim.width == 1
    assert rim.deficit == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(rim.where, SMALL == 0)


def test_if_the_lesions_together_are_tight_all_of_them_are():
    rim = find_rim(case_of(scan(rim=0.2, width=1), SEVERAL), Tissue(GENERATED, TISSUE, EVERYWHERE))
    assert rim.tight
    assert rim.lesions is None
    np.testing.assert_array_equal(rim.where, SEVERAL)


@pytest.mark.parametrize(("rim", "noise"), [(0.0, 0.02), (0.05, 0.02), (0.2, 0.5), (-0.3, 0.02)])
def test_a_single_lesion_needs_a_clear_rim(rim, noise):
    found = find_rim_of_several(rim, noise=noise)
    assert not found.tight
    assert found.where is None


def test_a_wide_rim_of_a_single_lesion_is_dark_tissue_beside_it():
    assert find_rim_of_several(0.3, width=1).tight
    assert not find_rim_of_several(0.3, width=2).tight


def test_where_lesions_are_bright_they_are_not_judged_one_by_one():
    assert not find_rim_of_several(-0.5, bright=True).tight


def test_the_zone_of_a_tight_lesion_is_beside_it_alone():
    zone = rim_zone(case_of(scan(), SEVERAL), SMALL == 0, 1.0)
    assert not zone[SEVERAL].any()
    assert zone[(SMALL > 0) & (SMALL <= 1)].all()
    assert not zone[SMALL > 2].any()


def test_a_scan_that_is_darker_than_the_model_everywhere_has_no_rim():
    assert not find_rim(case_of(scan() - 0.1 * SCALE), Tissue(GENERATED, TISSUE, EVERYWHERE)).tight


def test_the_values_inside_the_hole_do_not_matter():
    values = scan(rim=0.05, width=1)
    other = np.where(HOLE, -1e4, values)
    assert find_rim(case_of(values), Tissue(GENERATED, TISSUE, EVERYWHERE)) == find_rim(
        case_of(other), Tissue(GENERATED, TISSUE, EVERYWHERE)
    )


def test_without_white_matter_beside_the_mask_nothing_is_decided():
    rim = find_rim(case_of(scan(rim=0.05, width=1)), Tissue(GENERATED, TISSUE / 2, EVERYWHERE))
    assert (rim.deficit, rim.error, rim.tight) == (None, None, False)
    assert not find_rim(case_of(scan(rim=0.05, width=1)), Tissue(GENERATED, TISSUE, ~EVERYWHERE)).tight


def test_the_rim_consists_of_dark_known_voxels_close_to_the_mask():
    found = rim_voxels(case_of(scan(rim=0.2, width=1, noise=0)), GENERATED, HOLE)
    np.testing.assert_array_equal(found, (DISTANCE > 0) & (DISTANCE <= 1))
