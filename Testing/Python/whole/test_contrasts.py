"""Other contrasts than T1, and scans that are no brain MRI: what the report says, and what is refused."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib import InputError, Settings, inpaint
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.volumes.image import like
from scipy import ndimage

pytestmark = pytest.mark.usefixtures("fast_engine")

SPACING = 3.0  # mm
SETTINGS = Settings(device="cpu", iterations=10)
TISSUES = (0, 0.2, 0.5, 0.8, 1.2)  # intensities of a T1-weighted scan: nothing, fluid, grey and white matter, vessels
CURVES = {"FLAIR": (0, 0.2, 1.0, 0.6, 0.5), "T2": (0, 1.6, 0.8, 0.5, 0.4)}


@pytest.fixture(scope="module")
def scan():
    """A brain-extracted T1-weighted scan, float32, white matter near 0.8."""
    full = sitk.ReadImage(str(resources_folder() / "SampleData" / "MSPatient26_T1.nii.gz"))
    size = [int(n * s / SPACING) for n, s in zip(full.GetSize(), full.GetSpacing(), strict=True)]
    smooth = sitk.SmoothingRecursiveGaussian(sitk.Cast(full, sitk.sitkFloat32), 0.4 * SPACING)
    coarse = sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, full.GetOrigin(), [SPACING] * 3, full.GetDirection(), 0.0
    )
    values = sitk.GetArrayFromImage(coarse)
    tissue = values > 100
    return like(coarse, np.where(tissue, values * (0.8 / np.percentile(values[tissue], 75)), 0).astype(np.float32))


def hole_in(scan):
    """A ball of 9 mm beside the middle of the scan."""
    values = sitk.GetArrayFromImage(scan)
    middle = np.array(ndimage.center_of_mass(values > 0)) + np.array([15, 0, 22]) / SPACING
    ball = sum((i - m) ** 2 for i, m in zip(np.indices(values.shape), middle, strict=True)) <= (9 / SPACING) ** 2
    return like(scan, ball.astype(np.uint8))


@pytest.mark.parametrize("name", CURVES)
def test_another_contrast_is_recognised_and_filled_with_its_own_intensities(scan, name):
    values = sitk.GetArrayFromImage(scan)
    remapped = np.interp(values, TISSUES, CURVES[name]).astype(np.float32)
    mask = hole_in(scan)
    hole = sitk.GetArrayFromImage(mask) > 0
    lesioned = np.where(hole, np.float32(1.5), remapped)
    result = inpaint(like(scan, lesioned), mask, SETTINGS)
    filled = sitk.GetArrayFromImage(result.image)
    assert result.report["contrast"]["name"] == name
    assert not result.report["contrast"]["straight"]
    assert np.array_equal(filled[~hole], lesioned[~hole])
    error, spread = np.abs(filled - remapped)[hole].mean(), remapped[values > 0].std()
    assert error < 0.8 * spread


def test_a_t1_weighted_scan_is_recognised(scan):
    contrast = inpaint(scan, hole_in(scan), SETTINGS).report["contrast"]
    assert contrast["name"] == "T1"
    assert contrast["straight"]
    assert len(contrast["levels"]) == len(contrast["curve"])
    white, grey = (contrast["curve"][contrast["levels"].index(level)] for level in (0.8, 0.5))
    assert white > grey > 0


def noise(scan):
    values = sitk.GetArrayFromImage(scan)
    return np.random.default_rng(0).uniform(1, 1000, values.shape)


def phantom(scan):
    """A ball of water with inserts, in air."""
    z, y, x = np.indices(scan.GetSize()[::-1]) - np.reshape(scan.GetSize()[::-1], (3, 1, 1, 1)) / 2
    ball = z**2 + y**2 + x**2 < (75 / SPACING) ** 2
    inserts = ((y // 8).astype(int) + (x // 8).astype(int)) % 2 == 0
    return np.where(ball, 800 + 300 * inserts, 0) + np.random.default_rng(0).normal(0, 5, ball.shape) * ball


def ct(scan):
    """A brain that is all alike, with noise, in a bright skull: HU + 1024."""
    brain = ndimage.binary_fill_holes(sitk.GetArrayFromImage(scan) > 0)
    distance = ndimage.distance_transform_edt(~brain, sampling=SPACING)
    values = np.select([brain, distance < 5, distance < 11, distance < 17], [1060, 1034, 2200, 1000], 24)
    return values + np.random.default_rng(0).normal(0, 6, brain.shape)


def ct_in_a_brain_window(scan):
    """Grey matter of 37 HU, white matter of 28 HU, fluid of 5 HU, with noise, without the skull."""
    values = sitk.GetArrayFromImage(scan)
    units = np.interp(values, TISSUES, (0, 5, 37, 28, 28)) + np.random.default_rng(0).normal(0, 3, values.shape)
    return units.clip(1, 80) * (values > 0)


def one_value(scan):
    """A brain that is all alike, with noise."""
    brain = sitk.GetArrayFromImage(scan) > 0
    return brain * np.random.default_rng(0).normal(1000, 5, brain.shape)


@pytest.mark.parametrize("other", [noise, phantom, ct, ct_in_a_brain_window, one_value])
def test_what_is_no_brain_mri_is_refused_or_gets_a_warning(scan, other):
    image = like(scan, other(scan).astype(np.float32))
    assert "brain" in words(image, hole_in(scan))


def words(image, mask):
    """The warnings that ask for a look at the result, or the refusal."""
    try:
        report = inpaint(image, mask, SETTINGS).report
    except InputError as error:
        return str(error)
    return " ".join(warning for warning in report["warnings"] if "look at" in warning)
