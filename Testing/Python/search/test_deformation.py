"""The deformation of decoded slices: splines in closed form, and pictures that move where they should."""

import numpy as np
import pytest
import torch
from MedInpaintLib.search.deformation import Deformation, roughness, spline_basis

HEIGHTS = np.arange(7, 17)
SIZE = (40, 32)
CPU = torch.device("cpu")


@pytest.fixture
def deformation():
    return Deformation(HEIGHTS, SIZE, CPU)


def picture():
    return torch.rand(len(HEIGHTS), 1, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("length", "distance"), [(1, 8), (9, 8), (10, 4), (96, 8)])
def test_splines_add_up_to_one_and_reproduce_a_straight_line(length, distance):
    positions = np.arange(length)
    basis = spline_basis(positions, distance)
    assert (basis >= 0).all()
    torch.testing.assert_close(basis.sum(dim=1), torch.ones(length))
    places = distance * torch.arange(-1.0, basis.shape[1] - 1)
    torch.testing.assert_close(basis @ places, torch.as_tensor(positions).float(), atol=1e-4, rtol=0)


def test_a_spline_is_two_thirds_at_its_knot_and_a_sixth_at_the_next_ones():
    basis = spline_basis(np.arange(17), 8)
    torch.testing.assert_close(basis[8, 1:4], torch.tensor([1 / 6, 2 / 3, 1 / 6]))
    assert (basis[8, [0, 4]] == 0).all()


def test_slices_left_out_of_a_stack_leave_the_others_where_they_are():
    knots = torch.randn(Deformation(HEIGHTS, SIZE, CPU).knots, generator=torch.Generator().manual_seed(1))
    whole = Deformation(HEIGHTS, SIZE, CPU).displacement(knots)
    part = Deformation(HEIGHTS[[0, 4, 9]], SIZE, CPU).displacement(knots)
    torch.testing.assert_close(part, whole[[0, 4, 9]])


def test_knots_at_rest_leave_every_pixel_as_it_is(deformation):
    image = picture()
    displacement = deformation.displacement(torch.zeros(deformation.knots))
    assert displacement.shape == (len(HEIGHTS), *SIZE, 2)
    torch.testing.assert_close(deformation.warp(image, displacement), image, atol=1e-5, rtol=0)


def test_equal_knots_shift_the_slices_by_as_many_pixels(deformation):
    image = picture()
    knots = torch.zeros(deformation.knots)
    knots[0], knots[1] = 3, -2  # to the right of and above each pixel lies the one that comes there
    moved = deformation.warp(image, deformation.displacement(knots))
    torch.testing.assert_close(moved[..., 2:, :-3], image[..., :-2, 3:], atol=1e-4, rtol=0)


def test_some_pixels_of_slices_with_many_channels_are_those_of_the_whole(deformation):
    random = torch.Generator().manual_seed(3)
    image = torch.rand(1, 5, *SIZE, generator=random)
    displacement = torch.randn(1, *SIZE, 2, generator=random)
    pixels = torch.rand(SIZE, generator=random) < 0.1
    some = deformation.warp_pixels(image, displacement, pixels)
    torch.testing.assert_close(some, deformation.warp(image, displacement)[:, :, pixels], atol=1e-6, rtol=0)
    assert some.std() > 0.1


def test_slices_with_knots_of_their_own_are_displaced_as_in_their_stack(deformation):
    knots = torch.randn(3, *deformation.knots, generator=torch.Generator().manual_seed(2))
    indices = torch.tensor([0, 7, 4])
    expected = torch.stack([deformation.displacement(one)[n] for one, n in zip(knots, indices, strict=True)])
    torch.testing.assert_close(deformation.displacement_at(knots, indices), expected)


def test_a_rough_deformation_is_less_plausible_than_a_smooth_one_of_the_same_size(deformation):
    smooth = torch.ones(deformation.knots)
    rough = smooth.clone()
    rough[:, ::2] *= -1
    assert roughness(smooth) == smooth.numel()
    assert roughness(rough) > 5 * roughness(smooth)
