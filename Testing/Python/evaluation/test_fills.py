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
from MedInpaintLib.models.registry import shipped_models
from MedInpaintLib.prediction import Prediction
from MedInpaintLib.search.latent import Generated
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.intensities import LEVELS
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


@pytest.fixture(scope="module")
def fills(data, baselines, model):
    return baselines | models.model_fills([model], data.template, "cpu", 0)


@pytest.mark.parametrize("name", ["harmonic", "biharmonic", "telea", "mine"])
def test_the_truth_in_the_hole_changes_no_fill_and_tissue_beside_it_does(fills, case, twins, name):
    fill, other_truth, other_rim = (fills[name](each) for each in (case, *twins))
    assert np.array_equal(fill, other_truth)
    assert np.abs(fill - other_rim).mean() > 10


def test_the_linear_model_comes_closer_to_the_truth_than_the_harmonic_fill(fills, subject, hole, case):
    linear, harmonic = (measure_fill(subject, hole, case, n, fills[n], 0.0)[0] for n in ("mine", "harmonic"))
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
    with pytest.raises(InputError, match="another model space"):
        models.model_fills([model], data.template, "cpu", 0)


@pytest.fixture
def searched(data, tmp_path, monkeypatch):
    """A model whose search finds the mean brain; its fills, and the settings of each search."""
    settings = []

    def predict(network, case, given, progress):
        settings.append(given)
        mean = data.training.mean(axis=0)[case.slices.heights]
        found = Generated(mean, mean, np.zeros(len(mean)), LEVELS, True, 0)
        return Prediction(mean, None, found, case.slices, Rim(None, None, 0.0))

    monkeypatch.setattr(models, "predict", predict)
    model = SimpleNamespace(name="vae3", folder=tmp_path, template=lambda: data.template, network=lambda device: None)
    return models.model_fills([model], data.template, "cpu", 7), settings


def test_a_model_is_searched_without_prior_and_weighting_and_once_for_all_blendings(searched, case):
    fills, settings = searched
    fills = {name: fill(case) for name, fill in fills.items() if "study" not in name}
    assert list(fills) == ["vae3", *(f"vae3 {ablation}" for ablation in models.ABLATIONS)]
    lacking = [(one.prior, one.weighting, one.residual).count(False) for one in settings]
    assert lacking == [0, 1, 1, 1]
    assert {one.seed for one in settings} == {7}
    assert np.abs(fills["vae3"] - fills["vae3 no blending"]).mean() > 1
    assert fills["vae3 with noise"].shape == fills["vae3"].shape


def test_the_slices_of_a_case_are_not_used_for_another_case(searched, case):
    fills, settings = searched
    fills["vae3"](case)
    fills["vae3 no blending"](replace(case))
    assert len(settings) == 2


def test_the_studys_fills_are_those_of_the_preset_and_of_one_part_less(searched, case, tmp_path):
    fills, settings = searched
    names = [name for name in fills if "study" in name]
    assert names == ["vae3 study", *(f"vae3 study {part}" for part in ("no prior", "unweighted", "no blending"))]
    made = [fills[name](case) for name in names]
    preset = Settings.preset("study", model=str(tmp_path), device="cpu", seed=7)
    assert settings == [preset, replace(preset, prior=False), replace(preset, weighting=False)]
    assert np.abs(made[0] - made[3]).mean() > 1


@pytest.mark.parametrize(
    ("kind", "ablations", "taking_part"),
    [
        ("square25", False, ["vae3", "vae3 study"]),
        ("square25", True, ["vae3", "vae3 study", "vae3 study no prior"]),
        ("lesions", False, ["vae3"]),
        ("lesions", True, ["vae3", "vae3 no prior"]),
    ],
)
def test_the_study_is_repeated_in_squares_and_whole_models_lack_parts_in_volumes(kind, ablations, taking_part):
    names = ["vae3", "vae3 no prior", "vae3 study", "vae3 study no prior"]
    assert [name for name in names if models.takes_part(name, kind, ablations)] == taking_part


def test_without_names_the_shipped_models_are_taken_the_default_first():
    found = [model.name for model in models.find_models([])]
    assert found[0] == Settings().model
    assert sorted(found) == [model.name for model in shipped_models()]


def test_two_models_of_one_name_are_refused(data, searched, tmp_path):
    model = SimpleNamespace(name="vae3", folder=tmp_path, template=lambda: data.template, network=lambda device: None)
    with pytest.raises(InputError, match="Two models are called 'vae3'"):
        models.model_fills([model, model], data.template, "cpu", 0)
