"""The benchmark: its holes, its tables, one tiny run of the command, and the study's procedure beside it."""

import json
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from MedInpaintLib.blending.poisson import poisson_blend
from MedInpaintLib.command.main import main
from MedInpaintLib.evaluation import benchmark
from MedInpaintLib.evaluation.fills.reference import blend_slice, search_slice
from MedInpaintLib.evaluation.tables import benchmark as tables
from MedInpaintLib.volumes.read import read_image
from MedInpaintLib.volumes.write import write_image

SECONDS = dict.fromkeys(tables.STAGES, 2.0)


def case(hole=4, **changes):
    return {
        "model": "vae3", "device": "cpu", "hole": hole, "slices": hole, "seconds": SECONDS, "slices_per_second": 2.0,
        "steps_per_second": 80.0, "core_seconds": 3.0, "peak_mib": 700.0, "psnr": 27.5, **changes,
    }  # fmt: skip


class Plane(torch.nn.Module):
    """A network whose slices are 4 x 6 pixels of z[0], and whose prior is ||z||^2."""

    prior_weight = 0.5

    def decoder(self, z, height):
        return z[:, :1, None, None].expand(1, 1, 4, 6)

    def prior_loss(self, u, z, height):
        return (u**2).sum(1)


def test_the_references_search_reaches_the_least_loss():
    weight = torch.zeros(4, 6)
    weight[0, :3] = 0.1  # 0.3 |z - 2| + 0.5 z^2 is least at z = 0.3
    found = search_slice(Plane(), torch.full((4, 6), 2.0), weight, torch.zeros(1), torch.tensor([[-1.0, 1.0]]), 400)
    assert found.shape == (4, 6)
    assert found.numpy() == pytest.approx(0.3, abs=1e-2)


def test_the_references_blending_reaches_poissons_solution():
    random = np.random.default_rng(0)
    known, source = random.random((2, 12, 12)).astype(np.float32)
    hole = np.zeros((12, 12), bool)
    hole[3:9, 0:7] = True  # at the slice's edge, too
    filled = blend_slice(*map(torch.from_numpy, (known, source, hole, np.zeros_like(hole))), 300).numpy()
    wanted = poisson_blend(known[None], source[None], hole[None], (1, 1, 1))
    assert filled[hole] == pytest.approx(wanted, abs=2e-3)
    assert np.array_equal(filled[~hole], known[~hole])


def test_where_the_generated_slice_has_the_scans_gradients_the_reference_restores_the_scan():
    truth = torch.linspace(0.2, 0.8, 10).repeat(8, 1)
    hole, unknown = torch.zeros(8, 10, dtype=torch.bool), torch.zeros(8, 10, dtype=torch.bool)
    hole[2:6, 3:7], unknown[2:6, 7] = True, True
    known = truth.masked_fill(hole | unknown, 0)  # unknown pixels beside the hole do not count
    filled = blend_slice(known, truth + 0.3, hole, unknown, 300)
    assert filled[hole].numpy() == pytest.approx(truth[hole].numpy(), abs=1e-3)


def test_the_tables_show_the_measurements_and_the_ratio_to_earlier_ones():
    heading, row = tables.case_rows([case(peak_mib=None)])
    assert len(heading) == len(row)
    assert row[:3] == ("vae3 (default)", "cpu", 4)
    assert row[heading.index("peak (MiB)")] == ""
    now = case(seconds={**SECONDS, "all": 1.0}, peak_mib=350.0, psnr=28.0)
    heading, row = tables.change_rows([case(), case(hole=16)], [now, case(hole=1)])
    shown = dict(zip(heading, row, strict=True))
    assert shown["all (s)"] == "2.0 -> 1.0 (2.00x)"
    assert shown["aligning (s)"] == "2.0 -> 2.0 (1.00x)"
    assert shown["peak (MiB)"] == "700 -> 350 (2.00x)"
    assert shown["PSNR (dB)"] == "27.5 -> 28.0"


def test_the_table_of_the_reference_shows_both_ratios():
    entry = {
        "model": "gan3", "device": "cpu", "slices": 1, "reference": {"seconds_per_slice": 60.0, "psnr": 21.0},
        "product": {"seconds_per_slice": {"all": 12.0, "core": 3.0}, "psnr": 28.0},
        "times_all": 5.0, "times_core": 20.0,
    }  # fmt: skip
    heading, study, every, core = tables.reference_rows([entry])
    assert len(heading) == len(study)
    assert every[-3:] == ("12.00", "5.0", "28.0")
    assert core[-3:] == ("3.00", "20.0", "28.0")


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
    options = ["--models", "vae3", "--device", "cpu", "--holes", "1", "--reference-slices", "0"]
    assert main(["benchmark", *options, "--against", str(earlier), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "vae3 (default)" in said
    assert " -> " in said
    text = output.read_text(encoding="utf-8")
    result = json.loads(text)
    (measured,) = result["cases"]
    assert measured["slices"] == 1
    seconds = measured["seconds"]
    assert sum(seconds.values()) - seconds["all"] == pytest.approx(seconds["all"], abs=0.01)
    assert min(seconds.values()) >= 0
    assert measured["psnr"] > 20
    if sys.platform != "win32":
        assert measured["peak_mib"] > 100
        assert measured["core_seconds"] > 1
    assert result["machine"]["cpus"] > 0
    assert str(tmp_path) not in text
