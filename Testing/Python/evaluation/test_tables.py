"""The experiment's table and its summary: whole rows, numpy's medians, paired differences and their test."""

import numpy as np
import pytest
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation.tables.rows import append_row, read_rows
from MedInpaintLib.evaluation.tables.statistics import comparisons, measured, paired
from MedInpaintLib.evaluation.tables.summary import summary
from rows import row

CARDS = {
    "gan3": {"kind": "gan", "kernel": 3},
    "gan7": {"kind": "gan", "kernel": 7},
    "mine": {"kind": "vae", "kernel": 3},
    "linear": {"kind": "linear", "kernel": None},
}


def test_an_incomplete_row_is_dropped_and_the_table_continues(tmp_path):
    path = tmp_path / "cases.csv"
    rows = [row(index=n, psnr=20.25 + n) for n in range(3)]
    for each in rows[:2]:
        append_row(path, each)
    path.write_text(path.read_text(encoding="utf-8")[:-6])
    assert read_rows(path) == rows[:1]
    append_row(path, rows[2])
    assert read_rows(path) == [rows[0], rows[2]]


def test_a_table_with_other_columns_is_refused(tmp_path):
    (tmp_path / "cases.csv").write_text("scan,psnr\na,20\n")
    with pytest.raises(InputError, match="other columns"):
        read_rows(tmp_path / "cases.csv")


def cells(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_the_summary_gives_numpys_medians_and_paired_differences(tmp_path):
    rng = np.random.default_rng(0)
    ranges = {"harmonic": (15, 20), "niftyseg": (18, 22), "vae3": (17, 24)}
    psnr = {name: rng.uniform(*ends, 7).round(4) for name, ends in ranges.items()}  # as many digits as are kept
    for name, values in psnr.items():
        for index in rng.permutation(7):  # pairs are found by case, not by order
            append_row(
                tmp_path / "cases.csv",
                row(fill=name, scan=f"s{index}", psnr=float(values[index]), ssim=float(values[index]) / 30),
            )
    lines = cells(summary(read_rows(tmp_path / "cases.csv"), {}))
    for name, values in psnr.items():
        low, middle, high = np.percentile(values, [25, 50, 75])
        shown = next(line for line in lines if line[:2] == [name, "7"])
        assert shown[2] == f"{middle:.2f} [{low:.2f}, {high:.2f}]"
    for name, reference in (("vae3", "harmonic"), ("vae3", "niftyseg"), ("niftyseg", "harmonic")):
        difference = psnr[name] - psnr[reference]
        shown = next(line for line in lines if line[:2] == [name, reference])
        assert [shown[n] for n in (2, 3, 4, 6, 8, 9)] == [
            "7", "7", f"{np.median(difference):+.2f}", f"{np.median(difference) / 30:+.3f}",
            str((difference < 0).sum()), f"{difference.min():+.2f}",
        ]  # fmt: skip


def test_the_summary_keeps_groups_and_kinds_apart():
    rows = [row(group=group, kind=kind) for group in ("one", "two") for kind in ("square25", "lesions")]
    headings = [line for line in summary(rows, {}).splitlines() if line.startswith("##")]
    assert headings == ["## one, square25", "## one, lesions", "## two, square25", "## two, lesions"]


def test_a_column_without_numbers_is_omitted_and_others_ignore_nan():
    nothing = float("nan")
    rows = [row(index=n, slice_psnr=nothing, memory=memory) for n, memory in enumerate((nothing, 100.0, 300.0))]
    heading, _, line = (line for line in cells(summary(rows, {})) if line)
    assert "slice PSNR, dB" not in heading
    assert line[heading.index("memory, MB")] == "200 [150, 250]"


def test_the_summary_says_what_was_changed_outside_and_where_geometry_differs():
    rows = [row(index=1, changed_outside=3), row(index=2, same_geometry=0), row(index=3, same_type=0), row(index=4)]
    assert "outside the holes: 3. Geometry and type identical: 2 of 4." in summary(rows, {})


@pytest.mark.parametrize(("better", "p"), [(5, 2 / 2**5), (8, 2 / 2**8)])
def test_p_of_n_differences_of_one_sign_is_the_two_tails_of_all_signs(better, p):
    cases, reference = ({(f"s{n}", "a"): gain * (n + 1.0) for n in range(better)} for gain in (1.0, 0.5))
    result = paired(cases, reference)
    assert result.p == pytest.approx(p)
    assert (result.subjects, result.cases, result.worse, result.lowest) == (better, better, 0, 0.5)


def test_a_subjects_cases_are_averaged_first_and_single_cases_that_are_worse_are_counted():
    gains = {"one": (1.0, 1.0, 4.0), "two": (5.0, -1.0), "three": (6.0,)}
    cases = {(name, str(n)): 20.0 + gain for name, each in gains.items() for n, gain in enumerate(each)}
    result = paired(cases, dict.fromkeys(cases, 20.0))
    assert (result.subjects, result.cases, result.median, result.worse, result.lowest) == (3, 6, 2.0, 1, -1.0)
    assert result.p == pytest.approx(2 / 2**3)


def test_the_same_name_in_two_groups_is_two_subjects():
    rows = [row(group=group, fill="f") for group in ("a", "b")]
    assert len({subject for subject, _ in measured({each.case: each for each in rows}, "psnr")}) == 2


def test_p_is_one_where_nothing_differs_and_there_is_none_without_pairs():
    cases = {(f"s{n}", "a"): 20.0 + n for n in range(6)}
    assert paired(cases, cases).p == 1
    assert paired(cases, {("s0", "other"): 20.0}) is None


def test_models_are_compared_with_references_with_their_ablations_and_with_each_other():
    fills = [
        "harmonic", "niftyseg", "gan3", "gan7", "mine", "linear", "mine no prior", "gan3 study", "mine study",
        "linear study", "mine study no prior",
    ]  # fmt: skip
    others = ["gan3", "gan7", "mine", "linear", "gan3 study", "mine study", "linear study"]
    assert comparisons(fills, CARDS) == [
        *((name, "harmonic") for name in ("niftyseg", *others)),
        *((name, "niftyseg") for name in others),
        *((f"{name} study", name) for name in ("gan3", "mine", "linear")),
        ("mine no prior", "mine"),
        ("mine study no prior", "mine study"),
        *((name, "linear") for name in ("gan3", "gan7", "mine")),
        ("mine", "gan3"),
        ("gan7", "gan3"),
        *((name, "linear study") for name in ("gan3 study", "mine study")),
        ("mine study", "gan3 study"),
    ]
