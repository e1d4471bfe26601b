"""Two runs of the command with all outputs, on files that name the patient."""

import json
import os
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from MedInpaintLib.command.main import main
from MedInpaintLib.volumes.image import affine
from MedInpaintLib.volumes.mask import hole_on_grid
from MedInpaintLib.volumes.read import read_image

OPTIONS = ["--iterations=2", "--device=cpu"]
NAME, NUMBER = "DOE^JANE", "MRN-7741903"
HOOK = """
import os, sys
def refuse(event, arguments):
    if event.startswith("socket."):
        os.write(2, f"refused: {event}".encode())
        os._exit(77)
sys.addaudithook(refuse)
open(os.environ["HOOKED"], "w").close()
"""


def named_nifti(scan, folder, name="scan"):
    """A NIfTI file with the name of the patient in its free texts."""
    path = folder / f"{name}.nii"
    sitk.WriteImage(scan, str(path))
    content = bytearray(path.read_bytes())
    for start, length, text in ((14, 18, NAME), (148, 80, f"{NAME} {NUMBER}"), (228, 24, NUMBER), (328, 16, NAME)):
        content[start : start + length] = text.encode().ljust(length, b"\0")
    path.write_bytes(content)
    return path


def named_nrrd(scan, folder, name="scan"):
    """An NRRD file with the name of the patient in its keys and values."""
    named = sitk.Image(scan)
    named.SetMetaData("PatientName", NAME)
    named.SetMetaData(NUMBER, NAME)
    sitk.WriteImage(named, str(folder / f"{name}.nrrd"))
    return folder / f"{name}.nrrd"


def named_dicom(scan, folder):
    """A DICOM series of the patient, in a folder."""
    series = folder / "series"
    series.mkdir()
    across, down = scan.GetDirection()[0:9:3], scan.GetDirection()[1:9:3]
    tags = {
        "0008|0060": "MR", "0010|0010": NAME, "0010|0020": NUMBER, "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
        "0020|000d": "1.2.3.4", "0020|000e": "1.2.3.4.5", "0020|0037": "\\".join(map(str, (*across, *down))),
    }  # fmt: skip
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index in range(scan.GetSize()[2]):
        place = scan.TransformIndexToPhysicalPoint((0, 0, index))
        slice_ = scan[:, :, index]
        of_slice = {
            "0008|0018": f"1.2.3.4.6.{index}",
            "0020|0032": "\\".join(map(str, place)),
            "0020|0013": str(index),
        }
        for tag, value in {**tags, **of_slice}.items():
            slice_.SetMetaData(tag, value)
        writer.SetFileName(str(series / f"{index:03}.dcm"))
        writer.Execute(slice_)
    return series


def text_chunks(png):
    """The content of each text chunk of a PNG."""
    place, found = 8, []
    while place < len(png):
        length, kind = int.from_bytes(png[place : place + 4], "big"), png[place + 4 : place + 8]
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            found.append(png[place + 8 : place + 8 + length])
        place += length + 12
    return found


def hooked(folder, command):
    """Run a command in which Python, and its child processes, exit with 77 when they open a socket."""
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join(filter(None, (str(folder / "hook"), os.environ.get("PYTHONPATH"))))
    variables = {**os.environ, "PYTHONPATH": path, "HOOKED": str(folder / "hooked"), "PYTHONUTF8": "1"}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600)


FORMATS = {"NIfTI, NRRD": (named_nifti, named_nrrd, "nii.gz"), "DICOM, NIfTI": (named_dicom, named_nifti, "mha")}


@pytest.fixture(scope="module", params=FORMATS.values(), ids=FORMATS)
def ran(request, small, tmp_path_factory):
    """A folder with the outputs, the scan and the mask, which name the patient, and the finished run."""
    write_scan, write_mask, suffix = request.param
    folder = tmp_path_factory.mktemp("run")
    archive = folder / f"{NAME} {NUMBER}"
    archive.mkdir()
    scan = write_scan(read_image(small / "scan.nii.gz"), archive)
    mask = write_mask(read_image(small / "mask.nii.gz"), archive, "mask")
    files = {"report": "json", "figure": "png", "generated": suffix, "uncertainty": suffix}
    options = [*OPTIONS, "--progress=json", *(f"--{name}={folder / name}.{end}" for name, end in files.items())]
    command = [sys.executable, "-m", "MedInpaintLib", "run", scan, mask, folder / f"filled.{suffix}", *options]
    return folder, scan, mask, hooked(folder, [*map(str, command)])


def image(folder, name):
    (path,) = folder.glob(f"{name}.*")
    return read_image(path)


def scan_and_hole(ran):
    scan = read_image(ran[1])
    return scan, hole_on_grid(read_image(ran[2]), scan)


def test_a_run_changes_only_the_hole(ran):
    folder, _, _, done = ran
    assert (done.returncode, done.stderr) == (0, "")
    (scan, hole), filled = scan_and_hole(ran), image(folder, "filled")
    assert filled.GetPixelID() == scan.GetPixelID()
    np.testing.assert_array_equal(affine(filled), affine(scan))
    changed = sitk.GetArrayFromImage(filled) != sitk.GetArrayFromImage(scan)
    assert not (changed & ~hole).any()
    assert changed[hole].mean() > 0.9


@pytest.mark.parametrize("ran", list(FORMATS.values())[:1], ids=list(FORMATS)[:1], indirect=True)
def test_a_run_keeps_the_header_of_a_nifti_file(ran):
    folder, scan, _, _ = ran
    (filled,) = folder.glob("filled.*")
    old, new = nibabel.load(scan), nibabel.load(filled)
    assert new.header.binaryblock == old.header.binaryblock
    assert NAME in new.header["descrip"].item().decode()


def test_a_run_writes_its_report_figure_and_generated_slices(ran):
    folder, (_, hole) = ran[0], scan_and_hole(ran)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["lesion"]["volume_ml"] == pytest.approx(hole.sum() * 0.008)
    assert report["search"]["iterations"] == 2
    assert not report["alignment"]["poor"]
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert sitk.GetArrayFromImage(image(folder, "generated"))[hole].std() > 0


def test_a_run_writes_its_uncertainty(ran):
    folder, (scan, hole) = ran[0], scan_and_hole(ran)
    uncertainty = image(folder, "uncertainty")
    assert uncertainty.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(affine(uncertainty), affine(scan))
    deviation = sitk.GetArrayFromImage(uncertainty)
    assert not deviation[~hole].any()
    assert (deviation[hole] > 0).mean() > 0.9
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["lesions"][0]["uncertainty"] == pytest.approx(deviation[hole].mean(), rel=1e-3)


def test_a_run_reports_its_progress(ran):
    events = [json.loads(line) for line in ran[3].stdout.splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["device", "done"]
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    assert {"aligning", "optimising", "blending"} <= {event.get("stage") for event in events}


@pytest.mark.parametrize("ran", list(FORMATS.values())[:1], ids=list(FORMATS)[:1], indirect=True)
def test_a_second_run_writes_the_same_bytes(ran, tmp_path):
    folder, scan, mask, _ = ran
    (first,) = folder.glob("filled.*")
    assert main(["run", str(scan), str(mask), str(tmp_path / first.name), *OPTIONS, "--progress=none"]) == 0
    assert (tmp_path / first.name).read_bytes() == first.read_bytes()


def test_a_run_opens_no_connection(ran):
    folder, _, _, done = ran
    assert done.returncode == 0, done.stderr
    assert (folder / "hooked").exists()
    assert list(folder.glob("filled.*"))


@pytest.mark.parametrize("action", ["socket.socket()", "socket.getaddrinfo('localhost', 80)"])
def test_a_connection_would_be_noticed(tmp_path, action):
    done = hooked(tmp_path, [sys.executable, "-c", f"import socket; {action}"])
    assert done.returncode == 77
    assert "refused: socket." in done.stderr


def test_no_output_beside_the_scan_names_the_patient(ran):
    folder, scan, mask, done = ran
    for source in (next(scan.iterdir()) if scan.is_dir() else scan, mask):
        assert all(text.encode() in source.read_bytes() for text in (NAME, NUMBER))
    figure = (folder / "figure.png").read_bytes()
    assert [chunk for chunk in text_chunks(figure) if not chunk.startswith(b"Software\0Matplotlib")] == []
    report = (folder / "report.json").read_text(encoding="utf-8")
    assert json.loads(report)["image"] == scan.name
    assert json.loads(report)["mask"] == mask.name
    for text in (NAME, NUMBER, "JANE", "7741903"):
        assert text not in report
        assert text not in done.stdout + done.stderr
        assert text.encode() not in figure
        if scan.is_dir():  # the tags of a series are not copied, but the header of a file is
            assert text.encode() not in (folder / "filled.mha").read_bytes()
