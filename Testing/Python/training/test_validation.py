"""The validation's holes and slices in model-space brains."""

import numpy as np
from MedInpaintLib.space.slices import NEIGHBOURS
from MedInpaintLib.training import validation


def test_a_round_hole_is_a_ball_in_the_brain():
    brain = np.zeros((30, 40, 40), np.float32)
    brain[5:25, 8:32, 8:32] = 0.7
    hole = validation.round_hole(brain, 4.0, np.random.default_rng(0))
    places = np.argwhere(hole)
    assert hole.sum() == 257  # lattice points within 4 of the middle
    assert brain[hole].all()
    assert np.linalg.norm(places - places.mean(axis=0), axis=1).max() <= 4


def test_slices_of_a_model_space_brain_contain_all_but_the_hole():
    brain = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
    hole = np.zeros(brain.shape, bool)
    hole[10:13, 4:9, 4:9] = True
    slices = validation.model_space_slices(brain, hole)
    assert slices.heights.tolist() == list(range(10 - NEIGHBOURS, 13 + NEIGHBOURS))
    np.testing.assert_array_equal(slices.image, np.where(hole, 0, brain)[slices.heights])
    np.testing.assert_array_equal(slices.hole, hole[slices.heights])
    np.testing.assert_array_equal(slices.context, ~slices.hole)
