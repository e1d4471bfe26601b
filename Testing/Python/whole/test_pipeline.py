"""inpaint() as a whole, on a coarse version of the shipped scan of a patient: what it writes and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedInpaintLib import Cancelled, InputError, Settings, inpaint, kept
from MedInpaintLib.blending import blend
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.search import device, latent
from MedInpaintLib.volumes.image import like
from scipy import ndimage
from synthetic import as_mask, bits

pytestmark = pytest.mark.usefixtures("fast_engine")

SPACING = 2.5  # mm
SETTINGS = Settings(device="cpu", iterations=3)
QUICK = replace(SETTINGS, iterations=0)
RADIUS = 8.0  # mm, of the hole


@pytest.fixture(scope="module")
def scan():
    """A brain-extracted scan, int16."""
    full = sitk.ReadImage(str(resources_folder() / "SampleData" / "MSPatient26_T1.nii.gz"))
    size = [int(n * s / SPACING) for n, s in zip(full.GetSize(), full.GetSpacing(), strict=True)]
    smooth = sitk.SmoothingRecursiveGaussian(sitk.Cast(full, sitk.sitkFloat32), 1.0)
    coarse = sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, full.GetOrigin(), [SPACING] * 3, full.GetDirection(), 0.0
    )
    return like(coarse, np.where(voxels(coarse) > 100, np.rint(voxels(coarse)), 0).astype(np.int16))


@pytest.fixture(scope="module")
def hole(scan):
    """A ball in the white matter."""
    brain = voxels(scan) > 0
    middle = np.array(ndimage.center_of_mass(brain)) + np.array([15, 0, 22]) / SPACING
    return sum((i - m) ** 2 for i, m in zip(np.indices(brain.shape), middle, strict=True)) <= (RADIUS / SPACING) ** 2


@pytest.fixture(scope="module")
def mask(scan, hole):
    return like(scan, hole.astype(np.uint8))


@pytest.fixture(scope="module")
def whole(scan, mask, fast_engine):
    """A run with nothing replaced: its result, its alignment and its progress."""
    events, alignments, align = [], [], kept.align
    before = sitk.Hash(scan), sitk.Hash(mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "align", lambda *arguments: alignments.append(align(*arguments)) or alignments[-1])
        result = inpaint(scan, mask, SETTINGS, lambda *event: events.append(event))
    assert (sitk.Hash(scan), sitk.Hash(mask)) == before  # the input does not change
    return result, alignments[0], events


@pytest.fixture
def aligned(whole, monkeypatch):
    """The alignment of the whole run, as a registration takes seconds and always gives the same."""
    monkeypatch.setattr(kept, "align", lambda *arguments: whole[1])


@pytest.fixture(scope="module")
def plain(whole, scan, mask):
    """The fill without added noise, as float64 (n,)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "align", lambda *arguments: whole[1])
        return fill(inpaint(scan, mask, QUICK), mask)


def voxels(image):
    return sitk.GetArrayFromImage(image)


def fill(result, mask):
    return voxels(result.image)[voxels(mask) > 0].astype(float)


def assert_only_the_hole_changed(result, scan, hole):
    before, after = voxels(scan), voxels(result)
    assert after.dtype == before.dtype
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(result, geometry)() == getattr(scan, geometry)()
    np.testing.assert_array_equal(bits(after)[~hole], bits(before)[~hole])
    assert (after[hole] != before[hole]).mean() > 0.5


# --- one run


def test_a_run_changes_only_the_hole_and_fills_it_with_tissue(whole, scan, hole):
    result, _, _ = whole
    assert_only_the_hole_changed(result.image, scan, hole)
    ring = ndimage.binary_dilation(hole, iterations=2) & ~hole
    filled, around = voxels(result.image)[hole], voxels(scan)[ring]
    assert np.median(filled) == pytest.approx(np.median(around), rel=0.25)
    assert filled.min() > 0


def test_the_report_says_what_a_run_did(whole, hole):
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


def test_progress_never_falls_and_ends_at_one(whole):
    fractions, stages, messages = zip(*whole[2], strict=True)
    assert list(fractions) == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert sorted(set(stages), key=stages.index) == ["reading", "aligning", "optimising", "blending", "done"]
    assert all(messages)


def test_the_generated_volume_is_tissue_on_the_scans_grid_and_zero_beyond_its_slices(whole, scan, hole):
    generated = voxels(whole[0].generated)
    assert generated.dtype == np.float32
    assert whole[0].generated.GetOrigin() == scan.GetOrigin()
    assert whole[0].generated.GetSize() == scan.GetSize()
    heights = np.flatnonzero(hole.any(axis=(1, 2)))
    assert (generated[: heights[0] - 8] == 0).all()
    assert (generated[heights[-1] + 9 :] == 0).all()
    level = np.median(voxels(scan)[voxels(scan) > 0])
    assert np.median(generated[hole]) == pytest.approx(level, rel=0.4)


def test_the_uncertainty_is_a_standard_deviation_in_the_hole_alone(whole, scan, hole):
    deviation = voxels(whole[0].uncertainty)
    assert deviation.dtype == np.float32
    assert whole[0].uncertainty.GetOrigin() == scan.GetOrigin()
    assert (deviation[~hole] == 0).all()
    assert (deviation[hole] > 0).all()
    spread = voxels(scan)[voxels(scan) > 0].std()
    assert 0.02 * spread < deviation[hole].mean() < spread
    assert whole[0].report["lesions"][0]["uncertainty"] == pytest.approx(deviation[hole].mean(), rel=1e-3)


# --- other scans, masks and settings


@pytest.mark.usefixtures("aligned")
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_the_result_has_the_pixel_type_of_the_scan(scan, hole, mask, dtype):
    array = voxels(scan).astype(np.float64)
    array *= {"uint8": 255 / array.max(), "float32": 1e-4, "float64": 1e7}.get(dtype, 1000)
    image = like(scan, array.astype(dtype))
    result = inpaint(image, mask, QUICK)
    assert_only_the_hole_changed(result.image, image, hole)
    around = voxels(image)[ndimage.binary_dilation(hole, iterations=2) & ~hole]
    assert np.median(voxels(result.image)[hole]) == pytest.approx(np.median(around), rel=0.25)


@pytest.mark.usefixtures("aligned")
def test_a_scan_of_standard_scores_is_filled_like_any_other(scan, hole, mask):
    array = voxels(scan).astype(np.float32)
    brain = array > 0
    image = like(scan, np.where(brain, (array - array[brain].mean()) / array[brain].std(), 0).astype(np.float32))
    result = inpaint(image, mask, SETTINGS)
    assert_only_the_hole_changed(result.image, image, hole)
    around = voxels(image)[ndimage.binary_dilation(hole, iterations=2) & ~hole]
    assert np.median(voxels(result.image)[hole]) == pytest.approx(np.median(around), abs=0.5)


@pytest.mark.usefixtures("aligned")
def test_the_content_of_the_hole_does_not_reach_the_result(whole, scan, hole, mask):
    array = voxels(scan)
    array[hole] = 32000
    painted = inpaint(like(scan, array), mask, SETTINGS).image
    np.testing.assert_array_equal(voxels(whole[0].image), voxels(painted))


@pytest.mark.usefixtures("aligned")
@pytest.mark.parametrize("blending", ["3d", "2d", "none"])
def test_the_other_blendings_also_change_only_the_hole(scan, hole, mask, plain, blending):
    result = inpaint(scan, mask, replace(QUICK, blending=blending))
    assert_only_the_hole_changed(result.image, scan, hole)
    if blending == "none":  # the generated slices themselves
        difference = voxels(result.image)[hole] - voxels(result.generated)[hole]
        assert np.abs(difference).max() <= 0.5
    else:
        assert (fill(result, mask) != plain).any()


@pytest.mark.usefixtures("aligned")
def test_noise_like_the_scans_is_added_to_the_mean_and_depends_on_the_seed(scan, mask):
    brain = voxels(scan) > 0
    random = np.random.default_rng(0)
    noisy = like(scan, (voxels(scan) + brain * random.normal(0, 150, brain.shape)).astype(np.int16))
    mean, first, again, other = (
        fill(inpaint(noisy, mask, replace(QUICK, **change)), mask)
        for change in ({}, {"noise": True}, {"noise": True}, {"noise": True, "seed": 1})
    )
    np.testing.assert_array_equal(first, again)
    assert np.std(other - first) / 2**0.5 == pytest.approx(150, rel=0.35)
    assert np.std(first - mean) == pytest.approx(150, rel=0.35)


@pytest.mark.usefixtures("aligned")
def test_the_rim_of_a_tight_mask_is_found_and_does_not_darken_the_fill(scan, hole, mask):
    """The lesion is one voxel larger than the mask, or as large as the mask."""
    truth = voxels(scan)
    white = np.median(truth[hole])
    filled, rims = [], []
    for lesion in (ndimage.binary_dilation(hole), hole):
        patient = like(scan, np.where(lesion, np.minimum(truth, 0.5 * white), truth).astype(np.int16))
        result = inpaint(patient, mask, SETTINGS)
        assert_only_the_hole_changed(result.image, patient, hole)
        filled.append(np.median(fill(result, mask)))
        rims.append(result.report["rim"]["tight"])
    assert rims == [True, False]
    assert filled[1] == pytest.approx(white, rel=0.1)
    assert filled[0] > 0.85 * white


@pytest.mark.usefixtures("aligned")
def test_a_tight_lesion_among_exact_ones_is_found_and_filled_without_its_rim(scan, hole):
    """A second, smaller lesion is one voxel larger than its mask, or as large."""
    truth = voxels(scan)
    white = np.median(truth[hole])
    middle = np.array(ndimage.center_of_mass(hole)) - np.array([0, 0, 50]) / SPACING  # in the other hemisphere
    z, y, x = np.rint(middle).astype(int)
    small = np.zeros_like(hole)
    small[z - 1 : z + 2, y - 2 : y + 3, x - 1 : x + 2] = True
    hole = ndimage.binary_dilation(hole, iterations=2)
    mask = like(scan, (hole | small).astype(np.uint8))
    filled, rims = [], []
    for lesion in (ndimage.binary_dilation(small, np.ones((3, 3, 3))), small):
        dark = np.minimum(truth, 0.3 * white)
        patient = like(scan, np.where(lesion | hole, dark, truth).astype(np.int16))
        result = inpaint(patient, mask, SETTINGS)
        assert_only_the_hole_changed(result.image, patient, hole | small)
        filled.append(np.median(voxels(result.image)[small]))
        rims.append(result.report["rim"]["lesions"])
    assert rims == [1, None]
    assert filled[0] > 0.85 * np.median(truth[small])


@pytest.mark.usefixtures("aligned")
def test_without_the_residual_there_is_no_uncertainty(scan, mask):
    result = inpaint(scan, mask, replace(QUICK, residual=False))
    assert result.uncertainty is None
    assert result.report["lesions"][0]["uncertainty"] is None


@pytest.mark.usefixtures("aligned")
def test_a_mask_on_another_grid_is_resampled_to_the_scan(scan, hole):
    centre = scan.TransformContinuousIndexToPhysicalPoint(ndimage.center_of_mass(hole)[::-1])
    fine = as_mask(np.ones((20, 20, 20)), "int16", spacing=(1, 1, 1), origin=np.subtract(centre, 9.5).tolist())
    result = inpaint(scan, fine, QUICK)
    changed = voxels(result.image) != voxels(scan)
    points = np.array([scan.TransformIndexToPhysicalPoint(index.tolist()) for index in np.argwhere(changed)[:, ::-1]])
    assert np.abs(points - centre).max() <= 10.01
    assert changed.sum() == pytest.approx((20 / SPACING) ** 3, rel=0.3)


@pytest.mark.usefixtures("aligned")
def test_an_enlarged_lesion_is_filled_with_its_rim_and_no_farther(scan, hole, mask):
    result = inpaint(scan, mask, replace(QUICK, grow=SPACING))
    larger = ndimage.binary_dilation(hole) & (voxels(scan) > 0)
    rim = larger & ~hole
    assert rim.sum() > 100
    assert_only_the_hole_changed(result.image, scan, larger)
    changed, deviation = voxels(result.image) != voxels(scan), voxels(result.uncertainty)
    for part in (hole, rim):
        assert changed[part].mean() > 0.9
        assert (deviation[part] > 0).mean() > 0.9
    assert not deviation[~larger].any()
    assert result.report["settings"]["grow"] == SPACING
    assert result.report["lesion"]["volume_ml"] == pytest.approx(larger.sum() * SPACING**3 / 1000, rel=1e-3)


@pytest.mark.usefixtures("aligned")
def test_only_the_chosen_label_is_filled(scan, hole):
    labels = np.where(hole, 3, 0)
    labels[np.roll(hole, 8, axis=1)] = 7
    result = inpaint(scan, like(scan, labels.astype(np.uint8)), replace(QUICK, label=3))
    assert_only_the_hole_changed(result.image, scan, labels == 3)


# --- refused and cancelled


@pytest.mark.usefixtures("aligned")
def test_a_mask_outside_the_brain_is_refused(scan, hole):
    outside = np.zeros(hole.shape, np.uint8)
    outside[:3, :3, :3] = 1
    with pytest.raises(InputError, match="outside the brain"):
        inpaint(scan, like(scan, outside), SETTINGS)


@pytest.mark.usefixtures("aligned")
def test_a_mask_over_more_than_half_of_the_brain_is_refused(scan):
    brain = voxels(scan) > 0
    most = brain & (np.indices(brain.shape)[2] > 0.45 * brain.shape[2])
    with pytest.raises(InputError, match="more than half of the brain"):
        inpaint(scan, like(scan, most.astype(np.uint8)), SETTINGS)


def test_a_mask_over_the_whole_brain_is_refused(scan):
    with pytest.raises(InputError, match="covers all tissue"):
        inpaint(scan, like(scan, (voxels(scan) > 0).astype(np.uint8)), SETTINGS)


def test_a_slab_of_a_few_thin_slices_is_refused_or_filled_but_never_a_defect(scan, hole, mask):
    middle = int(ndimage.center_of_mass(hole)[0])
    slab, slab_mask = (image[:, :, middle : middle + 3] for image in (scan, mask))
    try:
        result = inpaint(slab, slab_mask, QUICK)
    except InputError:
        return
    assert_only_the_hole_changed(result.image, slab, hole[middle : middle + 3])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"model": "no such"}, "no such"), ({"device": "mps"}, "mps"), ({"label": 9}, "label 9")],
    ids=["model", "device", "label"],
)
def test_wrong_settings_are_refused_before_the_registration(scan, mask, monkeypatch, change, complaint):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(kept, "align", lambda *arguments: pytest.fail("too late"))
    with pytest.raises(InputError, match=complaint):
        inpaint(scan, mask, replace(SETTINGS, **change))


@pytest.mark.parametrize("at", ["reading", "aligning", "optimising", "blending"])
@pytest.mark.usefixtures("aligned")
def test_a_run_can_be_cancelled_at_every_stage(scan, mask, at):
    def progress(fraction, stage, message):
        if stage == at:
            raise Cancelled

    with pytest.raises(Cancelled):
        inpaint(scan, mask, replace(SETTINGS, iterations=1), progress)


# --- memory


@pytest.fixture
def cuda(monkeypatch):
    """Every device is there, and all of them are the CPU."""
    move = torch.nn.Module.to
    monkeypatch.setattr(device, "choose_device", torch.device)
    monkeypatch.setattr(device, "release_memory", lambda device: None)
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, place, **options: move(module, "cpu", **options))


def out_of_memory():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.usefixtures("aligned", "cuda")
def test_a_run_whose_device_is_full_ends_in_smaller_batches_and_says_so(scan, mask, whole, monkeypatch):
    search, events = latent.search_together, []
    monkeypatch.setattr(latent, "search_together", lambda *given: out_of_memory() if given[-1] > 8 else search(*given))
    result = inpaint(scan, mask, replace(SETTINGS, device="cuda"), lambda *event: events.append(event))
    assert result.report["device"] == "cuda"
    (warning,) = result.report["warnings"]
    assert "cuda" in warning
    assert "batches of 8" in warning
    assert any("batches of 8" in message for _, _, message in events)
    np.testing.assert_allclose(fill(result, mask), fill(whole[0], mask), rtol=0.02)


@pytest.mark.usefixtures("aligned", "cuda")
def test_a_model_that_does_not_fit_on_the_device_runs_on_the_cpu(scan, mask, monkeypatch):
    move = torch.nn.Module.to
    monkeypatch.setattr(
        torch.nn.Module,
        "to",
        lambda module, place, **options: out_of_memory() if place.type == "cuda" else move(module, place, **options),
    )
    result = inpaint(scan, mask, replace(QUICK, device="cuda"))
    assert result.report["device"] == "cpu"
    assert "on the CPU" in result.report["warnings"][0]


@pytest.mark.parametrize(("room", "step"), [(kept, "align"), (blend, "matern_blend")], ids=["align", "matern_blend"])
@pytest.mark.usefixtures("aligned")
def test_a_scan_too_large_for_memory_is_refused_in_one_sentence(scan, mask, monkeypatch, room, step):
    monkeypatch.setattr(room, step, lambda *arguments, **options: np.zeros(10**14))
    with pytest.raises(InputError, match=r"not enough memory.*close other programs"):
        inpaint(scan, mask, QUICK)
