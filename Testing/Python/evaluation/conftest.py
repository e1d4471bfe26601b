"""The synthetic brains of the evaluation's tests, a linear model of them, a subject with a hole, and the baselines."""

import pytest
from brains import six_brains, tuning_scan
from MedInpaintLib.evaluation.fills.baselines import baselines as all_baselines
from MedInpaintLib.evaluation.holes.cases import cut_hole, draw_hole
from MedInpaintLib.evaluation.holes.subjects import read_subject
from MedInpaintLib.models.folder import save_model
from MedInpaintLib.models.linear import Brains, Linear
from MedInpaintLib.training.slices.shape import mean_and_differences


@pytest.fixture(scope="session")
def data():
    return six_brains()


@pytest.fixture(scope="session")
def scan_file(data, tmp_path_factory):
    return tuning_scan(tmp_path_factory.mktemp("scans") / "group")


@pytest.fixture(scope="session")
def subject(data, scan_file):
    return read_subject(scan_file, data.template)


@pytest.fixture(scope="session")
def hole(subject):
    return draw_hole("ellipsoid14", 0, subject, {}, subject.brain, seed=0)


@pytest.fixture(scope="session")
def case(data, subject, hole):
    return cut_hole(subject, hole, data.template, seed=0)


@pytest.fixture(scope="session")
def baselines():
    return all_baselines()


@pytest.fixture(scope="session")
def model(data, tmp_path_factory):
    """A linear model of the training brains, with a card as a training writes it."""
    network = Linear(Brains(*mean_and_differences(data.training)))
    training = {"epochs": 0, "training_minutes": 0, "history": [], "device": "cpu", "data": {"name": "brains"}}
    card = {"kind": "linear", "kernel": None, "latent": network.latent, **training}
    card["grid"] = {"size": data.template.image.GetSize()}
    return save_model(tmp_path_factory.mktemp("models") / "mine", network, data.template, card)
