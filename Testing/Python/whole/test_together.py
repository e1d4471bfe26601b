"""Several scans of one head, filled with one anatomy: contrasts, and two times."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib import InputError, Settings, inpaint, inpaint_together, prediction
from MedInpaintLib.kept import Kept
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.volumes.image import like
from scipy import ndimage

pytestmark = pytest.mark.usefixtures("fast_engine")

SPACING = 2.5  # mm
SETTINGS = Settings(device="cpu", iterations=15)
QUICK = replace(SETTINGS, iterations=0)
TISSUES = (0, 0.2, 0.5, 0.8, 1.2)  # intensities of a T1-weighted scan: nothing, fluid, grey and white matter, vessels
FLAIR = (0, 0.2, 1.0, 0.6, 0.5)
MOTION = sitk.Euler3DTransform((5, -20, 10), 0.06, -0.04, 0.05, (4.0, -3.0, 5.0))  # radians, mm


def voxels(image):
    return sitk.GetArrayFromImage(image)


def on_grid(image, spacing, motion=None, turn=0.0):
    """An image on a new grid of this spacing that holds all of it, after a motion of the head."""
    motion = motion or sitk.Transform()
    reach = np.array(image.GetSize()) * image.GetSpacing() + 40
    size = [int(length / spacing) for length in reach]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing([spacing] * 3)
    cos, sin = np.cos(turn), np.sin(turn)
    grid.SetDirection([1, 0, 0, 0, cos, -sin, 0, sin, cos])
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    offset = np.subtract(grid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size]), 0)
    grid.SetOrigin(np.subtract(motion.TransformPoint(middle), offset).tolist())
    return sitk.Resample(image, grid, motion.GetInverse(), sitk.sitkLinear, 0.0)


@pytest.fixture(scope="module")
def full():
    """A brain-extracted T1-weighted scan at 1 mm, float32, white matter near 0.8."""
    scan = sitk.Cast(sitk.ReadImage(str(resources_folder() / "SampleData" / "MSPatient26_T1.nii.gz")), sitk.sitkFloat32)
    return scan * (0.8 / float(np.percentile(voxels(scan)[voxels(scan) > 0], 75)))


def coarse(image, spacing=SPACING, **options):
    smooth = sitk.SmoothingRecursiveGaussian(image, 0.4 * spacing)
    result = on_grid(smooth, spacing, **options)
    return like(result, np.where(voxels(result) > 0.08, voxels(result), 0).astype(np.float32))


@pytest.fixture(scope="module")
def scan(full):
    return coarse(full)


def contrast(image, curve=FLAIR):
    return like(image, np.interp(voxels(image), TISSUES, curve).astype(np.float32))


def ball(scan, beside=(15, 0, 22), radius=9.0):
    """A ball at this distance (mm) from the middle of a brain, as a mask."""
    values = voxels(scan)
    middle = np.array(ndimage.center_of_mass(values > 0)) + np.array(beside) / SPACING
    there = sum((i - m) ** 2 for i, m in zip(np.indices(values.shape), middle, strict=True)) <= (radius / SPACING) ** 2
    return like(scan, there.astype(np.uint8))


@pytest.fixture(scope="module")
def kept():
    """Keeps the model and the alignment of the scan from test to test."""
    return Kept()


@pytest.fixture(scope="module")
def mask(scan):
    return ball(scan)


@pytest.fixture(scope="module")
def moved(full):
    """A FLAIR of the same head, which has moved, on a turned and coarser grid; noisy."""
    image = contrast(coarse(full, 3.0, motion=MOTION, turn=0.2))
    noise = np.random.default_rng(0).normal(0, 0.01, voxels(image).shape)
    return like(image, np.where(voxels(image) > 0, voxels(image) + noise, 0).astype(np.float32))


@pytest.fixture(scope="module")
def pair(scan, mask, moved, kept, fast_engine):
    """A T1-weighted scan and the moved FLAIR, filled together."""
    return inpaint_together([scan, moved], [mask, None], SETTINGS, kept=kept)


def test_every_scan_keeps_its_own_grid_and_all_bits_outside_its_hole(pair, scan, moved, mask):
    for result, before in zip(pair, (scan, moved), strict=True):
        assert result.image.GetSize() == before.GetSize()
        assert result.image.GetOrigin() == before.GetOrigin()
        assert result.image.GetDirection() == before.GetDirection()
        assert result.image.GetPixelID() == before.GetPixelID()
        changed = voxels(result.image).view(np.uint32) != voxels(before).view(np.uint32)
        assert not (changed & ~result.hole).any()
        assert changed[result.hole].mean() > 0.9
    assert np.array_equal(pair[0].hole, voxels(mask) > 0)


def test_a_moved_scan_is_registered_back_within_half_a_millimetre(pair, scan, moved, mask):
    there = np.argwhere(voxels(mask) > 0).mean(axis=0)[::-1]
    expected = MOTION.TransformPoint(scan.TransformContinuousIndexToPhysicalPoint(there.tolist()))
    found = np.argwhere(pair[1].hole).mean(axis=0)[::-1]
    assert np.linalg.norm(np.subtract(moved.TransformContinuousIndexToPhysicalPoint(found.tolist()), expected)) < 0.5
    volumes = [result.report["lesion"]["volume_ml"] for result in pair]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.1)
    brain = np.argwhere(voxels(scan) > 0)[::50, ::-1]
    points = [scan.TransformIndexToPhysicalPoint(index) for index in brain.tolist()]
    motion = np.mean([np.linalg.norm(np.subtract(MOTION.TransformPoint(point), point)) for point in points])
    assert pair[1].report["together"]["moved_mm"] == pytest.approx(motion, abs=0.5)
    assert pair[0].report["together"] == {"scan": 1, "of": 2, "moved_mm": 0.0, "shown_by_others": 0.0}


def test_each_scan_is_filled_with_its_own_contrast(pair, scan, moved):
    assert [result.report["contrast"]["name"] for result in pair] == ["T1", "FLAIR"]
    for result, truth in zip(pair, (scan, moved), strict=True):
        values, brain = voxels(truth), voxels(truth) > 0
        error = np.abs(voxels(result.image) - values)[result.hole].mean()
        assert error < 0.6 * values[brain].std()


def test_one_scan_alone_has_the_same_bits_either_way(scan, mask, kept):
    alone, (listed,) = inpaint(scan, mask, QUICK), inpaint_together([scan], [mask], QUICK, kept=kept)
    for one, other in ((alone.image, listed.image), (alone.generated, listed.generated)):
        assert sitk.Hash(one) == sitk.Hash(other)
    assert "together" not in alone.report


def test_neither_a_noisy_scan_nor_a_clear_one_loses_much_by_the_other(scan, mask, kept):
    truth = contrast(scan)
    noise = np.random.default_rng(1).normal(0, 0.25, voxels(truth).shape)
    noisy = like(truth, np.where(voxels(truth) > 0, voxels(truth) + noise, 0).astype(np.float32))
    alone = inpaint(noisy, mask, SETTINGS)
    clear, together = inpaint_together([scan, noisy], [mask, None], SETTINGS, kept=kept)
    hole = voxels(mask) > 0
    error, error_alone = (np.abs(voxels(each.image) - voxels(truth))[hole].mean() for each in (together, alone))
    assert error < 1.1 * error_alone
    plain = inpaint(scan, mask, SETTINGS, kept=kept)
    error, error_alone = (np.abs(voxels(each.image) - voxels(scan))[hole].mean() for each in (clear, plain))
    assert error < 1.1 * error_alone


def test_two_times_of_an_unchanged_head_get_nearly_the_same_fill(scan, mask, kept):
    """Only the noise differs."""
    rng = np.random.default_rng(2)
    brain = voxels(scan) > 0
    times = [like(scan, (voxels(scan) + brain * rng.normal(0, 0.02, brain.shape)).astype(np.float32)) for _ in range(2)]
    hole = voxels(mask) > 0
    first, second = (voxels(each.image)[hole] for each in inpaint_together(times, [mask, mask], SETTINGS, kept=kept))
    difference, error = (np.sqrt(np.mean((first - other) ** 2)) for other in (second, voxels(scan)[hole]))
    assert difference < 0.02
    assert difference < 0.5 * error


NOISE = 0.01


def before_and_after(scan, mask, lesion_before=False):
    """Two scans of a head with other gains and noise; the second has a dark lesion in the mask."""
    rng, lesion = np.random.default_rng(3), voxels(mask) > 0
    for gain, there in ((1.0, lesion_before), (1.3, True)):
        values = np.where(lesion & there, 0.4, voxels(scan))
        values += (values > 0) * rng.normal(0, NOISE, values.shape)
        yield like(scan, (gain * values).astype(np.float32))


def test_a_new_lesion_is_filled_with_what_the_scan_before_shows(scan, mask, kept):
    before, after = before_and_after(scan, mask)
    alone = inpaint(after, mask, SETTINGS)
    _, together = inpaint_together([before, after], [ball(scan, (-15, 0, 22), 6), mask], SETTINGS, kept=kept)
    hole = voxels(mask) > 0
    error, error_alone = (
        np.sqrt(np.mean((voxels(each.image) / 1.3 - voxels(scan))[hole] ** 2)) for each in (together, alone)
    )
    assert error < 1.5 * NOISE
    assert error < 0.5 * error_alone
    unchanged = voxels(together.image)[~hole] == voxels(after)[~hole]
    assert unchanged.all()
    assert together.report["together"]["shown_by_others"] == 1.0


def test_a_lesion_that_the_scan_before_has_but_its_mask_does_not_cover_is_not_copied(scan, mask, kept):
    before, after = before_and_after(scan, mask, lesion_before=True)
    _, together = inpaint_together([before, after], [ball(scan, (-15, 0, 22), 6), mask], SETTINGS, kept=kept)
    hole = voxels(mask) > 0
    assert np.median(voxels(together.image)[hole]) > 1.3 * 0.9 * np.median(voxels(scan)[hole])
    assert together.report["together"]["shown_by_others"] == 0.0


def test_only_a_scan_of_the_same_contrast_shows_what_lies_in_a_hole(scan, mask, kept, monkeypatch):
    seen = []
    shown = prediction.shown_by_others
    monkeypatch.setattr(prediction, "shown_by_others", lambda *given: seen.append(shown(*given)) or seen[-1])
    elsewhere = ball(scan, (-15, 0, 22), 6)
    inpaint_together([scan, contrast(scan), scan], [mask, elsewhere, elsewhere], SETTINGS, kept=kept)
    hole, other_hole = voxels(mask) > 0, voxels(elsewhere) > 0
    t1, flair, second_t1 = seen
    assert flair is None
    for found, there in ((t1, hole), (second_t1, other_hole)):
        assert np.isfinite(found).any()
        assert np.count_nonzero(np.isfinite(found)) > 0.9 * there.sum()


# --- bad input


def noise_alone(scan):
    return like(scan, np.random.default_rng(0).uniform(1, 1000, voxels(scan).shape).astype(np.float32))


def half_a_brain(scan):
    """The lower part of the brain, without the place of the hole."""
    return scan[:, :, : scan.GetSize()[2] // 2 - 4]


@pytest.mark.parametrize(
    ("second", "masks", "words"),
    [
        (noise_alone, 1, "Scan 2: The scan cannot be registered"),
        (half_a_brain, 1, "Scan 2: "),
        (lambda scan: scan * 0, 1, "Scan 2: The scan has the same value in every voxel"),
        (lambda scan: scan, 0, "The first scan has no mask"),
        (lambda scan: scan, 2, "Scan 2: The mask is empty"),
    ],
    ids=["noise", "half a brain", "one value", "no mask", "empty mask"],
)
def test_a_further_scan_that_cannot_be_used_is_named_in_one_sentence(scan, mask, kept, second, masks, words):
    given = {0: [None, None], 1: [mask, None], 2: [mask, mask * 0]}[masks]
    with pytest.raises(InputError, match=words) as error:
        inpaint_together([scan, second(scan)], given, QUICK, kept=kept)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_the_papers_search_takes_one_scan(scan, mask):
    with pytest.raises(InputError, match="leave out slicewise"):
        inpaint_together([scan, scan], [mask, None], Settings.preset("study"))
