"""Scans become a slice file: those to train on in one shape, those to tune on as they are."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedInpaintLib.errors import InputError
from MedInpaintLib.models.registry import find_model
from MedInpaintLib.search.deformation import Deformation
from MedInpaintLib.training.slices import prepare, shape
from MedInpaintLib.training.slices.data import LEVELS, load

SOURCE = {"name": "poses of the average brain", "licence": "CC0", "citation": "none"}


@pytest.fixture(scope="module")
def template():
    return find_model("linear").template()


@pytest.fixture
def prepared(template, monkeypatch):
    """Prepares scans with the shipped template, in two steps of each deformation."""
    monkeypatch.setattr(prepare, "build_template", lambda paths, map_: template)
    monkeypatch.setattr(shape, "STEPS", 2)

    def run(train, tune, output):
        prepare.prepare(train, tune, output, SOURCE, workers=1, report=lambda text: None)
        return load(output)

    return run


def scan_of(template, folder, name, angle):
    """The average brain, turned, as an integer scan of 3 mm; its file."""
    grid = sitk.Image([60, 70, 60], sitk.sitkFloat32)
    grid.SetSpacing([3.0] * 3)
    grid.SetOrigin([-88.5, -103.5, -88.5])
    turned = sitk.Resample(template.image * 700, grid, sitk.Euler3DTransform((0, 0, 0), 0, 0, angle, (3, -2, 1)))
    path = folder / f"{name}.nii.gz"
    sitk.WriteImage(sitk.Cast(turned, sitk.sitkInt16), str(path))
    return path


def test_scans_become_slices_in_model_space(template, prepared, tmp_path):
    train = [scan_of(template, tmp_path, f"sub-{n}", angle) for n, angle in enumerate((0.0, 0.1))]
    tune = [scan_of(template, tmp_path, "sub-9", -0.1)]
    data = prepared(train, tune, tmp_path / "slices.npz")
    assert (data.training_subjects, data.tuning_subjects) == (["sub-0", "sub-1"], ["sub-9"])
    assert data.source == SOURCE
    width, depth, height = template.image.GetSize()
    assert data.training.shape == (2, height, depth, width)
    assert data.tuning.shape == (1, height, depth, width)
    knots = Deformation(np.arange(height), (depth, width), torch.device("cpu")).knots
    assert data.shapes.shape == (2, *knots)
    average = sitk.GetArrayFromImage(template.image)
    for brain in (*data.training, *data.tuning):
        assert np.corrcoef(brain.ravel() / LEVELS, average.ravel())[0, 1] > 0.97


def test_without_a_brain_to_tune_on_there_is_no_slice_file(template, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "MIN_QUALITY", 2.0)
    scan = scan_of(template, tmp_path, "sub-0", 0.0)
    with pytest.raises(InputError, match="aligned well"):
        prepared([scan], [scan], tmp_path / "slices.npz")
    assert not (tmp_path / "slices.npz").exists()
