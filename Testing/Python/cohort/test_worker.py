"""What a worker keeps between two scans: the model, and nothing that changes a result or stops it."""

import shutil
from functools import partial

import numpy as np
import SimpleITK as sitk
from cohort_stub import Listener, fill_one, hoard, loading_fill, make_dataset
from MedInpaintLib import Settings, inpaint
from MedInpaintLib.cohort.find import Request
from MedInpaintLib.cohort.report.entries import read_entries
from MedInpaintLib.cohort.run import run_participants
from MedInpaintLib.cohort.workers import cluster
from MedInpaintLib.cohort.workers.cluster import Plan, connect

SETTINGS = Settings(iterations=0, residual=False, device="cpu")


def shape(report):
    """The keys of a report and the types of its values; a list has the shape of its first item."""
    if isinstance(report, dict):
        return {key: shape(value) for key, value in report.items()}
    if isinstance(report, list):
        return [shape(item) for item in report[:1] if not isinstance(item, str)]
    return type(report)


def test_a_worker_loads_the_model_once_and_fills_each_scan_as_a_run_of_its_own_does(small, tmp_path):
    dataset, output, log = make_dataset(tmp_path / "data"), tmp_path / "out", tmp_path / "loads"
    scan, mask = (sitk.ReadImage(str(small / f"{name}.nii.gz")) for name in ("scan", "mask"))
    masks = {"1": mask, "2": sitk.BinaryDilate(sitk.Cast(mask > 0, sitk.sitkUInt8))}  # two masks for the same scan
    for label, lesion in masks.items():
        anat, manual = (root / f"sub-{label}" / "anat" for root in (dataset, dataset / "derivatives" / "manual"))
        anat.mkdir(parents=True)
        manual.mkdir(parents=True)
        shutil.copy(small / "scan.nii.gz", anat / f"sub-{label}_T1w.nii.gz")
        sitk.WriteImage(lesion, str(manual / f"sub-{label}_space-orig_label-lesion_mask.nii.gz"))
    work = partial(loading_fill, log=log)
    counts = run_participants(Request(dataset, output), SETTINGS, Plan(workers=1), Listener(), work=work)
    assert counts == {"filled": 2, "present": 0, "failed": 0}
    assert len(log.read_text(encoding="utf-8").split()) == 1
    assert "Methods, to copy" in (output / "sub-1.html").read_text(encoding="utf-8")
    for entry in read_entries(output):  # the stub of the other tests reports what the real engine reports
        assert shape(entry.report) == shape(fill_one(scan, mask, SETTINGS).report)
    for label, lesion in masks.items():
        got = sitk.ReadImage(str(output / f"sub-{label}" / "anat" / f"sub-{label}_desc-lesionfilled_T1w.nii.gz"))
        alone = inpaint(scan, lesion, SETTINGS).image
        assert np.array_equal(sitk.GetArrayViewFromImage(got), sitk.GetArrayViewFromImage(alone))


def test_a_worker_whose_memory_is_nearly_full_goes_on_with_the_next_scan(monkeypatch):
    """By itself, Dask gives such a worker no task until its memory is free: a run with one worker would never end."""
    limit = 1e9
    monkeypatch.setattr(cluster, "local_workers", lambda plan, scans: (1, 1, limit))
    with connect(Plan(workers=1), 2) as client:
        assert client.submit(hoard, 0.87 * limit, pure=False).result(timeout=60)
        assert client.submit(abs, -3, pure=False).result(timeout=20) == 3
