"""From a scan to slices and back, on a synthetic brain in a known place."""

from copy import copy
from dataclasses import replace
from functools import cached_property

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.errors import InputError
from MedInpaintLib.space.alignment import Alignment
from MedInpaintLib.space.intensities import WHITE_MATTER, intensity_floor, intensity_scale
from MedInpaintLib.space.resampling import resample_mask
from MedInpaintLib.space.slices import NEIGHBOURS, cut_slices, slices_on_scan, to_model_grid, to_scan
from MedInpaintLib.space.template import Template
from MedInpaintLib.volumes.image import like
from scipy import ndimage
from synthetic import centred, physical_points, rotation

RADII = np.array([44.0, 56.0, 40.0])  # mm along x, y, z of the template's brain
SPACING = 3.0  # mm, of the model grid
UNIT = 800.0  # the scan's intensity of model intensity 1


def anatomy(points):
    """Model intensities at template points: an ellipsoid with waves of 50 mm and more in it."""
    x, y, z = points
    inside = (x / RADII[0]) ** 2 + (y / RADII[1]) ** 2 + (z / RADII[2]) ** 2 < 1
    waves = 0.6 + 0.1 * np.sin(x / 8) + 0.1 * np.cos(y / 9) + 0.1 * np.sin(z / 10 + 1)
    return np.where(inside, waves, 0).astype(np.float32)


@pytest.fixture(scope="module")
def template():
    grid = centred((36, 44, 32), (SPACING,) * 3)
    image = anatomy(physical_points(grid))
    return Template(like(grid, image), like(grid, (image > 0).astype(np.uint8)))


class Scan:
    """A scan of the anatomy in another position and in other units, with a ball-shaped hole."""

    def __init__(self, template, spacing=(2.0, 1.5, 3.0), direction=None, field=None, extracted=True):
        self.transform = sitk.AffineTransform(3)
        self.transform.SetMatrix((rotation(8) @ np.diag([1.1, 0.95, 1.0])).ravel().tolist())
        self.transform.SetTranslation([30.0, -20.0, 10.0])
        direction = rotation(10, (3, 1, 2)) @ np.diag([1, 1, -1]) if direction is None else direction
        size = [round(n / s) for n, s in zip(field or (128, 144, 114), spacing, strict=True)]
        self.image = centred(size, spacing, direction, (30, -20, 10))
        back = self.transform.GetInverse()
        matrix, shift = np.reshape(back.GetMatrix(), (3, 3)), back.TransformPoint((0.0, 0.0, 0.0))
        points = physical_points(self.image)
        self.template_points = np.einsum("ij,j...->i...", matrix, points) + np.reshape(shift, (3, 1, 1, 1))
        self.values = UNIT * anatomy(self.template_points)
        if not extracted:
            self.values[self.values == 0] = 0.9 * UNIT  # scalp everywhere
        centre = self.transform.TransformPoint((10.0, 5.0, 4.0))
        self.hole = np.linalg.norm(points - np.reshape(centre, (3, 1, 1, 1)), axis=0) <= 12
        brain = resample_mask(template.brain, self.image, back)
        self.alignment = Alignment(self.transform, brain, 0.9, extracted)
        self.template = template

    def cut(self, values=None, hole=None):
        values = self.values if values is None else values
        hole = self.hole if hole is None else hole
        return cut_slices(self.image, values, hole, self.alignment, self.template)

    @cached_property
    def slices(self):
        return self.cut()


@pytest.fixture(scope="module")
def scan(template):
    return Scan(template)


@pytest.fixture(scope="module")
def head(template):
    return Scan(template, extracted=False)


def same(a, b):
    return a.scale == b.scale and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("image", "hole", "unknown", "context", "heights")
    )


@pytest.mark.parametrize("kind", ["scan", "head"])
@pytest.mark.parametrize("lesion", [0.0, 1e7, np.nan])
def test_the_content_of_the_hole_never_reaches_the_slices(kind, lesion, request):
    scan = request.getfixturevalue(kind)
    painted = scan.values.copy()
    painted[scan.hole] = lesion
    assert same(scan.slices, scan.cut(painted))


def test_known_pixels_show_the_anatomy_at_their_position_in_model_space(scan):
    slices = scan.slices
    true = sitk.GetArrayFromImage(scan.template.image)[slices.heights]
    deep = ndimage.binary_erosion(sitk.GetArrayFromImage(scan.template.brain), iterations=3)[slices.heights]
    chosen = slices.context & deep
    assert chosen.sum() > 1000
    ratio = slices.image[chosen] / true[chosen]
    assert ratio.std() / ratio.mean() < 0.03
    assert ratio.mean() * slices.scale == pytest.approx(UNIT, rel=0.02)


def test_hole_and_context_share_no_pixel_and_the_hole_is_empty(scan, head):
    for slices in (scan.slices, head.slices):
        assert not (slices.unknown & slices.context).any()
        assert slices.unknown[slices.hole].all()
        assert (slices.image[slices.unknown] == 0).all()
        assert slices.image.dtype == np.float32
        assert slices.context.any(axis=(1, 2)).all()


@pytest.mark.parametrize("kind", ["scan", "head"])
def test_every_slice_that_the_hole_touches_is_there_and_its_pixels_are_to_be_filled(kind, request):
    scan = request.getfixturevalue(kind)
    slices = scan.slices
    grid = scan.template.image
    index = (scan.template_points - np.reshape(grid.GetOrigin(), (3, 1, 1, 1))) / SPACING
    column, row, height = np.rint(index).astype(int)
    assert set(height[scan.hole]) <= set(slices.heights.tolist())
    deep = ndimage.binary_erosion(scan.hole)  # a pixel on the rim may show enough tissue to be known
    assert slices.hole[np.searchsorted(slices.heights, height[deep]), row[deep], column[deep]].all()
    touched = np.flatnonzero(slices.hole.any(axis=(1, 2)))
    assert len(touched) <= np.ptp(height[scan.hole]) + 3  # and no slice far from the hole
    expected = np.arange(slices.heights[touched[0]] - NEIGHBOURS, slices.heights[touched[-1]] + NEIGHBOURS + 1)
    assert slices.heights.tolist() == expected.tolist()


def test_at_the_ends_of_the_grid_there_are_fewer_neighbours(template):
    scan = Scan(template)
    scan.hole = scan.template_points[2] > RADII[2] - 8
    slices = scan.slices
    assert slices.heights[-1] == template.image.GetSize()[2] - 1
    assert slices.hole[0].sum() == 0


@pytest.mark.parametrize("fineness", [1.5, 3, 4], ids="{} voxels a model pixel".format)
def test_a_hole_of_one_voxel_touches_a_slice(template, fineness):
    fine = Scan(template, spacing=(SPACING / fineness,) * 3, field=(36, 36, 36))
    for corner in np.array(fine.hole.shape) // 2 + np.arange(-4, 5)[:, None] * [1, 2, -1]:
        hole = np.zeros_like(fine.hole)
        hole[tuple(corner)] = True
        assert len(fine.cut(hole=hole).heights) > 0


def test_two_holes_give_the_slices_of_both_and_none_between(scan):
    z = scan.template_points[2]
    low, high = (abs(z - height) < 3 for height in (-20, 20))
    low, high = (part & (np.linalg.norm(scan.template_points[:2], axis=0) < 12) for part in (low, high))
    low, high, both = (scan.cut(hole=hole).heights for hole in (low, high, low | high))
    assert sorted({*low, *high}) == both.tolist()
    assert np.diff(both).max() > 1


def test_the_unit_of_the_intensities_does_not_matter(scan):
    slices, scaled = scan.slices, scan.cut(1000 * scan.values)
    assert scaled.scale == pytest.approx(1000 * slices.scale, rel=1e-5)
    np.testing.assert_allclose(scaled.image, slices.image, atol=1e-4)


def test_a_few_bright_voxels_hardly_change_the_scale(scan):
    known = scan.alignment.brain & ~scan.hole
    painted = scan.values.copy()
    some = np.argwhere(known)[::200]
    painted[tuple(some.T)] = 1e6
    assert intensity_scale(painted, known) == pytest.approx(intensity_scale(scan.values, known), rel=0.01)


def test_the_brighter_half_of_the_brain_without_its_top_is_white_matter():
    values = np.arange(1.0, 1001.0)
    expected = np.arange(501.0, 981.0).mean() / WHITE_MATTER
    assert intensity_scale(values, np.ones(1000, bool)) == pytest.approx(expected, rel=1e-3)
    known = values <= 500
    assert intensity_scale(values, known) == pytest.approx(intensity_scale(values[:500], np.ones(500, bool)))


def test_a_scan_with_negative_tissue_has_its_floor_below_the_tissue():
    nothing = np.zeros(10_000, bool)
    tissue = np.linspace(-3, 3, 10_000)
    background = np.zeros(50_000)
    scored = np.concatenate([tissue, background])
    assert intensity_floor(scored, np.zeros(60_000, bool)) == pytest.approx(np.percentile(tissue, 0.5), abs=1e-3)
    assert intensity_floor(tissue + 3.1, nothing) == 0
    few = np.where(np.arange(10_000) < 50, -5.0, 10.0)  # ringing, not tissue
    assert intensity_floor(few, nothing) == 0
    assert intensity_floor(tissue, tissue < 0) == 0  # negative in the hole only
    assert intensity_floor(background, np.zeros(50_000, bool)) == 0


def test_a_scan_with_a_large_constant_added_has_its_floor_there():
    head = np.random.default_rng(0).uniform(0, 100, 60_000).astype(np.float32)
    head[:1000] = 0  # what is masked stays 0
    hole = np.zeros(60_000, bool)
    hole[-100:] = True
    known = np.where(head[1000:] > 0, head[1000:] + 1000, 0)
    shifted = np.concatenate([head[:1000], known]).astype(np.float32)
    shifted[hole] = 1
    assert intensity_floor(shifted, hole) == pytest.approx(1000.5, abs=0.3)
    assert intensity_floor(head, hole) == 0
    assert intensity_floor(head + 20, hole) == 0  # the search finds the offset
    assert intensity_floor(np.zeros(10, np.float32), np.zeros(10, bool)) == 0


def test_model_intensities_go_back_by_the_scale_and_the_floor(scan):
    slices = replace(scan.slices, scale=100.0, floor=-40.0)
    half = np.full_like(slices.image, 0.5)
    source = to_scan(scan.image, half, slices, scan.alignment, scan.template)
    valid = slices_on_scan(scan.image, slices, scan.alignment, scan.template)
    np.testing.assert_allclose(source[valid & scan.alignment.brain], 10.0, atol=1e-2)


@pytest.mark.parametrize(
    ("values", "known", "said"),
    [
        (np.full(1000, 7.0), np.ones(1000, bool), "contrast"),
        (np.zeros(1000), np.ones(1000, bool), "contrast"),
        (-np.arange(1000.0), np.ones(1000, bool), "contrast"),
        (np.arange(1000.0), np.arange(1000) < 99, "too little brain"),
        (np.arange(1000.0), np.zeros(1000, bool), "too little brain"),
    ],
    ids=["constant", "black", "negative", "too small", "all hole"],
)
def test_a_brain_without_anything_to_measure_is_refused(values, known, said):
    with pytest.raises(InputError, match=said):
        intensity_scale(values, known)


def test_a_constant_brain_is_refused(scan):
    with pytest.raises(InputError, match="no contrast"):
        scan.cut(np.where(scan.alignment.brain, 500, 0).astype(np.float32))


def test_a_constant_scan_stays_constant_up_to_the_rim_of_the_hole(scan):
    known = ~scan.hole
    image, share = to_model_grid(scan.image, np.full_like(scan.values, 640), known, scan.template.image, scan.transform)
    assert share.min() > -0.02
    assert share.max() < 1.02
    assert (share < 0.5).any()
    np.testing.assert_allclose(image[share > 0.11], 640, rtol=1e-4)
    assert (image[share < 0.09] == 0).all()


def test_slices_of_the_true_anatomy_restore_the_hole(scan):
    slices = scan.slices
    true = sitk.GetArrayFromImage(scan.template.image)[slices.heights] * UNIT / slices.scale
    source = to_scan(scan.image, true.astype(np.float32), slices, scan.alignment, scan.template)
    valid = slices_on_scan(scan.image, slices, scan.alignment, scan.template)
    assert source.shape == valid.shape == scan.hole.shape
    assert valid[scan.hole].all()
    error = np.abs(source - scan.values)[scan.hole]
    assert error.max() < 8  # of 800, in waves of +- 80
    assert error.mean() < 2


def test_beyond_its_slices_the_generated_volume_is_marked_and_continued(scan):
    slices = scan.slices
    levels = np.ones_like(slices.image)
    source = to_scan(scan.image, levels, slices, scan.alignment, scan.template)
    valid = slices_on_scan(scan.image, slices, scan.alignment, scan.template)
    height = (scan.template_points[2] - scan.template.image.GetOrigin()[2]) / SPACING
    inside = resample_mask(scan.template.brain, scan.image, scan.transform.GetInverse())
    assert not valid[height < slices.heights.min() - 1].any()
    assert not valid[height > slices.heights.max() + 1].any()
    two_voxels = 2 * min(scan.image.GetSpacing()) / SPACING
    near = (height > slices.heights.min() - two_voxels) & (height < slices.heights.max() + two_voxels)
    np.testing.assert_allclose(source[inside & near], slices.scale, rtol=1e-4)


def test_the_context_of_a_brain_extracted_scan_includes_its_edge(scan):
    slices = scan.slices
    edge = scan.template.edge[slices.heights]
    assert slices.context[edge & ~slices.hole].mean() > 0.9


def test_the_context_of_a_head_lies_in_the_brain_and_its_edge_is_unknown(head):
    slices = head.slices
    brain = sitk.GetArrayFromImage(head.template.brain)[slices.heights] > 0
    edge = head.template.edge[slices.heights]
    assert not slices.context[~brain | edge].any()
    assert slices.unknown[edge].all()
    assert not slices.hole[edge].all()
    assert (slices.image[~brain] == 0).all()
    assert slices.context[brain & ~edge & ~slices.hole].all()


def test_the_brightness_of_the_scalp_does_not_change_the_slices_of_a_head(head):
    bright = np.where(head.values == np.float32(0.9 * UNIT), 1.1 * head.values, head.values)
    deep = ndimage.binary_erosion(sitk.GetArrayFromImage(head.template.brain), iterations=3)
    slices, other = head.slices, head.cut(bright)
    inside = deep[slices.heights]
    np.testing.assert_allclose((other.image * other.scale)[inside], (slices.image * slices.scale)[inside], rtol=1e-3)


def test_pixels_outside_the_field_of_view_are_no_context(scan):
    keep = slice(0, scan.image.GetSize()[0] // 2 + 4)
    cut = copy(scan)
    cut.image = scan.image[keep, :, :]
    cut.values, cut.hole = (array[..., keep] for array in (scan.values, scan.hole))
    cut.alignment = replace(scan.alignment, brain=scan.alignment.brain[..., keep])
    slices, whole = cut.cut(), scan.slices
    common = np.isin(whole.heights, slices.heights)
    grid = physical_points(scan.template.image)[:, slices.heights]
    beyond = np.zeros(slices.context.shape, bool)
    for n, i, j in np.argwhere(whole.context[common]):
        place = scan.transform.TransformPoint(grid[:, n, i, j].tolist())
        beyond[n, i, j] = not 0 <= cut.image.TransformPhysicalPointToContinuousIndex(place)[0] <= keep.stop - 0.5
    assert beyond.sum() > 100
    assert not slices.context[beyond].any()


def test_the_edge_of_the_brain_is_a_band_of_nine_millimetres(template):
    edge = template.edge
    brain = sitk.GetArrayFromImage(template.brain) > 0
    row = np.flatnonzero(edge[16, 22])
    runs = np.split(row, np.flatnonzero(np.diff(row) > 1) + 1)
    assert [len(run) for run in runs] == [2, 2]  # one pixel of 3 mm on either side, on the left and the right
    assert edge[brain].any()
    assert edge[~brain].any()
    assert not edge[16, 22, 18]


def test_the_support_covers_the_brain_and_its_edge_in_every_slice_but_not_the_corners(template):
    support = template.support
    brain = sitk.GetArrayFromImage(template.brain) > 0
    assert support.shape == brain.shape[1:]
    assert support[brain.any(axis=0)].all()
    assert support[template.edge.any(axis=0)].all()
    assert not support[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert not support.all()
