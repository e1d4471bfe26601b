"""The template: the poses of the scans, the model grid and its midplane, against closed forms."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.models.registry import find_model
from MedInpaintLib.training.slices import template as templates
from synthetic import rotation


def test_a_matrix_says_the_same_as_its_transform_whatever_the_centre():
    transform = sitk.AffineTransform(3)
    transform.SetCenter((10.0, -20.0, 30.0))
    transform.SetMatrix((rotation(20) * 1.1).ravel().tolist())
    transform.SetTranslation((3.0, 2.0, -1.0))
    matrix = templates.to_matrix(transform)
    back = templates.to_transform(matrix)
    for point in ((0.0, 0.0, 0.0), (50.0, -3.0, 7.0)):
        assert back.TransformPoint(point) == pytest.approx(transform.TransformPoint(point))
        assert matrix @ [*point, 1] == pytest.approx([*transform.TransformPoint(point), 1])
    np.testing.assert_allclose(templates.to_matrix(back), matrix, atol=1e-12)


def test_fits_are_taken_relative_to_their_mean_pose_and_size():
    fits = []
    for turn, scale in ((10, 1.1), (-10, 1.1), (10, 1.2), (-10, 1.2)):
        matrix = np.eye(4)
        matrix[:3, :3] = scale * rotation(turn)
        matrix[:3, 3] = (5.0, 0.0, turn)
        fits.append(matrix)
    common = [templates._common(matrix, fits) for matrix in fits]
    np.testing.assert_allclose(np.mean(common, axis=0)[:3, :3], np.eye(3), atol=1e-12)
    # From one scan to another it is the same way as before.
    np.testing.assert_allclose(common[0] @ np.linalg.inv(common[2]), fits[0] @ np.linalg.inv(fits[2]), atol=1e-9)


def test_the_model_grid_is_centred_on_the_origin():
    grid = templates.model_grid()
    middle = grid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in grid.GetSize()])
    assert middle == pytest.approx((0, 0, 0))
    assert all(n % 16 == 0 for n in grid.GetSize()[:2])  # what the networks need


def test_a_tilted_brain_is_rotated_to_its_midplane(monkeypatch):
    monkeypatch.setattr(templates, "SIZE", (48, 64, 52))  # half of the model grid
    monkeypatch.setattr(templates, "SPACING", 3.0)
    shipped = find_model("linear").template()
    half = [sitk.BinShrink(sitk.Cast(part, sitk.sitkFloat32), [2, 2, 2]) for part in (shipped.image, shipped.brain)]
    tilt = sitk.Euler3DTransform()
    tilt.SetRotation(0.0, np.deg2rad(5), np.deg2rad(7))
    tilt.SetTranslation((4.0, 0.0, 0.0))
    image, brain = (sitk.GetArrayFromImage(sitk.Resample(part, part, tilt, sitk.sitkLinear, 0.0)) for part in half)
    average, share = templates._symmetric(image, brain)
    np.testing.assert_array_equal(average, average[..., ::-1])
    np.testing.assert_array_equal(share, share[..., ::-1])

    def mirrored(array):
        return np.corrcoef(array.ravel(), array[..., ::-1].ravel())[0, 1]

    assert mirrored(image) < 0.9
    # Averaging two halves that do not match would blur: contrast within the brain is kept.
    original, inside = (sitk.GetArrayFromImage(part) for part in half)
    assert average[inside > 0.5].std() > 0.9 * original[inside > 0.5].std()
