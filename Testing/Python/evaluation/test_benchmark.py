"""The benchmark: its holes, its tables, and one tiny run of the command, with the study's procedure beside it."""

import json
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.command.main import main
from MedInpaintLib.evaluation import benchmark
from MedInpaintLib.evaluation.tables import benchmark as tables
from MedInpaintLib.settings import PRESETS
from MedInpaintLib.volumes.read import read_image
from MedInpaintLib.volumes.write import write_image

SECONDS = dict.fromkeys(tables.STAGES, 2.0)


def case(hole=4, **changes):
    return {
        "model": "linear", "device": "cpu", "hole": hole, "slices": hole, "seconds": SECONDS, "slices_per_second": 2.0,
        "steps_per_second": 80.0, "core_seconds": 3.0, "peak_mib": 700.0, "psnr": 27.5, **changes,
    }  # fmt: skip


def test_the_tables_show_the_measurements_and_the_ratio_to_earlier_ones():
    heading, row = tables.case_rows([case(peak_mib=None)])
    assert len(heading) == len(row)
    assert row[:3] == ("linear (default)", "cpu", 4)
    assert row[heading.index("peak (MiB)")] == ""
    now = case(seconds={**SECONDS, "all": 1.0}, peak_mib=350.0, psnr=28.0)
    heading, row = tables.change_rows([case(), case(hole=16)], [now, case(hole=1)])
    shown = dict(zip(heading, row, strict=True))
    assert shown["all (s)"] == "2.0 -> 1.0 (2.00x)"
    assert shown["aligning (s)"] == "2.0 -> 2.0 (1.00x)"
    assert shown["peak (MiB)"] == "700 -> 350 (2.00x)"
    assert shown["PSNR (dB)"] == "27.5 -> 28.0"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--holes", "0"], "A hole can touch 1 to 104 slices"),
        (["--holes", "500"], "A hole can touch 1 to 104 slices"),
        (["--reference-slices", "-1"], "A hole can touch 1 to 104 slices"),
        (["--models", "vae9"], "vae9"),
        (["--output", "bench.txt"], "'bench.txt' has no supported file extension"),
        (["--against", "none.json"], "'none.json' holds no measurements"),
    ],
)
def test_wrong_usage_ends_before_anything_is_measured(options, said, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "measure", None)
    assert main(["benchmark", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_run_that_fails_says_why():
    with pytest.raises(benchmark.InputError, match=r"A measured run failed: 'no\.nii' does not exist"):
        benchmark._run_timed([sys.executable, "-m", "MedInpaintLib", "run", "no.nii", "no.nii", "out.nii"])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage")
def test_the_memory_of_the_benchmark_is_not_counted_as_the_memory_of_a_run():
    array = np.ones(30_000_000)  # 229 MiB
    *_, peak = benchmark._run_timed([sys.executable, "-c", "pass"])
    assert array.all()
    assert 1 < peak < 100


def test_the_command_measures_a_hole_of_one_slice_and_compares_with_earlier_measurements(
    samples, tmp_path, monkeypatch, capsys
):
    scan = sitk.Cast(read_image(samples / "MSPatient26_T1.nii.gz"), sitk.sitkFloat32)
    write_image(sitk.BinShrink(scan, [2, 2, 1]), tmp_path / "scan.nii")  # as thin as the slices of the model
    monkeypatch.setattr(benchmark, "SAMPLE", tmp_path / "scan.nii")
    output, earlier = tmp_path / "now.json", tmp_path / "earlier.json"
    earlier.write_text(json.dumps({"cases": [case(hole=1)]}), encoding="utf-8")
    monkeypatch.setitem(PRESETS["study"], "model", "linear")
    options = ["--models", "linear", "--device", "cpu", "--holes", "1"]
    assert main(["benchmark", *options, "--against", str(earlier), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "linear (default)" in said
    assert said.count("x)") >= 2 * len(SECONDS)  # against the earlier measurements, and against the study
    text = output.read_text(encoding="utf-8")
    result = json.loads(text)
    measured, study = result["cases"]
    assert (measured["model"], study["model"]) == ("linear", "linear study")
    assert measured["slices"] == 1
    assert study["psnr"] != measured["psnr"]
    seconds = measured["seconds"]
    assert sum(seconds.values()) - seconds["all"] == pytest.approx(seconds["all"], abs=0.01)
    assert min(seconds.values()) >= 0
    assert measured["psnr"] > 20
    if sys.platform != "win32":
        assert measured["peak_mib"] > 100
        assert measured["core_seconds"] > 1
    assert result["machine"]["cpus"] > 0
    assert str(tmp_path) not in text
