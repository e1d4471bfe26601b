"""The measurements of the BraTS challenge, where its package is installed."""

import sys

import numpy as np
import pytest
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation.measures.brats import brats_metrics, check_brats


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "inpainting", None)
    monkeypatch.setitem(sys.modules, "inpainting.challenge_metrics_2023", None)
    with pytest.raises(InputError, match="pip install inpainting"):
        check_brats()


def test_the_error_is_measured_in_the_hole_alone_on_the_challenges_scale():
    pytest.importorskip("inpainting.challenge_metrics_2023")
    truth = np.random.default_rng(0).uniform(0, 1000, (16, 24, 20))
    hole = np.zeros(truth.shape, bool)
    hole[5:11, 8:15, 6:14] = True
    values = brats_metrics(truth, np.where(hole, truth + 50, truth), hole)
    scale = np.percentile(np.where(hole, 0, truth), 99.5)
    assert set(values) == {"brats_mse", "brats_psnr", "brats_ssim"}
    assert values["brats_mse"] == pytest.approx((50 / scale) ** 2, rel=0.1)
    assert brats_metrics(truth, np.where(hole, truth, 0), hole)["brats_mse"] == 0
