"""Several contrasts of a session: which are filled together, their files, and what happens if one is missing."""

import csv
import json
import shutil
import subprocess
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk
from cohort_stub import (
    QUICK,
    Listener,
    add_mask,
    add_scan,
    add_subject,
    counted_fill,
    files_under,
    fill_one,
    make_dataset,
    stub_fill,
    write,
)
from MedInpaintLib import Settings, inpaint_together
from MedInpaintLib.cohort.fill import Job, fill
from MedInpaintLib.cohort.find import Request, find_scans, read_filters
from MedInpaintLib.cohort.report.entries import read_entries
from MedInpaintLib.cohort.report.group import write_group
from MedInpaintLib.cohort.report.participant import write_page
from MedInpaintLib.cohort.resume import fingerprint, is_complete, read_sidecar
from MedInpaintLib.cohort.run import VALIDATOR, run_participants
from MedInpaintLib.cohort.scans import Results
from MedInpaintLib.cohort.workers.cluster import Plan
from MedInpaintLib.command.main import main
from MedInpaintLib.errors import InputError
from MedInpaintLib.models.registry import find_model

ALSO = ("T2w", "FLAIR")
CONTRASTS = ("T1w", *ALSO)
ENDS = (
    "desc-lesionfilled_{0}.json",
    "desc-lesionfilled_{0}.nii.gz",
    "space-orig_label-lesion_desc-filled{1}_mask.json",
    "space-orig_label-lesion_desc-filled{1}_mask.nii.gz",
)


@pytest.fixture
def dataset(tmp_path):
    """One participant; the FLAIR scan has a finer grid than the others."""
    dataset = make_dataset(tmp_path / "data")
    add_subject(dataset, "sub-01_ses-1")
    add_scan(dataset, "sub-01_ses-1", "T2w", seed=1)
    add_scan(dataset, "sub-01_ses-1", "FLAIR", seed=2, expand=2)
    return dataset


def job_of(dataset, output, also=ALSO, settings=QUICK):
    (scan,) = find_scans(Request(dataset, output, also=also))
    return Job(scan, output, settings, fingerprint(scan, settings, find_model(settings.model)))


def run(dataset, output, log, settings=QUICK, uncertainty=False):
    """A run with one worker. Returns its counts, its warnings, and the scans that the engine was called for."""
    listener = Listener()
    work = partial(counted_fill, log=log)
    log.unlink(missing_ok=True)
    request = Request(dataset, output, also=ALSO)
    counts = run_participants(request, settings, Plan(workers=1), listener, uncertainty, work)
    return dict(counts), listener.warnings, log.read_text(encoding="utf-8").split() if log.exists() else []


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def change_a_voxel(path):
    image = sitk.ReadImage(str(path))
    image[1, 1, 1] = 1 - image[1, 1, 1]
    sitk.WriteImage(image, str(path))


def rows_of(output):
    write_group(output)
    with (output / "group_lesions.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_each_contrast_has_its_files_and_keeps_its_voxels_outside_of_the_lesion(dataset, tmp_path):
    job = job_of(dataset, tmp_path / "out")
    assert stub_fill(job).problem == ""
    anat = {name for name in files_under(job.output) if "/anat/" in name}
    assert anat == {
        "sub-01/ses-1/anat/sub-01_ses-1_" + end.format(contrast, contrast.removeprefix("T1w"))
        for contrast in CONTRASTS
        for end in ENDS
    }
    for part, expand in zip(job.results.together, (1, 1, 2), strict=True):
        before, after, hole = read(part.scan.image), read(part.image), read(part.mask) > 0
        assert hole.any()
        assert before.shape[0] == 20 * expand
        assert np.array_equal(after[~hole], before[~hole])
        assert np.array_equal(after[hole], before[hole] + 1000)
        assert part.section.is_file()
        assert part.thumbnail.is_file()
    assert not job.results.staging.exists()


def test_the_sidecars_say_what_was_filled_together_and_name_all_sources(dataset, tmp_path):
    job = job_of(dataset, tmp_path / "out")
    assert stub_fill(job).problem == ""
    for part in job.results.together:
        about = read_sidecar(part)
        assert about["MedInpaint"]["FilledTogether"] == list(CONTRASTS)
        own, mask, *others = (source.rpartition("/")[2] for source in about["Sources"])
        assert own == part.scan.image.name
        assert mask == job.scan.mask.name
        assert sorted(others) == sorted(p.scan.image.name for p in job.results.together if p.scan != part.scan)


def test_a_session_is_one_task_and_is_not_done_again_unless_one_of_its_contrasts_changes(dataset, tmp_path):
    output, log = tmp_path / "out", tmp_path / "log"
    once = ["sub-01_ses-1_T1w"]
    assert run(dataset, output, log) == ({"filled": 1, "present": 0, "failed": 0}, [], once)
    assert run(dataset, output, log) == ({"filled": 0, "present": 1, "failed": 0}, [], [])
    flair = dataset / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_FLAIR.nii.gz"
    change_a_voxel(flair)
    assert run(dataset, output, log) == ({"filled": 1, "present": 0, "failed": 0}, [], once)
    filled = output / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_desc-lesionfilled_FLAIR.nii.gz"
    assert read(filled)[1, 1, 1] == read(flair)[1, 1, 1]


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_results_are_complete_only_with_those_of_each_contrast(dataset, tmp_path, contrast):
    job = job_of(dataset, tmp_path / "out")
    assert stub_fill(job).problem == ""
    assert is_complete(job.results, job.fingerprint, uncertainty=False)
    part = next(part for part in job.results.together if part.scan.suffix == contrast)
    part.mask.unlink()
    assert not is_complete(job.results, job.fingerprint, uncertainty=False)


def test_page_and_table_show_each_contrast_and_what_it_was_filled_with(dataset, tmp_path):
    output = tmp_path / "out"
    assert stub_fill(job_of(dataset, output)).problem == ""
    write_page(output, "01")
    page = (output / "sub-01.html").read_text(encoding="utf-8")
    assert page.count('<section class="scan"') == 3
    assert "together with T2w, FLAIR of this session; this scan leads" in page
    assert "together with T1w, T2w of this session; registered to the first scan" in page
    assert "its other contrasts were registered to it rigidly" in page
    rows = rows_of(output)
    assert {row["contrast"]: row["filled_with"] for row in rows} == {
        "T1w": "T2w FLAIR",
        "T2w": "T1w FLAIR",
        "FLAIR": "T1w T2w",
    }


def test_the_official_validator_has_nothing_to_say(dataset, tmp_path):
    program = shutil.which(VALIDATOR)
    if program is None:
        pytest.skip("bids-validator-deno is not installed")
    output, log = tmp_path / "out", tmp_path / "log"
    assert run(dataset, output, log, settings=Settings(device="cpu"), uncertainty=True)[0]["filled"] == 1
    assert len(list(output.rglob("*_desc-uncertainty_*.nii.gz"))) == 3
    write_group(output)
    answer = subprocess.run([program, "--format", "json", str(output)], capture_output=True, text=True, check=False)
    issues = json.loads(answer.stdout)["issues"]["issues"]
    assert [(issue["code"], issue.get("location")) for issue in issues] == []


def test_a_session_without_the_further_contrasts_is_filled_alone_and_says_so(tmp_path):
    dataset, output = make_dataset(tmp_path / "data"), tmp_path / "out"
    add_subject(dataset, "sub-01")
    job = job_of(dataset, output)
    assert stub_fill(job).problem == ""
    report = read_sidecar(job.results)["MedInpaint"]["Report"]
    assert report["warnings"] == [f"The session has no {c} scan: it is filled without it." for c in ALSO]
    assert "together" not in report
    (row,) = rows_of(output)
    assert (row["filled_with"], row["status"]) == ("n/a", "filled")
    assert "The session has no FLAIR scan" in row["warnings"]


def test_the_contrasts_of_another_session_are_left_alone(dataset, tmp_path):
    add_subject(dataset, "sub-01_ses-2")
    first, second = find_scans(Request(dataset, tmp_path / "out", also=ALSO))
    assert [scan.suffix for scan in first.also] == list(ALSO)
    assert (second.also, second.missing) == ((), ALSO)


def test_an_unreadable_contrast_is_one_sentence_and_the_other_sessions_are_filled(dataset, tmp_path):
    for contrast in CONTRASTS:
        add_scan(dataset, "sub-02", contrast)
    add_mask(dataset, "sub-02")
    damaged = dataset / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    output, log = tmp_path / "out", tmp_path / "log"
    counts, warnings, _ = run(dataset, output, log)
    assert counts == {"filled": 1, "present": 0, "failed": 1}
    (warning,) = warnings
    assert warning.startswith("sub-02_T1w: 'sub-02_FLAIR.nii.gz' cannot be read as an image")
    assert not [name for name in files_under(output) if name.startswith("sub-02/")]
    failed = {row["scan"]: row["problem"] for row in rows_of(output) if row["status"] == "failed"}
    assert set(failed) == {f"sub-02_{contrast}" for contrast in CONTRASTS}  # none of them has a result
    assert all("sub-02_FLAIR.nii.gz" in problem for problem in failed.values())

    add_scan(dataset, "sub-02", "FLAIR")
    counts, warnings, _ = run(dataset, output, log)
    assert (counts, warnings) == ({"filled": 1, "present": 1, "failed": 0}, [])
    assert not [entry for entry in read_entries(output) if entry.problem]  # all three failures are forgotten


@pytest.mark.parametrize("also", [["T1w"], ["T2w", "T2w"], ["FLAIR", "T1w"]])
def test_a_contrast_that_is_named_twice_is_refused(dataset, tmp_path, capsys, also):
    command = ["bids", str(dataset), str(tmp_path / "out"), "participant", "--also", *also]
    assert main([*command, "--skip-bids-validation", "--progress", "none"]) == 2
    assert "--also names a contrast twice, or T1w, which leads" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_slice_by_slice_filling_knows_one_contrast(dataset, tmp_path, capsys):
    command = ["bids", str(dataset), str(tmp_path / "out"), "participant", "--also", "FLAIR", "--slicewise"]
    assert main([*command, "--skip-bids-validation", "--progress", "none"]) == 2
    assert "drop --also, or --slicewise" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_several_scans_of_a_contrast_are_a_problem_that_a_filter_solves(dataset, tmp_path):
    fine = add_scan(dataset, "sub-01_ses-1_acq-fine", "FLAIR")
    (scan,) = find_scans(Request(dataset, tmp_path / "out", also=ALSO))
    assert scan.problem.startswith("There are 2 FLAIR scans (sub-01_ses-1_FLAIR.nii.gz, sub-01_ses-1_acq-fine_FLAIR")
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({"FLAIR": {"acquisition": "fine"}}), encoding="utf-8")
    request = Request(dataset, tmp_path / "out", filters=read_filters(path, ALSO), also=ALSO)
    (scan,) = find_scans(request)
    assert scan.also[1].image == fine
    with pytest.raises(InputError, match="keys scan and mask alone"):
        read_filters(path)


def test_several_leading_scans_of_a_session_are_a_problem(dataset, tmp_path):
    add_scan(dataset, "sub-01_ses-1_acq-fine")
    for scan in find_scans(Request(dataset, tmp_path / "out", also=["FLAIR"])):
        assert "2 T1w scans, and it is not clear which of them leads" in scan.problem


def test_the_real_engine_fills_the_contrasts_of_a_session_as_a_call_of_its_own_does(small, tmp_path):
    settings = Settings(iterations=0, residual=False, device="cpu")
    dataset, output = make_dataset(tmp_path / "data"), tmp_path / "out"
    scan, mask = (sitk.ReadImage(str(small / f"{name}.nii.gz")) for name in ("scan", "mask"))
    dark = sitk.Cast(2000 - scan, sitk.sitkInt16) * sitk.Cast(scan > 0, sitk.sitkInt16)
    for image, end in ((scan, "T1w"), (dark, "T2w")):
        write(image, dataset / "sub-01" / "anat" / f"sub-01_{end}.nii.gz")
    write(mask, dataset / "derivatives" / "manual" / "sub-01" / "anat" / "sub-01_label-lesion_mask.nii.gz")
    job = job_of(dataset, output, ["T2w"], settings)
    assert fill(job).problem == ""
    for part, result in zip(job.results.together, inpaint_together([scan, dark], [mask, None], settings), strict=True):
        before, after, hole = read(part.scan.image), read(part.image), read(part.mask) > 0
        assert np.array_equal(after[~hole], before[~hole])
        assert np.array_equal(after, sitk.GetArrayViewFromImage(result.image))
        report = read_sidecar(Results(output, part.scan))["MedInpaint"]["Report"]
        assert report["together"].keys() == result.report["together"].keys()
        assert report.keys() == {*fill_one(scan, mask, settings).report, "together"}
