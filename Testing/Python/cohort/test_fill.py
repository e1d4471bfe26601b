"""One task: its files, what counts as done, and what a failure leaves."""

import gc
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from cohort_stub import QUICK, add_subject, files_under, make_dataset, stub_fill
from matplotlib.figure import Figure
from MedInpaintLib.cohort.derivatives import start_dataset
from MedInpaintLib.cohort.fill import Job, fill, remove_unfinished
from MedInpaintLib.cohort.find import Request, dataset_folders, find_scans
from MedInpaintLib.cohort.report.participant import write_page
from MedInpaintLib.cohort.resume import fingerprint, is_complete, read_sidecar
from MedInpaintLib.cohort.run import VALIDATOR, check_dataset
from MedInpaintLib.cohort.scans import sidecar
from MedInpaintLib.errors import InputError
from MedInpaintLib.models.registry import find_model
from MedInpaintLib.settings import Settings

FILES = {
    "sub-01/ses-1/anat/sub-01_ses-1_run-01_desc-lesionfilled_T1w.nii.gz",
    "sub-01/ses-1/anat/sub-01_ses-1_run-01_desc-lesionfilled_T1w.json",
    "sub-01/ses-1/anat/sub-01_ses-1_run-01_space-orig_label-lesion_desc-filled_mask.nii.gz",
    "sub-01/ses-1/anat/sub-01_ses-1_run-01_space-orig_label-lesion_desc-filled_mask.json",
    "sub-01/figures/sub-01_ses-1_run-01_T1w_section.html",
    "sub-01/figures/sub-01_ses-1_run-01_T1w_thumbnail.png",
}
UNCERTAINTY = {
    "sub-01/ses-1/anat/sub-01_ses-1_run-01_desc-uncertainty_T1w.nii.gz",
    "sub-01/ses-1/anat/sub-01_ses-1_run-01_desc-uncertainty_T1w.json",
}


@pytest.fixture
def dataset(tmp_path):
    dataset = make_dataset(tmp_path / "data")
    add_subject(dataset, "sub-01_ses-1_run-01")
    return dataset


@pytest.fixture
def job(dataset, tmp_path):
    return make_job(dataset, tmp_path / "out")


def make_job(dataset, output, settings=QUICK, uncertainty=False):
    request = Request(dataset, output)
    (scan,) = find_scans(request)
    start_dataset(output, dataset_folders(request))
    return Job(scan, output, settings, fingerprint(scan, settings, find_model(settings.model)), uncertainty)


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def results_of(output):
    return {name for name in files_under(output) if name.startswith("sub-")}


def test_the_files_are_those_of_bids_and_hold_what_the_engine_made(job):
    assert stub_fill(job).problem == ""
    assert results_of(job.output) == FILES
    before, after = read(job.scan.image), read(job.results.image)
    hole = read(job.scan.mask) > 0
    assert np.array_equal(read(job.results.mask) > 0, hole)
    assert np.array_equal(after[~hole], before[~hole])
    assert np.array_equal(after[hole], before[hole] + 1000)
    about = json.loads(sidecar(job.results.image).read_text(encoding="utf-8"))
    assert about["Sources"] == list(job.scan.sources)
    assert about["SkullStripped"] is True
    assert about["MedInpaint"]["Report"]["settings"] == QUICK.to_dict()
    assert not job.results.staging.exists()


def test_the_mask_says_what_was_really_filled(dataset, tmp_path):
    job = make_job(dataset, tmp_path / "out", Settings(device="cpu", residual=False, grow=3.0))
    assert stub_fill(job).problem == ""
    assert np.count_nonzero(read(job.results.mask)) > np.count_nonzero(read(job.scan.mask))


def test_the_uncertainty_is_written_on_request(dataset, tmp_path):
    job = make_job(dataset, tmp_path / "out", Settings(device="cpu"), uncertainty=True)
    assert stub_fill(job).problem == ""
    assert results_of(job.output) == FILES | UNCERTAINTY
    assert read(job.results.uncertainty).max() == 10


def test_a_mask_on_another_grid_is_filled_on_the_grid_of_the_scan(dataset, job):
    mask = sitk.ReadImage(str(job.scan.mask))
    sitk.WriteImage(sitk.Expand(mask, [2, 2, 2]), str(job.scan.mask))

    assert stub_fill(job).problem == ""
    assert read(job.results.mask).shape == read(job.scan.image).shape


def test_the_official_validator_has_nothing_to_say(dataset, tmp_path):
    program = shutil.which(VALIDATOR)
    if program is None:
        pytest.skip("bids-validator-deno is not installed")
    job = make_job(dataset, tmp_path / "out", Settings(device="cpu"), uncertainty=True)
    assert stub_fill(job).problem == ""
    write_page(job.output, "01")
    answer = subprocess.run([program, "--format", "json", str(job.output)], capture_output=True, text=True, check=False)
    issues = json.loads(answer.stdout)["issues"]["issues"]
    assert [(issue["code"], issue.get("location")) for issue in issues] == []


def test_a_dataset_that_is_not_bids_is_refused_in_one_sentence(dataset):
    if shutil.which(VALIDATOR) is None:
        pytest.skip("bids-validator-deno is not installed")
    assert check_dataset(dataset)
    (dataset / "dataset_description.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"'data' is not valid BIDS \(\d+ errors, the first is .+\): correct it, or"):
        check_dataset(dataset)


def test_a_fill_leaves_no_figure_in_memory(job):
    gc.collect()
    gc.disable()
    try:
        assert stub_fill(job).problem == ""
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Figure)]
    finally:
        gc.enable()


def test_what_is_done_is_not_done_again(job):
    assert stub_fill(job).problem == ""
    assert is_complete(job.results, job.fingerprint, uncertainty=False)
    assert fill(job, None).problem == ""  # there is no engine to call


def test_another_clock_does_not_count(job):
    assert stub_fill(job).problem == ""
    for path in (job.scan.image, job.scan.mask, sidecar(job.results.image), job.results.image):
        os.utime(path, (86400, 86400))  # in 1970
    mark = fingerprint(job.scan, QUICK, find_model(QUICK.model))
    assert is_complete(job.results, mark, uncertainty=False)


@pytest.mark.parametrize("what", ["settings", "scan", "mask", "model"])
def test_what_determines_the_result_changes_the_fingerprint(job, dataset, what):
    settings, model = QUICK, find_model("linear")
    if what == "settings":
        settings = Settings(device="cpu", residual=False, seed=1)
    elif what == "model":
        model = find_model("vae3")
    else:
        path = job.scan.image if what == "scan" else job.scan.mask
        image = sitk.ReadImage(str(path))
        image[9, 9, 9] = 1 - image[9, 9, 9]
        sitk.WriteImage(image, str(path))
    assert fingerprint(job.scan, settings, model) != job.fingerprint


def test_the_device_does_not_change_the_fingerprint(job):
    assert fingerprint(job.scan, Settings(residual=False), find_model("linear")) == job.fingerprint


@pytest.mark.parametrize("missing", sorted(FILES))
def test_results_without_one_of_their_files_are_not_complete(job, missing):
    assert stub_fill(job).problem == ""
    (job.output / missing).unlink()
    assert not is_complete(job.results, job.fingerprint, uncertainty=False)
    assert stub_fill(job).problem == ""
    assert is_complete(job.results, job.fingerprint, uncertainty=False)


def test_a_sidecar_of_another_program_is_not_taken_for_ours(job):
    assert stub_fill(job).problem == ""
    sidecar(job.results.image).write_text('{"MedInpaint": 1}', encoding="utf-8")
    assert read_sidecar(job.results) == {}


def test_an_unexpected_error_is_one_sentence_with_details_and_leaves_no_file(job):
    def broken(images, masks, settings):
        raise KeyError("lesion")

    outcome = fill(job, broken)
    assert outcome.problem == "An unexpected error ended the fill (KeyError: 'lesion')."
    assert "in broken" in outcome.details
    assert results_of(job.output) == set()


def test_a_failure_while_the_files_are_moved_leaves_nothing_that_looks_complete(job, monkeypatch):
    assert stub_fill(job).problem == ""
    again = Job(job.scan, job.output, Settings(device="cpu", residual=False, seed=5), "another")
    real = os.replace
    count = 0

    def counting(source, target):
        nonlocal count
        if "unfinished" in str(source) and "unfinished" not in str(target):
            count += 1
            if count == 2:
                raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr("MedInpaintLib.cohort.fill.os.replace", counting)
    assert stub_fill(again).problem.startswith("The results cannot be written (No space left on device): free disk")
    assert not is_complete(job.results, "another", uncertainty=False)
    assert not is_complete(job.results, job.fingerprint, uncertainty=False)
    assert not job.results.staging.exists()


def test_a_place_that_cannot_be_written_to_is_one_sentence(job):
    (job.output / "sub-01").write_text("a file in the place of the folder", encoding="utf-8")
    outcome = stub_fill(job)
    assert outcome.problem.startswith("The results cannot be written (")
    assert not outcome.details
    assert not job.results.staging.exists()


def test_what_a_killed_process_left_is_removed_unless_another_one_is_at_work(job):
    job.results.staging.mkdir(parents=True)
    (job.results.staging / "half.nii.gz").write_bytes(b"half")
    code = (
        "import sys, pathlib\nfrom MedInpaintLib.cohort.fill import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('mine', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(job.results.lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "mine\n"
        remove_unfinished(job.results)
        assert job.results.staging.exists()
        other.kill()  # the lock ends with its process
    remove_unfinished(job.results)
    assert not job.results.staging.exists()
