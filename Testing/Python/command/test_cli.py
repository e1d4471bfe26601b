"""The command: what it refuses, and what it writes."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from commands import is_one_sentence
from dicom_series import write_dicom
from MedInpaintLib.command import outputs
from MedInpaintLib.command.console import Console
from MedInpaintLib.command.main import main
from MedInpaintLib.evaluation.tables.text import table
from MedInpaintLib.models.folder import models_folder
from MedInpaintLib.pipeline import Result
from MedInpaintLib.report import figure
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.case import check_input
from MedInpaintLib.volumes.image import same_grid
from MedInpaintLib.volumes.mask import hole_on_grid
from MedInpaintLib.volumes.read import read_image
from scipy import ndimage

COMMAND = [sys.executable, "-m", "MedInpaintLib"]


@pytest.fixture
def instant(monkeypatch):
    """A stub of the engine that copies the scan. Returns the settings of its runs."""
    runs = []

    def copy(scans, masks, settings, progress):
        (scan,), (mask,) = scans, masks
        runs.append(settings)
        progress(0.5, "optimising", "half way")
        report = {"lesion": {"volume_ml": 1.25, "count": 1}, "seconds": {"total": 2.0}, "warnings": ["Look at it."]}
        report |= {"contrast": {"name": "T1", "levels": [0, 1], "curve": [0, 700]}}
        uncertainty = sitk.Cast(mask, sitk.sitkFloat32) * 12.5 if settings.residual else None
        _, hole = check_input(scan, mask, settings.label, settings.grow)
        return [Result(scan, sitk.Cast(scan, sitk.sitkFloat32), uncertainty, report, hole)]

    monkeypatch.setattr(outputs, "inpaint_together", copy)
    return runs


def run(folder, *options, image="scan.nii.gz", mask="mask.nii.gz", output="result.nii.gz"):
    return main(["run", str(folder / image), str(folder / mask), str(folder / output), *map(str, options)])


def within(millimetres, hole):
    """The hole and the voxels of the 2 mm sample this close to it."""
    return ndimage.distance_transform_edt(~hole, sampling=2) <= millimetres


def save(array, path, like):
    image = sitk.GetImageFromArray(array)
    if image.GetDimension() == like.GetDimension():
        image.CopyInformation(like)
    sitk.WriteImage(image, str(path))


# --- bad input


def write_no_image(folder, scan, hole, like):
    (folder / "bad.nii.gz").write_text("hello")


def write_array(make):
    def write(folder, scan, hole, like):
        save(make(scan, hole), folder / "bad.nii.gz", like)

    return write


def with_nan(scan, hole):
    values = scan.astype(np.float32)
    values[tuple(np.argwhere(scan > 1000)[500])] = np.nan
    return values


def write_far_mask(folder, scan, hole, like):
    mask = sitk.GetImageFromArray(hole.astype(np.uint8))
    mask.SetOrigin((1000, 0, 0))
    sitk.WriteImage(mask, str(folder / "bad.nii.gz"))


def write_wide_mask(folder, scan, hole, like):
    wide = sitk.ConstantPad(like, (20, 20, 20), (20, 20, 20)) * 0 + 1
    sitk.WriteImage(sitk.Cast(wide, sitk.sitkUInt8), str(folder / "bad.nii.gz"))


BAD_SCANS = {
    "no image": (write_no_image, "cannot be read as an image"),
    "4-D": (lambda f, scan, h, like: sitk.WriteImage(sitk.JoinSeries([like, like]), str(f / "bad.nii.gz")), "4 dim"),
    "2-D": (write_array(lambda scan, hole: scan[40]), "2 dim"),
    "colour": (
        lambda f, scan, h, like: sitk.WriteImage(sitk.Compose([like, like, like]), str(f / "bad.nii.gz")),
        "3 values per voxel",
    ),
    "NaN": (write_array(with_nan), "1 non-finite voxels"),
    "infinite": (write_array(lambda scan, hole: np.where(with_nan(scan, hole) > 0, np.inf, 0.0)), "same value"),
    "one value": (write_array(lambda scan, hole: scan * 0 + 7), "same value in every voxel"),
}
BAD_MASKS = {
    "no image": (write_no_image, "cannot be read as an image"),
    "empty": (write_array(lambda scan, hole: hole * np.uint8(0)), "The mask is empty"),
    "elsewhere": (write_far_mask, "does not overlap the scan"),
    "everything": (write_array(lambda scan, hole: np.ones(scan.shape, np.uint8)), "covers the whole scan"),
    "larger than the scan": (write_wide_mask, "outside the scan"),
    "most of the brain": (
        write_array(lambda scan, hole: (scan > 1000).astype(np.uint8)),
        "more than half of the brain",
    ),
}


@pytest.mark.parametrize(("write", "complaint"), BAD_SCANS.values(), ids=BAD_SCANS)
def test_a_bad_scan_is_refused_in_one_sentence(folder, small_scan, small_hole, capfd, write, complaint):
    write(folder, small_scan, small_hole, read_image(folder / "scan.nii.gz"))
    refused(folder, capfd, complaint, image="bad.nii.gz")


@pytest.mark.parametrize(("write", "complaint"), BAD_MASKS.values(), ids=BAD_MASKS)
def test_a_bad_mask_is_refused_in_one_sentence(folder, small_scan, small_hole, capfd, write, complaint):
    write(folder, small_scan, small_hole, read_image(folder / "scan.nii.gz"))
    refused(folder, capfd, complaint, mask="bad.nii.gz")


def refused(folder, capfd, complaint, *options, **names):
    """The run ends with exit code 2, one sentence, and the folder as it was."""
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert run(folder, *options, "--progress", "none", **names) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert is_one_sentence(error)
    assert complaint in error
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


BAD_USAGE = {
    "missing scan": ([], {"image": "none.nii.gz"}, "'none.nii.gz' does not exist"),
    "missing mask": ([], {"mask": "none.nii.gz"}, "'none.nii.gz' does not exist"),
    "label that is not there": (["--label", 7], {}, "no label 7: choose one of its labels (1)"),
    "enlarged by too much": (["--grow", 11], {}, "enlarged by 0 to 10 mm"),
    "a smaller lesion": (["--grow", -1], {}, "enlarged by 0 to 10 mm"),
    "enlarged by no number": (["--grow", "nan"], {}, "enlarged by 0 to 10 mm"),
    "background as label": (["--label", 0], {}, "Label 0 is the background"),
    "unknown model": (["--model", "nonesuch"], {}, "no model 'nonesuch'"),
    "output of no image type": ([], {"output": "result.txt"}, "no supported file extension"),
    "output in no folder": ([], {"output": "none/result.nii.gz"}, "does not exist: choose or create one"),
    "output over the scan": ([], {"output": "scan.nii.gz"}, "already an input or another output"),
    "output over the mask": ([], {"output": "mask.nii.gz"}, "already an input or another output"),
    "report of no JSON type": (["--report", "report.txt"], {}, "use .json"),
    "figure of no PNG type": (["--figure", "figure.jpg"], {}, "use .png"),
    "even window": (["--window", 4], {}, "must be an odd number"),
    "prior weight that is no number": (["--prior-weight", "nan"], {}, "must be a finite number"),
    "no iterations at all": (["--iterations", -1], {}, "must be 0 or more"),
    "unknown device": (["--device", "abacus"], {}, "invalid choice: 'abacus'"),
    "number in words": (["--iterations", "ten"], {}, "invalid int value: 'ten'"),
    "prior weight without a prior": (["--no-prior", "--prior-weight", 1], {}, "not allowed with argument"),
    "window without weighting": (["--window", 9, "--no-weighting"], {}, "not allowed with argument"),
    "blending and none": (["--blending", "2d", "--no-blending"], {}, "not allowed with argument"),
    "unknown blending": (["--blending", "4d"], {}, "choose from 'matern', '3d', '2d'"),
    "uncertainty of no image type": (["--uncertainty", "sd.txt"], {}, "no supported file extension"),
    "uncertainty without residual": (
        ["--no-residual", "--uncertainty", "sd.mha"],
        {"image": "none.nii.gz"},  # refused before the scan is read
        "drop --uncertainty or --no-residual",
    ),
    "further scan without an output": (["--also", "flair.nii.gz"], {}, "give two or three paths"),
    "further scan with too many paths": (["--also", *"abcd"], {}, "give two or three paths"),
    "further scan that is not there": (["--also", "none.nii.gz", "out.nii.gz"], {}, "'none.nii.gz' does not exist"),
    "unknown option": (["--magic"], {}, "Unrecognized arguments: --magic"),
}


@pytest.mark.parametrize(("options", "names", "complaint"), BAD_USAGE.values(), ids=BAD_USAGE)
def test_wrong_usage_is_refused_in_one_sentence(folder, capfd, options, names, complaint):
    refused(folder, capfd, complaint, *options, **names)


def test_a_scan_with_a_voxel_that_is_not_finite_is_refused_for_an_enlarged_lesion(
    folder, small_scan, small_hole, capfd
):
    write_array(with_nan)(folder, small_scan, small_hole, read_image(folder / "scan.nii.gz"))
    refused(folder, capfd, "1 non-finite voxels", "--grow", 2, "--figure", folder / "f.png", image="bad.nii.gz")


@pytest.mark.parametrize("flag", ["--generated", "--uncertainty"])
def test_two_outputs_with_one_name_are_refused(folder, capfd, flag):
    refused(folder, capfd, "another output", flag, folder / "." / "result.nii.gz")


def test_a_device_that_is_not_there_is_refused(folder, capfd):
    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    refused(folder, capfd, "no cuda device", "--device", "cuda")


def test_a_figure_without_matplotlib_is_refused_before_the_run(folder, capfd, monkeypatch):
    monkeypatch.setattr(figure, "find_spec", lambda name: None)
    refused(folder, capfd, "pip install matplotlib", "--figure", folder / "figure.png")


@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, damage) for name in ("weights.pt", "card.json") for damage in ("altered", "missing")]
    + [("template.nii.gz", "altered")],  # without one of its own, a model uses the shared template
)
def test_a_broken_model_is_refused(folder, tmp_path_factory, capfd, name, damage):
    model = tmp_path_factory.mktemp("models") / "mine"
    shutil.copytree(models_folder() / "linear", model)
    shutil.copy(models_folder() / "template.nii.gz", model)
    content = (model / name).read_bytes()
    (model / name).unlink()
    if damage == "altered":
        (model / name).write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:200])
    missing_card = name == "card.json" and damage == "missing"
    refused(folder, capfd, "no model" if missing_card else "install", "--model", model)


@pytest.mark.parametrize("arguments", [["run", "a.nii", "b.nii", "c.nii"], ["run"], ["fly"], []], ids=len)
def test_the_real_command_answers_wrong_input_without_a_traceback(tmp_path, arguments):
    done = subprocess.run([*COMMAND, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert is_one_sentence(done.stderr)
    assert list(tmp_path.iterdir()) == []


# --- what a run writes


def test_all_files_are_written_and_warnings_are_shown(folder, capfd, instant):
    files = {"--report": "r.json", "--figure": "f.png", "--generated": "g.nrrd", "--uncertainty": "u.mha"}
    assert run(folder, *(part for flag, name in files.items() for part in (flag, folder / name))) == 0
    out, error = capfd.readouterr()
    assert out == "result.nii.gz: 1.25 ml in 1 lesions filled, 2 s\n"
    assert error == "medinpaint: warning: Look at it.\n"
    assert {path.name for path in folder.iterdir()} == {"scan.nii.gz", "mask.nii.gz", "result.nii.gz", *files.values()}
    report = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    assert report["image"] == "scan.nii.gz"
    assert report["lesion"]["volume_ml"] == 1.25
    hole = sitk.GetArrayFromImage(read_image(folder / "mask.nii.gz")) > 0
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(folder / "u.mha")), 12.5 * hole)


def test_the_help_explains_each_blending(capfd):
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--help"])
    text = " ".join(capfd.readouterr().out.split())
    assert "--blending {matern,3d,2d}" in text
    explained = text.partition("how the fill is joined")[2].partition(" --")[0]
    assert explained.endswith("(default: matern)")
    assert all(f"({name})" in explained for name in ("matern", "3d", "2d"))


def test_the_help_says_why_to_enlarge_a_lesion(capfd):
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--help"])
    explained = " ".join(capfd.readouterr().out.split()).rpartition("--grow MM ")[2].partition(" --")[0]
    assert "its rim is often partly lesion" in explained
    assert explained.endswith("(default: 0)")


def test_the_figure_outlines_the_filled_voxels(folder, small_scan, small_hole, instant, monkeypatch):
    drawn = []
    monkeypatch.setattr(outputs, "draw_figure", lambda path, scan, hole, *_: drawn.append(hole) or path.touch())
    for options in ((), ("--grow", 3)):
        assert run(folder, "--figure", folder / "f.png", "--progress", "none", *options) == 0
    np.testing.assert_array_equal(drawn[0], small_hole)
    np.testing.assert_array_equal(drawn[1], small_hole | (within(3, small_hole) & (small_scan != 0)))
    assert drawn[1].sum() > 1.5 * drawn[0].sum()


@pytest.mark.parametrize(("failure", "code"), [(OSError("disk full"), 2), (KeyboardInterrupt(), 130)], ids=repr)
def test_a_failure_while_writing_keeps_the_earlier_files(folder, capfd, instant, monkeypatch, failure, code):
    def fail(path, *_):
        path.write_bytes(b"half")
        raise failure

    monkeypatch.setattr(outputs, "draw_figure", fail)
    for name in ("result.nii.gz", "r.json"):
        (folder / name).write_text("earlier")
    before = sorted(folder.iterdir())
    assert run(folder, "--report", folder / "r.json", "--figure", folder / "f.png") == code
    assert sorted(folder.iterdir()) == before
    assert {(folder / name).read_text(encoding="utf-8") for name in ("result.nii.gz", "r.json")} == {"earlier"}
    error = capfd.readouterr().err
    assert is_one_sentence(error) if code == 2 else error == ""


def test_a_terminal_shows_the_progress_as_a_bar_and_erases_it_at_the_end(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    console = Console("bar")
    console.progress(0.5, "optimising", "slice 12 of 40")
    console.close()
    out, error = capsys.readouterr()
    assert out == ""
    assert error.split("\r\x1b[K") == ["", "[############............]  50 % optimising: slice 12 of 40", ""]


def test_a_table_has_aligned_columns():
    assert table([("a", "bb"), ("ccc", 1)]).splitlines() == ["a    bb", "---  --", "ccc  1"]


def test_the_models_are_listed(capfd):
    assert main(["models"]) == 0
    heading, _, *rows, shared = capfd.readouterr().out.splitlines()
    assert heading.split()[:4] == ["name", "kind", "kernel", "latent"]
    linear = ["linear", "linear", "96"]  # it has no kernel
    networks = [["gan3", "gan", "3"], ["gan7", "gan", "7"], ["vae3", "vae", "3"], ["vae7", "vae", "7"]]
    assert [row.split()[:3] for row in rows] == sorted([linear, *networks])
    assert shared == "They share brains.npz (9.2 MB) and template.nii.gz (0.3 MB)."


def test_a_scan_given_to_train_and_to_tune_is_refused(small, tmp_path, capfd):
    scan, output = str(small / "scan.nii.gz"), str(tmp_path / "slices.npz")
    assert main(["train", "prepare", "--train", str(small), "--tune", scan, "--output", output]) == 2
    assert "given to train and to tune" in capfd.readouterr().err


OPTIONS = {
    "--model": ("gan7", "gan7"), "--label": ("1", 1), "--grow": ("1.5", 1.5), "--iterations": ("7", 7),
    "--window": ("9", 9), "--prior-weight": ("0.5", 0.5), "--seed": ("11", 11),
}  # fmt: skip
SWITCHES = {
    "--no-weighting": ("weighting", False), "--no-prior": ("prior", False), "--no-residual": ("residual", False),
    "--noise": ("noise", True), "--no-blending": ("blending", "none"), "--blending=3d": ("blending", "3d"),
    "--blending=2d": ("blending", "2d"), "--device=cpu": ("device", "cpu"),
}  # fmt: skip


@pytest.mark.parametrize("option", [*OPTIONS, *SWITCHES])
def test_each_option_sets_its_field_of_the_settings_and_no_other(folder, instant, option):
    if option in OPTIONS:
        text, value = OPTIONS[option]
        arguments, field = [option, text], option.removeprefix("--").replace("-", "_")
    else:
        arguments, (field, value) = [option], SWITCHES[option]
    assert run(folder, *arguments) == 0
    assert instant == [replace(Settings(), **{field: value})]


@pytest.fixture
def series(folder):
    """The small sample as a DICOM series in the folder `dicom`."""
    write_dicom(read_image(folder / "scan.nii.gz"), folder / "dicom", "int16", 16)
    return folder


def test_a_dicom_folder_becomes_a_derived_series_in_a_new_folder(series):
    command = [*COMMAND, "run", "dicom", "mask.nii.gz", "out", "--iterations=1", "--device=cpu", "--report=r.json"]
    done = subprocess.run(command, cwd=series, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    before, after = read_image(series / "dicom"), read_image(series / "out")
    assert same_grid(after, before)
    hole = hole_on_grid(read_image(series / "mask.nii.gz"), before)  # the slices of a series have an order of their own
    changed = sitk.GetArrayFromImage(after) != sitk.GetArrayFromImage(before)
    assert not changed[~hole].any()
    assert changed[hole].mean() > 0.9
    first = pydicom.dcmread(next((series / "out").iterdir()))
    assert first.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert "model linear" in first.DerivationDescription
    assert not [path for path in series.iterdir() if path.name.startswith(".")]


def test_a_series_is_never_written_into_a_folder_with_files(series, capfd):
    refused(series, capfd, "'dicom' exists already: give the name of a new folder", image="dicom", output="dicom")


def test_a_dicom_series_that_cannot_be_copied_is_refused_before_the_run(series, instant, capfd):
    for file in (series / "dicom").iterdir():
        data = pydicom.dcmread(file)
        data.PhotometricInterpretation = "PALETTE COLOR"
        data.save_as(file)
    refused(series, capfd, "is", image="dicom", output="out")
    assert instant == []
    assert not (series / "out").exists()


def test_a_series_uid_that_is_not_there_is_refused(series, capfd):
    refused(series, capfd, "holds no DICOM series 1.2.3: choose one of", "--series", "1.2.3", image="dicom")
    refused(series, capfd, "is no folder of DICOM files", "--series", "1.2.3")


# --- several scans of one head


def test_the_output_of_a_further_scan_is_checked_before_the_run(folder, capfd, instant):
    shutil.copy(folder / "scan.nii.gz", folder / "second.nii.gz")
    for output, complaint in (
        ("result.nii.gz", "another output"),
        ("second.nii.gz", "already an input"),
        ("none/second.nii.gz", "does not exist: choose or create one"),
        ("second.txt", "no supported file extension"),
    ):
        refused(folder, capfd, complaint, "--also", folder / "second.nii.gz", folder / output)
    refused(
        folder, capfd, "another output", "--report", folder / "r.json", "--figure", folder / "f.png", "--generated",
        folder / "g_2.nii.gz", "--also", folder / "second.nii.gz", folder / "g_2.nii.gz",
    )  # fmt: skip
    assert instant == []


def test_the_real_command_fills_a_further_scan_with_the_first_ones_mask_or_its_own(folder, small_scan, small_hole):
    scan, mask = read_image(folder / "scan.nii.gz"), read_image(folder / "mask.nii.gz")
    flair = np.interp(small_scan, np.array([0, 0.2, 0.5, 0.8, 1.2]) * small_scan.max(), [0, 200, 1000, 600, 500])
    save(flair.astype(np.int16), folder / "flair.nii.gz", scan)
    save(np.roll(small_hole, 1, axis=2).astype(np.uint8), folder / "mask2.nii.gz", mask)
    command = [*COMMAND, "run", "scan.nii.gz", "mask.nii.gz", "out.nii.gz", "--iterations=1", "--device=cpu"]
    command += ["--report=r.json", "--figure=f.png", "--also", "flair.nii.gz", "out2.nii.gz"]
    command += ["--also", "scan.nii.gz", "out3.nii.gz", "mask2.nii.gz"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["out.nii.gz", "out2.nii.gz", "out3.nii.gz"]
    holes = {"out": small_hole, "out2": small_hole, "out3": np.roll(small_hole, 1, axis=2)}
    for (name, hole), before in zip(holes.items(), ("scan", "flair", "scan"), strict=True):
        before, after = (sitk.GetArrayFromImage(read_image(folder / f"{each}.nii.gz")) for each in (before, name))
        assert after.dtype == before.dtype
        assert np.array_equal(after[~hole], before[~hole])
        assert (after[hole] != before[hole]).mean() > 0.5
    reports = [json.loads((folder / name).read_text("utf-8")) for name in ("r.json", "r_2.json", "r_3.json")]
    assert [report["image"] for report in reports] == ["scan.nii.gz", "flair.nii.gz", "scan.nii.gz"]
    assert [report["together"]["scan"] for report in reports] == [1, 2, 3]
    assert {"f.png", "f_2.png", "f_3.png"} <= {path.name for path in folder.iterdir()}
