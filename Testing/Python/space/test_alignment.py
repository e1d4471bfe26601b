"""The registration of a template to scans made from it with a known transform."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.errors import InputError
from MedInpaintLib.models.registry import find_model
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.alignment import Alignment, align, fill_cavities, is_brain_extracted
from MedInpaintLib.space.registration import mutual_information
from MedInpaintLib.space.resampling import resample_mask
from scipy import ndimage
from synthetic import as_mask, centred, rotation, volume

CENTRE = (25.0, -10.0, 15.0)  # mm, of the brain in the scan
FIELD = (200, 240, 200)  # mm


@pytest.fixture(scope="module")
def template():
    return find_model(Settings().model).template()


def pose(pitch=12.0, yaw=5.0, roll=-4.0, scale=1.1, stretch=(1.0, 1.03, 0.97), shift=CENTRE):
    """The transform from a point of the template to the point of the scan."""
    euler = sitk.Euler3DTransform()
    euler.SetRotation(*np.deg2rad([pitch, roll, yaw]))
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((np.reshape(euler.GetMatrix(), (3, 3)) * scale * stretch).ravel().tolist())
    transform.SetTranslation(shift)
    return transform


def grid(spacing=(4.0, 4.0, 4.0), direction=None, centre=CENTRE, field=FIELD):
    """An empty volume with this centre and field of view."""
    size = [round(length / side) for length, side in zip(field, spacing, strict=True)]
    return centred(size, spacing, direction, centre)


def posed(image, transform, on):
    """An image, moved by the transform, on a grid."""
    return sitk.Resample(image, on, transform.GetInverse(), sitk.sitkLinear, 0.0) * 1000


def aligned(scan, template, hole=None):
    values = sitk.GetArrayFromImage(scan)
    return align(scan, values, np.zeros(values.shape, bool) if hole is None else hole, template)


def displacement(found, true, template):
    """Mean distance in mm between the positions to which two transforms move the template's brain."""
    voxels = np.argwhere(sitk.GetArrayViewFromImage(template.brain))[::1009, ::-1]
    points = [template.brain.TransformIndexToPhysicalPoint(voxel.tolist()) for voxel in voxels]
    differences = [np.subtract(found.TransformPoint(point), true.TransformPoint(point)) for point in points]
    return np.linalg.norm(differences, axis=1).mean()


def overlap(a, b):
    """Dice coefficient."""
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize(
    ("on", "limit"),
    [
        (grid(), 1.0),
        (grid(direction=rotation(25) @ np.diag([-1, 1, 1]), field=(230, 250, 230)), 1.0),
        (grid(spacing=(2.0, 2.0, 5.0), direction=np.diag([1, -1, 1])), 1.0),
        (grid(centre=(25, -10, -15), field=(200, 240, 140)), 4.0),
        (grid(centre=(25, 20, 15), field=(200, 165, 200)), 4.0),
    ],
    ids=["shifted and tilted", "oblique and left-handed", "5 mm slices", "top cut off", "front cut off"],
)
def test_a_known_pose_is_recovered(template, on, limit):
    true = pose()
    found = aligned(posed(template.image, true, on), template)
    assert displacement(found.transform, true, template) < limit
    assert overlap(found.brain, resample_mask(template.brain, on, true.GetInverse())) > 0.97
    assert found.extracted
    assert found.quality > 0.95
    assert not found.poor


def test_a_head_is_recognised_and_aligned_by_its_brain(template):
    # Around the brain: dark skull and fluid from 3 to 6 mm, bright scalp to 13 mm, then air of exactly 0. The faces of
    # this volume look like those of a brain-extracted scan.
    pad = [20] * 3
    brain = sitk.GetArrayFromImage(sitk.ConstantPad(template.brain, pad, pad)) > 0
    image = sitk.ConstantPad(template.image, pad, pad)
    far = ndimage.distance_transform_edt(~brain, sampling=image.GetSpacing()[::-1])
    array = sitk.GetArrayFromImage(image)
    array[(far > 3) & (far <= 6)] = 0.1
    array[(far > 6) & (far <= 13)] = 0.9
    head = sitk.GetImageFromArray(array)
    head.CopyInformation(image)
    true = pose(pitch=-8, scale=0.95, stretch=(1, 1, 1))
    on = grid(field=(225, 270, 225))
    found = aligned(posed(head, true, on), template)
    assert not found.extracted
    assert displacement(found.transform, true, template) < 2
    assert overlap(found.brain, resample_mask(template.brain, on, true.GetInverse())) > 0.95


def test_the_content_of_the_hole_changes_nothing(template):
    scan = posed(template.image, pose(), grid())
    hole = np.zeros(scan.GetSize()[::-1], bool)
    hole[22:34, 25:38, 29:39] = True
    found = []
    for lesion in (0.0, 30000.0):
        values = sitk.GetArrayFromImage(scan)
        values[hole] = lesion
        found.append(align(scan, values, hole, template))
    dark, bright = found
    assert dark.transform.GetParameters() == bright.transform.GetParameters()
    assert dark.transform.GetFixedParameters() == bright.transform.GetFixedParameters()
    assert dark.quality == bright.quality
    assert np.array_equal(dark.brain, bright.brain)
    assert displacement(dark.transform, pose(), template) < 1


def test_a_brain_without_anatomy_is_refused(template):
    scan = posed(template.image, pose(), grid())
    values = sitk.GetArrayFromImage(scan)
    noise = np.random.default_rng(0).uniform(100, 1000, values.shape)
    values = np.where(values > 0, noise, 0).astype(np.float32)
    with pytest.raises(InputError, match="does not look like a brain MRI"):
        align(scan, values, np.zeros(values.shape, bool), template)


@pytest.mark.parametrize(("quality", "poor"), [(-1.0, True), (0.0, True), (0.59, True), (0.61, False), (1.0, False)])
def test_poor_is_a_matter_of_the_correlation(quality, poor):
    assert Alignment(sitk.AffineTransform(3), np.ones((1, 1, 1), bool), quality, True).poor is poor


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_what_a_mask_encloses_is_filled_as_scipy_does_it(share):
    mask = np.random.default_rng(0).random((9, 10, 11)) < share
    np.testing.assert_array_equal(fill_cavities(mask), ndimage.binary_fill_holes(mask))


def test_a_brain_extracted_scan_is_recognised_by_the_zeros_around_the_brain():
    z, y, x = np.indices((30, 30, 30)) - 15
    ball = ((z**2 + y**2 + x**2) < 12**2).astype(np.float32)
    noise = np.random.default_rng(0).uniform(1, 20, ball.shape)
    nothing = np.zeros(ball.shape, bool)
    assert is_brain_extracted(ball, nothing)
    assert is_brain_extracted(ball[8:], nothing[8:])  # cut off below
    assert not is_brain_extracted(ball + noise, nothing)
    assert not is_brain_extracted(np.ones_like(ball), nothing)
    close = np.s_[5:25, 5:25, 5:25]  # too few zeros to be sure
    assert not is_brain_extracted(ball[close], nothing[close])
    hole = ball == 0  # zeros of a hole say nothing
    assert not is_brain_extracted(ball, hole)


def test_mutual_information_against_closed_forms():
    levels = (np.arange(8) + 0.5) / 8
    sample = np.repeat(levels, 64)
    assert mutual_information(sample, sample, bins=8) == pytest.approx(np.log(8))
    assert mutual_information(sample, 1 - sample, bins=8) == pytest.approx(np.log(8))
    assert mutual_information(sample, np.tile(levels, 64), bins=8) == pytest.approx(0, abs=1e-12)
    assert mutual_information(sample, (sample > 0.5) * 0.9, bins=8) == pytest.approx(np.log(2))


def test_a_mask_is_carried_through_a_transform_to_another_grid():
    hole = np.zeros((10, 12, 14), bool)
    hole[3:6, 4:8, 5:10] = True
    mask = as_mask(hole, spacing=(2, 2, 2), origin=(0, 0, 0))
    on = volume(np.zeros((10, 12, 14), np.float32), spacing=(2, 2, 2), origin=(0, 0, 0))
    shift = sitk.TranslationTransform(3, (4.0, 0.0, -2.0))
    np.testing.assert_array_equal(resample_mask(mask, on, sitk.Transform()), hole)
    np.testing.assert_array_equal(resample_mask(mask, on, shift), np.roll(hole, (1, 0, -2), (0, 1, 2)))
