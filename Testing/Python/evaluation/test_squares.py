"""Squares: one slice of the aligned brain, two-dimensional for every fill. On a synthetic brain of 4 mm voxels."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from brains import SHAPE, six_brains
from MedInpaintLib.blending.blend import MODEL_ERROR
from MedInpaintLib.blending.poisson import harmonic_fill
from MedInpaintLib.blending.rim import Rim
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation.fills.baselines import harmonic
from MedInpaintLib.evaluation.fills.models import latent_fill
from MedInpaintLib.evaluation.holes.squares import cut_square
from MedInpaintLib.evaluation.measures.measure_fill import measure_fill
from MedInpaintLib.prediction import Prediction
from MedInpaintLib.search.latent import Generated
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.intensities import LEVELS
from MedInpaintLib.volumes.image import like

TEMPLATE = six_brains().template


@pytest.fixture(scope="module")
def square(subject):
    return cut_square("square25", 0, subject, TEMPLATE, seed=0)


def test_the_slice_is_the_aligned_brains_in_model_intensities(square):
    part, _, case = square
    height = int(case.slices.heights[0])
    brain = six_brains().tuning
    tissue = brain[brain > 0]
    scale = tissue[(tissue >= np.percentile(tissue, 50)) & (tissue <= np.percentile(tissue, 98))].mean() / 0.75
    difference = np.abs(sitk.GetArrayFromImage(part.scan)[0] - brain[height] / scale)[part.brain[0]]
    assert np.median(difference) < 0.03  # it was turned and shifted, rounded, aligned and brought back


@pytest.mark.parametrize(("kind", "side"), [("square12", 4), ("square25", 9), ("square40", 14)])
@pytest.mark.parametrize("index", range(4))
def test_a_square_has_its_share_of_the_slices_width_and_lies_in_the_middle_of_the_brain(subject, kind, side, index):
    part, hole, case = cut_square(kind, index, subject, TEMPLATE, seed=0)
    assert part.scan.GetSize() == (SHAPE[2], SHAPE[1], 1)
    assert hole.voxels.sum() == side**2
    assert (np.ptp(np.argwhere(hole.voxels), axis=0) + 1).tolist() == [1, side, side]
    levels = np.flatnonzero(sitk.GetArrayFromImage(TEMPLATE.brain).any(axis=(1, 2)))
    share = (case.slices.heights[0] - levels[0]) / (levels[-1] - levels[0])
    assert 0.25 < share < 0.8
    assert part.brain.sum() >= 2 * side**2


def test_the_slice_lies_where_it_is_in_the_template(square):
    part, _, case = square
    height = int(case.slices.heights[0])
    assert part.scan.GetOrigin() == TEMPLATE.image.TransformIndexToPhysicalPoint((0, 0, height))
    assert case.alignment.transform.TransformPoint((1.0, 2.0, 3.0)) == (1.0, 2.0, 3.0)


def test_a_square_depends_only_on_its_kind_its_index_the_scans_name_and_the_seed(subject):
    def drawn(kind="square25", index=1, seed=3, name=subject.name):
        _, hole, case = cut_square(kind, index, replace(subject, name=name), TEMPLATE, seed)
        return case.slices.heights[0], *np.argwhere(hole.voxels)[0]

    assert drawn() == drawn()
    for other in ({"index": 2}, {"seed": 4}, {"name": "sub-6"}):
        assert drawn() != drawn(**other)


def test_the_truth_in_the_square_is_hidden_from_the_case(subject, square):
    _, hole, case = square
    assert not case.values[hole.voxels].any()
    assert not case.slices.image[hole.voxels].any()
    assert not case.slices.context[hole.voxels].any()
    assert case.slices.unknown[hole.voxels].all()


def test_the_harmonic_fill_of_a_square_is_two_dimensional(square):
    part, hole, case = square
    truth = sitk.GetArrayFromImage(part.scan)
    stacked, holes = np.repeat(truth, 2, axis=0), np.repeat(hole.voxels, 2, axis=0)
    holes[1] = False  # a neighbour with the truth in it would help
    assert np.abs(harmonic_fill(stacked, holes, (1.5, 4, 4)) - harmonic(case)).max() > 0.01
    far_apart = harmonic_fill(stacked, holes, (1e6, 4, 4))
    assert harmonic(case) == pytest.approx(far_apart, abs=1e-4)


def test_psnr_of_the_whole_slice_follows_from_that_of_the_square(square):
    part, hole, case = square
    row, _ = measure_fill(part, hole, case, "harmonic", harmonic, 0.0)
    pixels = SHAPE[1] * SHAPE[2]
    assert row.slice_psnr == pytest.approx(row.psnr + 10 * np.log10(pixels / hole.voxels.sum()))


def test_a_generated_slice_without_error_comes_back_unchanged(square):
    """A slice generated without error comes back through resampling and blending; Matérn's holds detail for error."""
    part, hole, case = square
    truth = sitk.GetArrayFromImage(part.scan)
    prediction = Prediction(
        truth, None, Generated(truth, truth, np.zeros(len(truth)), LEVELS, True, 0), case.slices, Rim(None, None, 0.0)
    )
    for blending in ("matern", "3d", "2d", "none"):
        fill = latent_fill(lambda case, settings: prediction, Settings(blending=blending))
        error = MODEL_ERROR if blending == "matern" else 1e-4
        assert fill(case) == pytest.approx(truth[hole.voxels], abs=error)


@pytest.mark.parametrize("name", ["harmonic", "biharmonic", "telea"])
def test_every_baseline_fills_a_square_and_changes_nothing_else(baselines, square, name):
    part, hole, case = square
    row, voxels = measure_fill(part, hole, case, name, baselines[name], 0.0)
    assert (row.changed_outside, row.same_geometry, row.same_type) == (0, 1, 1)
    assert np.isfinite(voxels).all()
    assert row.psnr > 10


def test_a_heads_skull_is_no_context_of_a_square(subject):
    head = replace(subject, alignment=replace(subject.alignment, extracted=False))
    part, _, case = cut_square("square25", 0, head, TEMPLATE, seed=0)
    edge = TEMPLATE.edge[case.slices.heights]
    brain = sitk.GetArrayFromImage(TEMPLATE.brain)[case.slices.heights] > 0
    assert case.slices.unknown[edge].all()
    assert not case.slices.context[edge | ~brain].any()
    assert not case.slices.image[~brain].any()
    assert (sitk.GetArrayFromImage(part.scan)[~brain] > 0).any()


def test_a_square_for_which_no_slice_has_room_is_refused(subject):
    voxels = sitk.GetArrayFromImage(TEMPLATE.brain)
    voxels[:, : SHAPE[1] // 2] = 0
    half = replace(TEMPLATE, brain=like(TEMPLATE.brain, voxels))
    with pytest.raises(InputError, match="smaller squares"):
        cut_square("square50", 0, subject, half, seed=0)
