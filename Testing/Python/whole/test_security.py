"""Scans and models are only data, no run opens a connection, and no output names the patient."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import MedInpaintLib
import pytest
import SimpleITK as sitk
from MedInpaintLib.command.main import main
from MedInpaintLib.volumes.read import read_image

PACKAGE = Path(MedInpaintLib.__file__).parent
FILES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("*.py")])
UNSAFE_MODULES = {
    "pickle", "marshal", "shelve", "dill", "joblib",
    "socket", "ssl", "http", "urllib", "requests", "ftplib", "smtplib", "telnetlib", "xmlrpc", "asyncio",
}  # fmt: skip
UNSAFE_CALLS = {"eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
ARGUMENT_AS_A_LIST = {"start", "startDetached", "execute"}  # of a QProcess, given a program and its arguments

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


def unsafe(tree):
    """The parts of a syntax tree that could run data as code, use a shell, or open a connection."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name.split(".")[0] in UNSAFE_MODULES)
            case ast.ImportFrom(module=str(module), level=0) if module.split(".")[0] in UNSAFE_MODULES:
                yield module
            case ast.Call(func=function, args=arguments, keywords=keywords):
                named, options = ast.unparse(function), {each.arg: ast.unparse(each.value) for each in keywords}
                method = named.rsplit(".", 1)[-1]
                if (
                    named in UNSAFE_CALLS
                    or options.get("shell", "False") != "False"
                    or method == "startCommand"
                    or ("process" in named.lower() and method in ARGUMENT_AS_A_LIST and len(arguments) < 2)
                    or (named == "torch.load" and options.get("weights_only") != "True")  # not torch 2.2's default
                    or (named == "np.load" and (options.get("allow_pickle", "False") != "False" or len(arguments) > 2))
                ):
                    yield ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_no_file_runs_data_uses_a_shell_or_connects(path):
    assert not list(unsafe(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import urllib.request",
        "from socket import create_connection",
        "subprocess.run(line, shell=True)",
        "subprocess.run(line, shell=asked)",
        "os.system(line)",
        "eval(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, None, True)",
        "np.load(path, allow_pickle=True)",
        "process.start(line)",
        "self._process.startCommand(line)",
    ],
)
def test_unsafe_code_would_be_found(code):
    assert list(unsafe(ast.parse(code)))


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
        place_tags = {
            "0008|0018": f"1.2.3.4.6.{index}",
            "0020|0032": "\\".join(map(str, place)),
            "0020|0013": str(index),
        }
        for tag, value in {**tags, **place_tags}.items():
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
    variables = {**os.environ, "PYTHONPATH": str(folder / "hook"), "HOOKED": str(folder / "hooked"), "PYTHONUTF8": "1"}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600)


@pytest.fixture(
    scope="module", params=[(named_nifti, named_nrrd), (named_dicom, named_nifti)], ids=["NIfTI, NRRD", "DICOM, NIfTI"]
)
def ran(request, small, tmp_path_factory):
    """A folder, a scan and a mask that name the patient, and a finished run of the command on them."""
    folder = tmp_path_factory.mktemp("run")
    archive = folder / f"{NAME} {NUMBER}"
    archive.mkdir()
    scan = request.param[0](read_image(small / "scan.nii.gz"), archive)
    mask = request.param[1](read_image(small / "mask.nii.gz"), archive, "mask")
    options = ["--iterations=2", "--restarts=1", "--progress=json"]
    options += [f"--{name}={folder / name}.{end}" for name, end in (("report", "json"), ("figure", "png"))]
    command = [sys.executable, "-m", "MedInpaintLib", "run", scan, mask, folder / "filled.mha"]
    return folder, scan, mask, hooked(folder, [*map(str, command), *options])


def test_a_run_opens_no_connection(ran):
    folder, _, _, done = ran
    assert done.returncode == 0, done.stderr
    assert (folder / "hooked").exists()
    assert (folder / "filled.mha").exists()


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


@pytest.mark.parametrize("name", ["scan.nii", "mask.nii"])
def test_a_refusal_names_the_file_and_not_its_folder(small, tmp_path, capfd, name):
    archive = tmp_path / f"{NAME} {NUMBER}"
    archive.mkdir()
    (archive / name).write_text(f"{NAME} {NUMBER}")
    inputs = {"scan.nii": small / "scan.nii.gz", "mask.nii": small / "mask.nii.gz", name: archive / name}
    assert main(["run", *map(str, inputs.values()), str(tmp_path / "filled.mha")]) == 2
    out, error = capfd.readouterr()
    assert name in error
    assert not any(text in out + error for text in (NAME, NUMBER))
