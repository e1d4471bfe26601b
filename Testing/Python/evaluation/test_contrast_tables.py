"""The tables of the long check Testing/contrasts.py."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def contrasts():
    """The script as a module."""
    path = Path(__file__).parents[2] / "contrasts.py"
    spec = importlib.util.spec_from_file_location("contrasts_script", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def rows(fills, kind="12 mm", patient="07"):
    """Rows of holes with these PSNRs of fills, whose SSIM is a hundredth."""
    return [
        {"patient": patient, "kind": kind, "hole": str(n), "fill": fill, "psnr": str(value), "ssim": str(value / 100)}
        for fill, values in fills.items()
        for n, value in enumerate(values)
    ]


def cells(text):
    heading, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
    return [dict(zip(heading, line, strict=True)) for line in lines]


def test_fills_are_compared_hole_by_hole_and_losses_above_a_third_of_a_db_are_counted(contrasts):
    fills = {"harmonic": [20, 10, 30], "alone": [19.6, 11, 29.9], "together": [19.7, 13, 29.3]}
    (line,) = cells(contrasts.summary(rows(fills)))
    assert line["n"] == "3"
    assert line["harmonic"] == "20.0 / 0.20"
    assert line["alone against harmonic"] == "-0.1 dB, worst -0.4, below -0.3 in 1"
    assert line["together against alone"] == "+0.1 dB, worst -0.6, below -0.3 in 1"
    assert line["niftyseg"] == line["alone against niftyseg"] == ""


def test_holes_of_two_patients_and_kinds_are_kept_apart(contrasts):
    fills = {"harmonic": [20], "alone": [22]}
    table = contrasts.summary(rows(fills) + rows(fills, patient="26") + rows(fills, kind="lesions"))
    assert [(line["hole"], line["n"]) for line in cells(table)] == [("12 mm", "2"), ("lesions", "1")]


def test_a_peer_that_did_not_end_is_left_out_of_medians_and_differences(contrasts):
    fills = {"harmonic": [20, 20], "alone": [22, 30], "niftyseg": [21, np.nan]}
    (line,) = cells(contrasts.summary(rows(fills)))
    assert line["niftyseg"] == "21.0 / 0.21 (n = 1)"
    assert line["alone against niftyseg"] == "+1.0 dB, worst +1.0"
