"""The study's claims: verdicts follow from paired differences of the right fills."""

import numpy as np
import pytest
from MedInpaintLib.evaluation.tables.claims import SQUARES, STUDY_PSNR, VOLUMES, claims, is_large
from rows import row

CARDS = {
    "gan3": {"kind": "gan", "kernel": 3},
    "gan7": {"kind": "gan", "kernel": 7},
    "vae3": {"kind": "vae", "kernel": 3},
    "vae7": {"kind": "vae", "kernel": 7},
    "linear": {"kind": "linear", "kernel": None},
}
CASES = 6  # of as many subjects, for which the test gives p = 0.03 if all differences have one sign


def rows_of(decibels, kind="ellipsoid8", scatter=0.0):
    """Rows of six subjects: the PSNR of a fill is that of the case plus its gain, and the SSIM a fixed share of it."""
    rng = np.random.default_rng(0)
    rows = []
    for fill, gain in decibels.items():
        psnr = 20 + np.arange(CASES) + gain + scatter * rng.standard_normal(CASES)
        rows += [row(fill=fill, kind=kind, scan=f"s{n}", psnr=p, ssim=p / 40) for n, p in enumerate(psnr.tolist())]
    return rows


def verdict(rows, text, where=VOLUMES):
    return next(claim.verdict for claim in claims(rows, CARDS)[where] if claim.text == text)


@pytest.mark.parametrize(("lead", "expected"), [(1.0, "holds"), (-1.0, "does not hold"), (0.0, "not decided")])
def test_vaes_beat_gans_if_they_do_so_in_all_cases(lead, expected):
    rows = rows_of({"gan3": 0.0, "vae3": lead}, scatter=0.01 if lead else 1.0)
    assert verdict(rows, "VAEs beat GANs") == expected


def test_a_claim_that_holds_for_one_kernel_only_holds_in_part():
    rows = rows_of({"gan3": 0.0, "vae3": 1.0, "gan7": 0.0, "vae7": -1.0})
    assert verdict(rows, "VAEs beat GANs") == "holds in part"


def test_models_of_different_kernels_are_not_compared():
    rows = rows_of({"gan3": 0.0, "vae7": 1.0})
    assert verdict(rows, "VAEs beat GANs") == "not tested"
    assert verdict(rows, "Larger kernels help") == "not tested"


def test_larger_kernels_are_compared_within_a_kind():
    rows = rows_of({"gan3": 0.0, "gan7": 1.0, "vae3": 5.0, "vae7": 6.0})
    assert verdict(rows, "Larger kernels help") == "holds"
    assert verdict(rows_of({"vae3": 1.0, "vae7": 0.5}), "Larger kernels help") == "does not hold"


@pytest.mark.parametrize(
    ("ablation", "text"),
    [
        ("no prior", "The prior matters"),
        ("unweighted", "The weighting matters"),
        ("no blending", "The blending matters"),
    ],
)
def test_a_part_matters_if_the_model_is_better_than_without_it(ablation, text):
    for gain, expected in ((-0.5, "holds"), (0.5, "does not hold")):
        rows = rows_of({"vae3": 0.0, f"vae3 {ablation}": gain})
        found = {claim.text: claim.verdict for claim in claims(rows, CARDS)[VOLUMES]}
        assert found.pop(text) == expected
        assert set(found.values()) == {"not tested"}


def test_the_priors_gain_is_compared_not_the_quality():
    rows = rows_of({"gan3": 5.0, "gan3 no prior": 4.0, "vae3": 0.0, "vae3 no prior": -3.0})
    claim = next(claim for claim in claims(rows, CARDS)[VOLUMES] if "more in VAEs" in claim.text)
    assert claim.verdict == "holds"
    assert claim.findings[0].result.median == pytest.approx(2.0)
    assert claim.findings[0].result.subjects == CASES


def test_squares_are_judged_by_the_studys_fills_and_volumes_by_whole_models():
    study = {"gan3 study": 0.0, "vae3 study": 1.0, "vae3 study no prior": 2.0, "gan3": 5.0, "vae3": 0.0}
    rows = rows_of(study, kind="square25") + rows_of({"gan3": 0.0, "vae3": -1.0, "vae3 study": 9.0})
    assert verdict(rows, "VAEs beat GANs", SQUARES) == "holds"
    assert verdict(rows, "VAEs beat GANs", VOLUMES) == "does not hold"
    assert verdict(rows, "The prior matters", SQUARES) == "does not hold"
    assert verdict(rows, "The prior matters", VOLUMES) == "not tested"


def test_every_network_is_compared_with_the_linear_model():
    rows = rows_of({"linear": 0.0, "vae3": 1.0, "gan7": -1.0})
    claim = claims(rows, CARDS)[VOLUMES][-1]
    assert {f.compared: f.verdict for f in claim.findings} == {
        "vae3 - linear": "holds",
        "gan7 - linear": "does not hold",
    }
    assert claim.verdict == "holds in part"


def test_many_holes_in_few_subjects_decide_nothing():
    rows = [
        row(fill=fill, kind="ellipsoid8", scan=f"s{n % 3}", index=n, psnr=20 + gain + n, ssim=0.5)
        for fill, gain in (("gan3", 0.0), ("vae3", 1.0))
        for n in range(30)
    ]
    finding = claims(rows, CARDS)[VOLUMES][0].findings[0]
    assert (finding.result.subjects, finding.result.cases, finding.verdict) == (3, 30, "not decided")
    assert finding.result.p == pytest.approx(2 / 2**3)


def test_large_holes_are_judged_alone():
    large = rows_of({"gan3": 0.0, "vae3": -1.0}, kind="ellipsoid20")
    small = rows_of({"gan3": 0.0, "vae3": 3.0}, kind="ellipsoid8") + rows_of({"gan3": 0.0, "vae3": 3.0}, kind="lesions")
    assert verdict(large + small, "VAEs beat GANs in large holes too") == "does not hold"
    assert verdict(large + small, "VAEs beat GANs") == "holds"


def test_squares_from_40_percent_and_ellipsoids_from_16_mm_are_large():
    kinds = ["square12", "square39", "square40", "square50", "lesions", "ellipsoid8", "ellipsoid16", "ellipsoid20"]
    assert [kind for kind in kinds if is_large(kind)] == ["square40", "square50", "ellipsoid16", "ellipsoid20"]


def test_the_studys_means_are_those_in_its_text():
    means = {key: round(float(np.mean(values)), 1) for key, values in STUDY_PSNR.items()}
    assert [means["gan", 3, ""], means["gan", 7, ""], means["vae", 3, ""], means["vae", 7, ""]] == [
        22.7, 24.2, 25.3, 26.1,
    ]  # fmt: skip
    assert [means["vae", 7, part] for part in ("no prior", "unweighted", "no blending")] == [23.4, 22.1, 22.2]
