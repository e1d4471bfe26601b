"""The synthetic brains of the evaluation's tests, a subject with a hole, and the baselines."""

import pytest
from brains import six_brains, tuning_scan
from MedInpaintLib.evaluation.fills.baselines import baselines as all_baselines
from MedInpaintLib.evaluation.holes.cases import cut_hole, draw_hole
from MedInpaintLib.evaluation.holes.subjects import read_subject


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
def baselines(data):
    return all_baselines(data)
