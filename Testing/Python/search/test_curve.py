"""The contrast curve in the search, against numpy's interpolation."""

import numpy as np
import torch
from MedInpaintLib.search.curve import along_line, as_model_sees, slope, through_curve
from MedInpaintLib.space.intensities import LEVELS

CURVE = torch.tensor(np.interp(LEVELS, (0, 0.2, 0.5, 0.8, 1.2), (0, 0.3, 1.1, 0.8, 0.7)), dtype=torch.float32)
LINE = torch.tensor(LEVELS, dtype=torch.float32)
SLICES = torch.rand(3, 1, 8, 9, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.1


def test_the_curve_interpolates_between_its_values_and_is_constant_beyond_them():
    expected = np.interp(SLICES.numpy(), LEVELS, CURVE.numpy())
    np.testing.assert_allclose(through_curve(CURVE, SLICES), expected, atol=1e-5)


def test_a_line_gives_what_a_curve_without_a_bend_gives():
    line = 1.3 * LINE - 0.1
    np.testing.assert_allclose(along_line(line, SLICES), through_curve(line, SLICES), atol=1e-5)


def test_the_gradient_reaches_the_curve_and_the_slices():
    values, slices = CURVE.clone().requires_grad_(), SLICES.clamp(0.01, 1.19).requires_grad_()
    through_curve(values, slices).sum().backward()
    assert abs(values.grad.sum() - SLICES.numel()) < 1e-2  # the weights of each pixel sum to 1
    step = 1e-3
    numeric = (through_curve(CURVE, slices + step) - through_curve(CURVE, slices - step)) / (2 * step)
    assert (slices.grad - numeric).abs().median() < 1e-2


def test_the_slope_of_a_line_is_its_gain_everywhere():
    inside = SLICES.clamp(0, 1.2)
    np.testing.assert_allclose(slope(1.7 * LINE + 0.2, inside), 1.7, rtol=1e-4)


def test_the_slope_changes_its_sign_at_the_top_of_a_curve():
    below, above = slope(CURVE, torch.tensor([0.3, 0.7]))
    assert below > 1
    assert above < -0.5


def test_a_line_is_undone_exactly_and_a_curve_near_the_mean():
    image, mean = SLICES, SLICES.flip(0)
    inside = (mean > 0.1) & (mean < 1.1)
    np.testing.assert_allclose(as_model_sees(LINE, image, mean)[inside], image[inside], atol=1e-5)
    mean = torch.full_like(SLICES, 0.35)
    scan = through_curve(CURVE, mean + 0.05)
    assert (as_model_sees(CURVE, scan, mean) - mean - 0.05).abs().max() < 0.02
