"""Fills do not use the truth, models are searched as their names say, and fills are measured as they are stored."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from brains import SPACING
from MedInpaintLib.blending.rim import Rim
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation.fills import models
from MedInpaintLib.evaluation.holes.cases import Hole, cut_hole
from MedInpaintLib.evaluation.measures.measure_fill import measure_fill
from MedInpaintLib.pipeline import Prediction
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.template import Template
from MedInpaintLib.volumes.image import like
from scipy import ndimage


@pytest.fixture(scope="module")
def twins(data, subject, hole):
    """The case with another truth in the hole, and the case with other tissue beside the hole."""
    rim = ndimage.binary_dilation(hole.voxels, iterations=2) & ~hole.voxels & subject.brain
    cases = []
    for voxels in (hole.voxels, rim):
        array = sitk.GetArrayFromImage(subject.scan)
        array[voxels] = 1200 - array[voxels]
        cases.append(cut_hole(replace(subject, scan=like(subject.scan, array)), hole, data.template, seed=0))
    return cases


@pytest.mark.parametrize("name", ["harmonic", "biharmonic", "telea", "mean", "linear"])
def test_the_truth_in_the_hole_changes_no_fill_and_tissue_beside_it_does(baselines, case, twins, name):
    fill, other_truth, other_rim = (baselines[name](each) for each in (case, *twins))
    assert np.array_equal(fill, other_truth)
    assert np.abs(fill - other_rim).mean() > 10


def test_the_linear_model_comes_closer_to_the_truth_than_the_harmonic_fill(baselines, subject, hole, case):
    linear, harmonic = (measure_fill(subject, hole, case, n, baselines[n], 0.0)[0] for n in ("linear", "harmonic"))
    assert linear.psnr > harmonic.psnr + 1


def test_a_fill_is_measured_as_rounded_to_the_scans_type(subject, hole, case):
    truth = sitk.GetArrayFromImage(subject.scan)[hole.voxels]
    row, voxels = measure_fill(subject, hole, case, "nearly", lambda case: truth + 0.4, 1.5)
    assert row.psnr == float("inf")
    assert row.preparation == 1.5
    assert voxels.dtype == np.int16
    assert np.array_equal(voxels, truth)
    assert row.hole_ml == pytest.approx(hole.voxels.sum() * SPACING**3 / 1000)


def test_voxels_changed_outside_the_hole_are_counted(subject, hole, case):
    wider = replace(case, hole=ndimage.binary_dilation(hole.voxels) & subject.brain)
    counts = [
        measure_fill(subject, hole, each, "one", lambda case: np.ones(case.hole.sum()), 0.0)[0].changed_outside
        for each in (case, wider)
    ]
    assert counts == [0, wider.hole.sum() - hole.voxels.sum()]


def test_the_row_of_a_fill_names_the_lesion_of_its_hole(subject, hole, case, baselines):
    named = Hole("lesions", 2, "patient07_consensus", hole.voxels, hole.lesion)
    row, _ = measure_fill(subject, named, case, "harmonic", baselines["harmonic"], 0.0)
    assert (row.kind, row.index, row.shape, row.fill) == ("lesions", 2, "patient07_consensus", "harmonic")
    assert row.case == "group_sub-5_T1w_lesions_2"


def test_a_model_of_another_space_is_refused(data, tmp_path):
    other = Template(data.template.image[:-2], data.template.brain)
    model = SimpleNamespace(name="other", folder=tmp_path, template=lambda: other)
    with pytest.raises(InputError, match="trained on other slices"):
        models.model_fills([model], data.template, Settings())


@pytest.fixture
def searched(data, tmp_path, monkeypatch):
    """A model whose search finds the mean brain; its fills, those of its ablations, and the settings of each search."""
    settings = []

    def predict(network, case, given, progress):
        settings.append(given)
        mean = data.brains(tuning=False).mean(axis=0)[case.slices.heights]
        return Prediction(mean, None, SimpleNamespace(slices=mean), case.slices, Rim(None, None, 0.0))

    monkeypatch.setattr(models, "predict", predict)
    model = SimpleNamespace(name="vae3", folder=tmp_path, template=lambda: data.template, network=lambda device: None)
    return *models.model_fills([model], data.template, Settings()), settings


def test_a_model_is_searched_without_prior_and_weighting_and_once_for_all_blendings(searched, case):
    full, ablated, settings = searched
    fills = {name: fill(case) for name, fill in (full | ablated).items()}
    assert list(fills) == ["vae3", *(f"vae3 {ablation}" for ablation in models.ABLATIONS)]
    lacking = [(one.prior, one.weighting, one.residual).count(False) for one in settings]
    assert lacking == [0, 1, 1, 1]
    assert np.abs(fills["vae3"] - fills["vae3 no blending"]).mean() > 1
    assert fills["vae3 with noise"].shape == fills["vae3"].shape


def test_the_slices_of_a_case_are_not_used_for_another_case(searched, case):
    full, ablated, settings = searched
    full["vae3"](case)
    ablated["vae3 no blending"](replace(case))
    assert len(settings) == 2


def test_two_models_of_one_name_are_refused(data, searched, tmp_path):
    model = SimpleNamespace(name="vae3", folder=tmp_path, template=lambda: data.template, network=lambda device: None)
    with pytest.raises(InputError, match="Two models are called 'vae3'"):
        models.model_fills([model, model], data.template, Settings())
