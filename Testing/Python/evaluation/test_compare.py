"""The command: complete tables, runs that continue, and usage errors. With synthetic brains of 4 mm voxels."""

import argparse
from dataclasses import replace

import numpy as np
import pytest
from MedInpaintLib.errors import InputError
from MedInpaintLib.evaluation import compare
from MedInpaintLib.evaluation.figures.results import Results
from MedInpaintLib.evaluation.figures.worst import error
from MedInpaintLib.evaluation.tables.rows import read_rows

MEASURED_ANEW = ("preparation", "seconds", "memory", "slice_psnr", "brats_mse", "brats_psnr", "brats_ssim")


@pytest.fixture
def options(scan_file, model, tmp_path):
    """Parse the command's options for the synthetic brains."""
    parser = argparse.ArgumentParser()
    compare.main_options(parser)
    given = ["--scans", str(scan_file), "--model", str(model.folder), "--output", str(tmp_path / "out")]
    return lambda *more: parser.parse_args([*given, *more])


def table_without_times(folder):
    return [replace(row, **dict.fromkeys(MEASURED_ANEW, 0.0)) for row in read_rows(folder / "cases.csv")]


def test_an_interrupted_run_continues_and_makes_the_same_table(data, scan_file, baselines, tmp_path):
    plan = {scan_file: [("ellipsoid8", 0), ("square25", 0)]}
    called = []

    def counted(name, fail_at=0):
        def fill(case):
            called.append(name)
            if len(called) == fail_at:
                raise KeyboardInterrupt
            return baselines[name](case)

        return fill

    def run(folder, fail_at=0):
        called.clear()
        folder.mkdir(exist_ok=True)
        given = {name: counted(name, fail_at) for name in ("harmonic", "telea")}
        compare.compare(plan, {"ellipsoid8": given, "square25": given}, data.template, {}, 0, folder)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", fail_at=4)
    assert len(read_rows(tmp_path / "a" / "cases.csv")) == 3
    run(tmp_path / "a")
    assert called == ["telea"]
    run(tmp_path / "b")
    assert called == ["harmonic", "telea"] * 2
    assert table_without_times(tmp_path / "a") == table_without_times(tmp_path / "b")
    pictures = [(tmp_path / f / "pictures" / "group_sub-5_T1w_square25_0.png").read_bytes() for f in "ab"]
    assert pictures[0] == pictures[1]
    run(tmp_path / "a")
    assert called == []


def test_the_command_writes_table_summary_pictures_and_report(options, tmp_path, capsys):
    args = options("--holes", "square25,ellipsoid8", "--quick", "--report", str(tmp_path / "report"))
    assert compare.run(args) == 0
    rows = read_rows(args.output / "cases.csv")
    assert [(row.case, row.fill) for row in rows] == [
        ("group_sub-5_T1w_square25_0", name)
        for name in (
            "harmonic", "biharmonic", "telea", "mine", "mine study", "mine study no prior", "mine study unweighted",
            "mine study no blending",
        )
    ]  # fmt: skip
    psnr = {row.fill: row.psnr for row in rows}
    assert len({psnr[name] for name in psnr if "mine" in name}) == 5
    assert psnr["mine"] > psnr["harmonic"]
    assert all((row.changed_outside, row.same_geometry, row.same_type) == (0, 1, 1) for row in rows)
    assert (args.output / "summary.md").read_text(encoding="utf-8") in capsys.readouterr().out
    assert (args.output / "pictures" / "group_sub-5_T1w_square25_0.png").stat().st_size > 10_000
    text = (tmp_path / "report" / "Experiment.md").read_text(encoding="utf-8")
    assert compare.command_line(args) in text
    assert "mine | linear | - | 10 |" in text  # without a kernel
    assert "![Squares in one slice" in text

    with pytest.raises(InputError, match=r"another experiment \(seed\)"):
        compare.run(options("--holes", "square25", "--seed", "1"))


def test_the_command_in_the_report_has_no_paths_of_this_computer(options, tmp_path):
    masks = [str(tmp_path / "masks" / f"p{n}.nii.gz") for n in range(4)]
    args = options("--lesion-masks", *masks, "--model", str(tmp_path / "vae3"), "gan3", "--seed", "2", "--quick")
    assert compare.command_line(args).split(" \\\n    ") == [
        "medinpaint evaluate", "--scans group/sub-5_T1w.nii.gz", "--model vae3 gan3",
        "--lesion-masks masks/p0.nii.gz ... masks/p3.nii.gz", "--seed 2", "--output out", "--quick",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "need masks and --lesion-scan"),
        (["--holes", "ellipsoid"], "no hole 'ellipsoid'"),
        (["--holes", "ellipsoid8,"], "no hole ''"),
        (["--holes", "ellipsoid8", "--cases-per-scan", "0"], "--cases-per-scan"),
        (["--holes", "ellipsoid8", "--scans", "a/s.nii", "a/s.nii.gz"], "same file name"),
        (["--holes", "square51"], "1 to 50 percent"),
        (["--holes", "square25mm"], "no hole 'square25mm'"),
        (["--holes", "ellipsoid8", "--ablations", "square25"], "not among --holes"),
        (["--holes", "ellipsoid8", "--model", "nothing"], "no model 'nothing'"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_written(options, given, message):
    args = options(*given)
    with pytest.raises(InputError, match=message):
        compare.run(args)
    assert not args.output.exists()


def test_ablations_fill_squares_unless_other_holes_are_named(options, monkeypatch):
    received = []
    monkeypatch.setattr(compare, "compare", lambda plan, fills, *more: received.append(fills))
    monkeypatch.setattr(compare, "baselines", dict)
    for more in ([], ["--ablations", "ellipsoid8"], ["--ablations", "none"]):
        compare.run(options("--holes", "square25,ellipsoid8", *more))
    counts = [{kind: len(fills) for kind, fills in each.items()} for each in received]
    assert counts == [
        {"square25": 5, "ellipsoid8": 1},
        {"square25": 2, "ellipsoid8": 7},
        {"square25": 2, "ellipsoid8": 1},
    ]


def test_scans_of_one_name_in_two_folders_are_two_cases(data, scan_file, baselines, tmp_path):
    other = tmp_path / "elsewhere" / scan_file.name
    other.parent.mkdir()
    other.write_bytes(scan_file.read_bytes())
    plan = {path: [("square25", 0)] for path in (scan_file, other)}
    compare.compare(plan, {"square25": {"harmonic": baselines["harmonic"]}}, data.template, {}, 0, tmp_path)
    rows = read_rows(tmp_path / "cases.csv")
    assert [row.case for row in rows] == ["group_sub-5_T1w_square25_0", "elsewhere_sub-5_T1w_square25_0"]
    assert rows[0].psnr == rows[1].psnr
    assert len(list((tmp_path / "views").iterdir())) == 2


@pytest.mark.parametrize("kind", ["ellipsoid8", "square25"])
def test_the_stored_truth_and_fills_give_the_measured_psnr(data, scan_file, baselines, tmp_path, kind):
    fills = {name: baselines[name] for name in ("harmonic", "telea")}
    compare.compare({scan_file: [(kind, 0)]}, {kind: fills}, data.template, {}, 0, tmp_path)
    run = Results(tmp_path, read_rows(tmp_path / "cases.csv"), [])
    for row in run.rows:
        squared = sum(error(run.voxels(row), run.truth(row), run.view(row).white).parts)  # (percent of the range)^2
        assert 10 * np.log10(100**2 / squared) == pytest.approx(row.psnr, abs=1e-3)
