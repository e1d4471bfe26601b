"""inpaint() as a whole, on the shipped scan of a patient made coarse; what it writes and what it refuses."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib import Cancelled, InputError, Settings, inpaint, pipeline
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.space.alignment import Alignment
from MedInpaintLib.space.slices import Slices
from scipy import ndimage
from synthetic import as_mask, bits, volume

SPACING = 2.5  # mm
SETTINGS = Settings(device="cpu", iterations=3)
RADIUS = 8.0  # mm, of the hole


def like(array, image):
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(image)
    return result


@pytest.fixture(scope="module")
def scan():
    """A brain-extracted scan, int16."""
    full = sitk.ReadImage(str(resources_folder() / "SampleData" / "MSPatient26_T1.nii.gz"))
    size = [int(n * s / SPACING) for n, s in zip(full.GetSize(), full.GetSpacing(), strict=True)]
    smooth = sitk.SmoothingRecursiveGaussian(sitk.Cast(full, sitk.sitkFloat32), 1.0)
    coarse = sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, full.GetOrigin(), [SPACING] * 3, full.GetDirection(), 0.0
    )
    extracted = np.where(sitk.GetArrayFromImage(coarse) > 100, np.rint(sitk.GetArrayFromImage(coarse)), 0)
    return like(extracted.astype(np.int16), coarse)


@pytest.fixture(scope="module")
def hole(scan):
    """A ball in the white matter."""
    brain = sitk.GetArrayFromImage(scan) > 0
    middle = np.array(ndimage.center_of_mass(brain)) + np.array([15, 0, 22]) / SPACING
    return sum((i - m) ** 2 for i, m in zip(np.indices(brain.shape), middle, strict=True)) <= (RADIUS / SPACING) ** 2


@pytest.fixture(scope="module")
def whole(scan, hole):
    """One run with nothing replaced, and what it told on its way."""
    told = []
    image, mask = sitk.Image(scan), like(hole.astype(np.uint8), scan)
    before = sitk.Hash(image), sitk.Hash(mask)
    case = None

    def kept(*arguments):
        nonlocal case
        case = pipeline_align(*arguments)
        return case

    pipeline_align, pipeline.align = pipeline.align, kept
    try:
        result = inpaint(image, mask, SETTINGS, lambda *event: told.append(event))
    finally:
        pipeline.align = pipeline_align
    assert (sitk.Hash(image), sitk.Hash(mask)) == before  # the input is as it was
    return result, case, told


@pytest.fixture
def aligned(whole, monkeypatch):
    """Registering takes seconds and always ends in the same place: take that of the whole run."""
    monkeypatch.setattr(pipeline, "align", lambda *arguments: whole[1])


def voxels(image):
    return sitk.GetArrayFromImage(image)


def assert_only_the_hole_changed(result, scan, hole):
    before, after = voxels(scan), voxels(result)
    assert after.dtype == before.dtype
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(result, geometry)() == getattr(scan, geometry)()
    np.testing.assert_array_equal(bits(after)[~hole], bits(before)[~hole])
    assert (after[hole] != before[hole]).mean() > 0.5


def test_a_run_changes_the_hole_only_and_fills_it_with_tissue(whole, scan, hole):
    result, _, _ = whole
    assert_only_the_hole_changed(result.image, scan, hole)
    ring = ndimage.binary_dilation(hole, iterations=2) & ~hole
    fill, around = voxels(result.image)[hole], voxels(scan)[ring]
    assert np.median(fill) == pytest.approx(np.median(around), rel=0.25)
    assert fill.min() > 0


def test_a_run_reports_what_it_did(whole, hole):
    result, alignment, _ = whole
    report = result.report
    assert report["lesion"]["volume_ml"] == pytest.approx(hole.sum() * SPACING**3 / 1000, rel=1e-3)
    assert report["lesion"]["count"] == 1
    assert report["alignment"]["brain_extracted"] is True
    assert report["alignment"]["quality"] == pytest.approx(alignment.quality, abs=1e-3)
    assert report["alignment"]["quality"] > 0.75
    assert report["search"]["iterations"] == 3
    assert report["settings"] == SETTINGS.to_dict()
    assert {"reading", "aligning", "optimising", "blending"} <= report["seconds"].keys()
    assert 2 * RADIUS / 1.5 - 2 <= report["slices"] <= 2 * RADIUS / 1.5 + 6


def test_progress_never_goes_back_and_ends_at_one(whole):
    _, _, told = whole
    fractions = [fraction for fraction, _, _ in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    stages = [stage for _, stage, _ in told]
    order = ["reading", "aligning", "optimising", "blending", "done"]
    assert sorted(set(stages), key=stages.index) == order
    assert all(message for _, _, message in told)


def test_the_generated_volume_is_tissue_on_the_scans_grid_and_nothing_beyond_its_slices(whole, scan, hole):
    generated = voxels(whole[0].generated)
    assert generated.dtype == np.float32
    assert whole[0].generated.GetOrigin() == scan.GetOrigin()
    assert whole[0].generated.GetSize() == scan.GetSize()
    heights = np.flatnonzero(hole.any(axis=(1, 2)))
    assert (generated[: heights[0] - 8] == 0).all()
    assert (generated[heights[-1] + 9 :] == 0).all()
    level = np.median(voxels(scan)[voxels(scan) > 0])
    assert np.median(generated[hole]) == pytest.approx(level, rel=0.4)


@pytest.mark.usefixtures("aligned")
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_every_pixel_type_comes_back_as_it_was(scan, hole, dtype):
    array = voxels(scan).astype(np.float64)
    array *= {"uint8": 255 / array.max(), "float32": 1e-4, "float64": 1e7}.get(dtype, 1000)
    image = like(array.astype(dtype), scan)
    result = inpaint(image, like(hole.astype(np.uint8), scan), replace(SETTINGS, iterations=0))
    assert_only_the_hole_changed(result.image, image, hole)
    around = voxels(image)[ndimage.binary_dilation(hole, iterations=2) & ~hole]
    assert np.median(voxels(result.image)[hole]) == pytest.approx(np.median(around), rel=0.25)


@pytest.mark.usefixtures("aligned")
def test_a_scan_of_standard_scores_is_filled_like_any_other(scan, hole):
    array = voxels(scan).astype(np.float32)
    brain = array > 0
    image = like(np.where(brain, (array - array[brain].mean()) / array[brain].std(), 0).astype(np.float32), scan)
    result = inpaint(image, like(hole.astype(np.uint8), scan), replace(SETTINGS, iterations=3))
    assert_only_the_hole_changed(result.image, image, hole)
    around = voxels(image)[ndimage.binary_dilation(hole, iterations=2) & ~hole]
    assert np.median(voxels(result.image)[hole]) == pytest.approx(np.median(around), abs=0.5)


@pytest.mark.usefixtures("aligned")
def test_what_stood_in_the_hole_does_not_reach_the_result(scan, hole):
    array = voxels(scan)
    array[hole] = 32000
    mask = like(hole.astype(np.uint8), scan)
    settings = replace(SETTINGS, iterations=1)
    clean, painted = inpaint(scan, mask, settings).image, inpaint(like(array, scan), mask, settings).image
    np.testing.assert_array_equal(voxels(clean), voxels(painted))


@pytest.mark.usefixtures("aligned")
@pytest.mark.parametrize("blending", ["3d", "2d", "none"])
def test_the_other_ways_of_blending_also_write_in_the_hole_only(scan, hole, blending):
    mask = like(hole.astype(np.uint8), scan)
    settings = replace(SETTINGS, iterations=0, texture=False)
    result = inpaint(scan, mask, replace(settings, blending=blending))
    assert_only_the_hole_changed(result.image, scan, hole)
    if blending == "none":  # the generated content itself
        difference = voxels(result.image)[hole] - voxels(result.generated)[hole]
        assert np.abs(difference).max() <= 0.5
    else:
        assert (voxels(result.image)[hole] != voxels(inpaint(scan, mask, settings).image)[hole]).any()


@pytest.mark.usefixtures("aligned")
def test_the_texture_is_added_to_the_mean_and_drawn_from_the_seed(scan, hole):
    brain = voxels(scan) > 0
    random = np.random.default_rng(0)
    noisy = like((voxels(scan) + brain * random.normal(0, 150, brain.shape)).astype(np.int16), scan)
    mask = like(hole.astype(np.uint8), scan)
    settings = replace(SETTINGS, iterations=0)
    mean, first, again, other = (
        voxels(inpaint(noisy, mask, replace(settings, **change)).image)[hole].astype(float)
        for change in ({"texture": False}, {}, {}, {"seed": 1})
    )
    np.testing.assert_array_equal(first, again)
    assert np.std(other - first) / 2**0.5 == pytest.approx(150, rel=0.35)
    assert np.std(first - mean) == pytest.approx(150, rel=0.35)


def test_the_uncertainty_is_a_spread_in_the_hole_alone(whole, scan, hole):
    sd = voxels(whole[0].uncertainty)
    assert sd.dtype == np.float32
    assert whole[0].uncertainty.GetOrigin() == scan.GetOrigin()
    assert (sd[~hole] == 0).all()
    assert (sd[hole] > 0).all()
    spread = voxels(scan)[voxels(scan) > 0].std()
    assert 0.02 * spread < sd[hole].mean() < spread
    assert whole[0].report["lesions"][0]["uncertainty"] == pytest.approx(sd[hole].mean(), rel=1e-3)


@pytest.mark.usefixtures("aligned")
def test_without_conditioning_nothing_is_said_about_the_uncertainty(scan, hole):
    settings = replace(SETTINGS, iterations=0, residual=False)
    result = inpaint(scan, like(hole.astype(np.uint8), scan), settings)
    assert result.uncertainty is None
    assert result.report["lesions"][0]["uncertainty"] is None


@pytest.mark.usefixtures("aligned")
def test_a_mask_on_another_grid_is_laid_over_the_scan(scan, hole):
    centre = scan.TransformContinuousIndexToPhysicalPoint(ndimage.center_of_mass(hole)[::-1])
    fine = as_mask(np.ones((20, 20, 20)), "int16", spacing=(1, 1, 1), origin=np.subtract(centre, 9.5).tolist())
    result = inpaint(scan, fine, replace(SETTINGS, iterations=0))
    changed = voxels(result.image) != voxels(scan)
    where = np.argwhere(changed)[:, ::-1]
    points = np.array([scan.TransformIndexToPhysicalPoint(index.tolist()) for index in where])
    assert np.abs(points - centre).max() <= 10.01
    assert changed.sum() == pytest.approx((20 / SPACING) ** 3, rel=0.3)


@pytest.mark.usefixtures("aligned")
def test_a_grown_lesion_is_filled_with_its_rim_and_no_further(scan, hole):
    result = inpaint(scan, like(hole.astype(np.uint8), scan), replace(SETTINGS, iterations=0, grow=SPACING))
    larger = ndimage.binary_dilation(hole) & (voxels(scan) > 0)
    assert_only_the_hole_changed(result.image, scan, larger)
    assert result.report["lesion"]["volume_ml"] == pytest.approx(larger.sum() * SPACING**3 / 1000, rel=1e-3)


@pytest.mark.usefixtures("aligned")
def test_only_the_chosen_label_is_filled(scan, hole):
    labels = np.where(hole, 3, 0)
    labels[np.roll(hole, 8, axis=1)] = 7
    result = inpaint(scan, like(labels.astype(np.uint8), scan), replace(SETTINGS, iterations=0, label=3))
    assert_only_the_hole_changed(result.image, scan, labels == 3)


def test_a_mask_outside_the_brain_is_refused(scan, hole, aligned):
    outside = np.zeros_like(hole)
    outside[:3, :3, :3] = True
    with pytest.raises(InputError, match="outside the brain"):
        inpaint(scan, like(outside.astype(np.uint8), scan), SETTINGS)


def test_a_mask_over_more_than_half_of_the_brain_is_refused(scan, aligned):
    brain = voxels(scan) > 0
    most = brain & (np.indices(brain.shape)[2] > 0.45 * brain.shape[2])
    with pytest.raises(InputError, match="more than half of the brain"):
        inpaint(scan, like(most.astype(np.uint8), scan), SETTINGS)


def test_a_mask_over_the_whole_brain_is_refused(scan):
    with pytest.raises(InputError, match="brain"):
        inpaint(scan, like((voxels(scan) > 0).astype(np.uint8), scan), SETTINGS)


def test_a_slab_of_a_few_thin_slices_is_refused_or_filled_but_never_breaks(scan, hole):
    middle = int(ndimage.center_of_mass(hole)[0])
    slab, mask = (image[:, :, middle : middle + 3] for image in (scan, like(hole.astype(np.uint8), scan)))
    try:
        result = inpaint(slab, mask, replace(SETTINGS, iterations=0))
    except InputError:
        return
    assert_only_the_hole_changed(result.image, slab, hole[middle : middle + 3])


@pytest.mark.parametrize(
    ("change", "said"),
    [({"model": "no such"}, "no such"), ({"device": "mps"}, "mps"), ({"label": 9}, "label 9")],
    ids=["model", "device", "label"],
)
def test_wrong_settings_are_refused_before_the_registration(scan, hole, monkeypatch, change, said):
    import torch

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(pipeline, "align", lambda *arguments: pytest.fail("too late"))
    with pytest.raises(InputError, match=said):
        inpaint(scan, like(hole.astype(np.uint8), scan), replace(SETTINGS, **change))


@pytest.mark.parametrize("at", ["reading", "aligning", "optimising", "blending"])
@pytest.mark.usefixtures("aligned")
def test_a_run_can_be_cancelled_at_every_stage(scan, hole, at):
    def progress(fraction, stage, message):
        if stage == at:
            raise Cancelled

    with pytest.raises(Cancelled):
        inpaint(scan, like(hole.astype(np.uint8), scan), replace(SETTINGS, iterations=1), progress)


@pytest.mark.usefixtures("aligned")
def test_a_run_out_of_the_graphics_memory_ends_in_smaller_batches_and_says_so(scan, hole, whole, monkeypatch):
    import torch
    from MedInpaintLib.search import latent

    move, real = torch.nn.Module.to, latent.search

    def search(*arguments):
        if arguments[-1] > 8:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return real(*arguments)

    monkeypatch.setattr(latent, "choose_device", torch.device)  # every device is there; all of them are the CPU
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, device, **options: move(module, "cpu", **options))
    monkeypatch.setattr(latent, "search", search)
    told = []
    settings = replace(SETTINGS, device="cuda")
    result = inpaint(scan, like(hole.astype(np.uint8), scan), settings, lambda *event: told.append(event))
    assert result.report["device"] == "cuda"
    (warning,) = result.report["warnings"]
    assert "cuda" in warning
    assert "batches of 8" in warning
    assert any("batches of 8" in message for _, _, message in told)
    np.testing.assert_allclose(voxels(result.image)[hole], voxels(whole[0].image)[hole], rtol=0.02)


@pytest.mark.parametrize("stage", ["align", "matern_blend"])
@pytest.mark.usefixtures("aligned")
def test_a_scan_too_large_for_memory_is_refused_in_one_sentence(scan, hole, monkeypatch, stage):
    def too_much(*arguments, **options):
        return np.zeros(10**14)

    monkeypatch.setattr(pipeline, stage, too_much)
    with pytest.raises(InputError, match=r"not enough memory.*close other programs"):
        inpaint(scan, like(hole.astype(np.uint8), scan), replace(SETTINGS, iterations=0))


def made_case(extracted):
    """A head: brain of 800 in one half, skull of 500 in the other; a hole across the border of the two."""
    values = np.full((12, 14, 16), 500, np.float32)
    values[..., :8] = 800
    brain = values == 800
    hole = np.zeros(values.shape, bool)
    hole[3:9, 4:10, 4:12] = True
    alignment = Alignment(sitk.AffineTransform(3), brain, 1.0, extracted)
    nothing = np.zeros((0, 16, 16))
    slices = Slices(nothing, nothing, nothing, nothing, np.zeros(0, int), 1.0)
    return pipeline.Case(volume(values), values, hole, None, alignment, slices)


@pytest.mark.parametrize("blending", ["3d", "2d"])
def test_beyond_the_brain_of_a_head_the_fill_continues_the_surroundings(blending):
    case = made_case(extracted=False)
    generated = np.where(case.alignment.brain, 700.0, 0.0)  # the model shows black where it knows nothing
    fill = pipeline.poisson(case, generated, blending)
    assert fill.min() >= 500 - 0.01
    assert fill.max() <= 800 + 0.01
    # Taken for a brain-extracted scan, whose background is black, the same step is kept.
    assert pipeline.poisson(made_case(extracted=True), generated, blending).min() < 400


def test_beyond_the_brain_of_a_head_the_matern_fill_continues_the_surroundings_too():
    case = made_case(extracted=False)
    generated = np.where(case.alignment.brain, 700.0, 0.0)
    fill = np.zeros(case.values.shape)
    fill[case.hole] = pipeline.matern(case, generated, np.ones(case.hole.shape, bool), noise=1.0)
    assert fill[case.hole].min() >= 500 - 0.01
    assert fill[case.hole].max() <= 800 + 5
    assert np.abs(fill[case.hole & case.alignment.brain] - 800).max() < 40  # what is generated is 100 too dark


def lesioned_case(inside, rim):
    """A brain of 800 with a lesion of these values, and a rim of some that its mask leaves out."""
    case = made_case(extracted=True)
    near = ndimage.binary_dilation(case.hole) & ~case.hole
    case.values[:] = 800 + np.random.default_rng(0).normal(0, 5, case.hole.shape)
    case.values[near] = rim
    case.values[case.hole] = inside
    return dataclasses.replace(case, slices=dataclasses.replace(case.slices, scale=1000.0))


def test_the_dark_rim_that_a_tight_mask_leaves_out_does_not_darken_the_fill():
    source, everywhere = np.full((12, 14, 16), 800.0), np.ones((12, 14, 16), bool)
    dark = np.random.default_rng(1).normal(500, 40, np.count_nonzero(made_case(True).hole))
    filled = pipeline.matern(lesioned_case(dark, 650), source, everywhere, noise=5.0)
    assert np.median(filled) > 750
    of_one_value = pipeline.matern(lesioned_case(0, 650), source, everywhere, noise=5.0)
    bright = pipeline.matern(lesioned_case(dark + 400, 650), source, everywhere, noise=5.0)
    np.testing.assert_array_equal(of_one_value, bright)  # no dark lesion: the rim is taken for what the brain is
    assert np.median(bright) < 730


def test_where_nothing_was_generated_the_matern_fill_does_not_compare():
    """Above the slices that were searched the nearest is repeated, which may be far off."""
    case = made_case(extracted=True)
    generated = np.full(case.values.shape, 800.0)
    valid = np.ones(case.hole.shape, bool)
    valid[9:] = False
    wrong = np.where(valid, generated, 0)
    right, also = (pipeline.matern(case, source, valid, noise=1.0) for source in (generated, wrong))
    np.testing.assert_allclose(right, also, atol=1e-6)


def test_in_the_brain_of_a_head_the_fill_keeps_the_generated_detail():
    case = made_case(extracted=False)
    detail = 100 * np.random.default_rng(0).random(case.values.shape)
    fill = np.zeros_like(detail)
    fill[case.hole] = pipeline.poisson(case, np.where(case.alignment.brain, 700 + detail, 0), "3d")
    deep = ndimage.binary_erosion(case.hole & case.alignment.brain)

    def laplacian(array):
        axes = enumerate(case.scan.GetSpacing()[::-1])
        return sum((np.roll(array, 1, i) + np.roll(array, -1, i) - 2 * array) / side**2 for i, side in axes)[deep]

    np.testing.assert_allclose(laplacian(fill), laplacian(detail), atol=0.1)  # of some 100


def test_pasting_takes_the_generated_values_as_they_are():
    case = made_case(extracted=True)
    generated = np.random.default_rng(0).random(case.values.shape)
    np.testing.assert_array_equal(pipeline.poisson(case, generated, "none"), generated[case.hole])


@pytest.mark.parametrize("blending", ["3d", "2d"])
def test_the_fill_is_that_of_the_whole_volume_though_only_its_box_is_solved(blending):
    from MedInpaintLib.blending.poisson import poisson_blend

    case = made_case(extracted=True)
    generated = np.random.default_rng(1).random(case.values.shape)
    expected = poisson_blend(
        case.values, generated, case.hole, case.scan.GetSpacing()[::-1], slicewise=blending == "2d"
    )
    np.testing.assert_allclose(pipeline.poisson(case, generated, blending), expected, rtol=1e-4)
