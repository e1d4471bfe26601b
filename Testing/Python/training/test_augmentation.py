"""Augmentation moves slices a little, and random holes have the sizes that they should have."""

import numpy as np
import pytest
import torch
from MedInpaintLib.training.slices.augment import SHARE, Shapes, augment, move_randomly, random_holes

SIZE = (48, 32)


def lopsided(n):
    """A bright block on the left, a mid-grey one on the right."""
    image = torch.zeros(n, 1, *SIZE)
    image[..., 12:36, 6:14] = 0.8
    image[..., 12:36, 18:26] = 0.4
    return image


def test_a_brain_gets_a_part_of_the_shape_of_another_one():
    """All points of the training brain's shape are to the right by 2 pixels: each slice moves by a part of this."""
    knots = np.zeros((1, 2, 5, 9, 7), np.float16)
    knots[:, 0] = 2.0
    shapes = Shapes(knots, (9, *SIZE), torch.device("cpu"))
    columns = torch.arange(32.0).expand(200, 1, *SIZE)
    moved = shapes.reshape(columns, torch.linspace(0, 1, 200), torch.Generator().manual_seed(0))
    shift = (moved - columns)[:, 0, 10:-10, 8:-8]
    assert (shift - shift.mean(dim=(1, 2), keepdim=True)).abs().max() < 1e-3
    shift = shift.mean(dim=(1, 2))
    assert shift.abs().max() <= 2 * SHARE + 1e-4
    assert shift.min() < -1.5 * SHARE
    assert shift.max() > 1.5 * SHARE


def test_augmentation_flips_about_half_and_moves_and_scales_a_little():
    changed = augment(lopsided(400), torch.Generator().manual_seed(0))
    assert changed.shape == (400, 1, *SIZE)
    left, right = (changed[..., part].mean(dim=(1, 2, 3)) for part in (slice(0, 16), slice(16, 32)))
    assert 0.4 < (left < right).float().mean() < 0.6
    assert ((left / right > 1.4) | (right / left > 1.4)).all()
    peak = changed.flatten(1).amax(dim=1)
    assert peak.max() <= 1.08 * 0.8**0.88 + 1e-3
    assert peak.min() >= 0.92 * 0.8**1.12 - 0.02
    assert peak.std() > 0.02
    mass = changed.clamp(max=1).sum(dim=(1, 2, 3)) / lopsided(1).sum()
    assert mass.min() > 0.75
    assert mass.max() < 1.3


def test_no_augmentation_moves_the_brain_out_of_the_slice():
    changed = augment(lopsided(200), torch.Generator().manual_seed(1))
    rows = torch.arange(SIZE[0]).view(1, 1, -1, 1)
    columns = torch.arange(SIZE[1]).view(1, 1, 1, -1)
    body = (changed > 0.1).float()
    middle = [(body * index).sum(dim=(1, 2, 3)) / body.sum(dim=(1, 2, 3)) for index in (rows, columns)]
    for axis, (found, length) in enumerate(zip(middle, SIZE, strict=True)):
        assert (found - (length - 1) / 2).abs().max() < 0.05 * length, axis
        assert found.std() > 0.1


def test_augmentation_bends_what_is_straight():
    rows = torch.arange(128.0).view(1, 1, -1, 1)
    ramp = (rows / 128).expand(50, 1, 128, 96)
    changed = augment(ramp, torch.Generator().manual_seed(0))[..., 24:104, 20:76]
    line = changed.mean(dim=-1, keepdim=True) + (changed - changed.mean(dim=-1, keepdim=True)).mean(
        dim=-2, keepdim=True
    )
    bend = (changed - line).flatten(1).std(dim=1) * 128  # pixels: what neither a shift nor a rotation explains
    assert 0.3 < bend.median() < 1.5


def test_the_channels_of_a_slice_move_alike_and_keep_their_intensities():
    image = lopsided(20)
    first, second = move_randomly(torch.cat([image, 0.5 * image], dim=1), torch.Generator().manual_seed(0)).split(
        1, dim=1
    )
    torch.testing.assert_close(second, 0.5 * first)
    assert not torch.allclose(first, image, atol=0.1)
    assert first.max() == pytest.approx(0.8, abs=1e-5)


def test_the_same_generator_gives_the_same_batch():
    first, again, other = (augment(lopsided(3), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_random_hole_reaches_the_brain_and_has_the_radius_it_should():
    image = torch.zeros(300, 1, 64, 64)
    image[..., 30:34, 30:34] = 0.7  # a small brain in the middle: no hole is cut by the border
    hole = random_holes(image, 1.5, torch.Generator().manual_seed(0), most=1)
    assert hole.shape == image.shape
    assert set(hole.unique().tolist()) == {0.0, 1.0}
    assert ((hole * image).flatten(1).sum(dim=1) > 0).all()
    radius = 1.5 * (hole.flatten(1).sum(dim=1) / torch.pi).sqrt()
    assert 2.3 < radius.min() < 4
    assert 18 < radius.max() < 25
    assert radius.median() == pytest.approx(3 * 8**0.5, rel=0.2)  # as many small as large ones


def test_a_slice_has_one_to_three_holes():
    image = torch.full((200, 1, 96, 96), 0.7)
    holes = random_holes(image, 4.0, torch.Generator().manual_seed(0))  # of 0.75 to 6 pixels
    area = holes.flatten(1).sum(dim=1)
    assert (area > 0).mean(dtype=torch.float32) > 0.98
    single = random_holes(image, 4.0, torch.Generator().manual_seed(0), most=1).flatten(1).sum(dim=1)
    assert 1.5 < area.mean() / single.mean() < 2.5
