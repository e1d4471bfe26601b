"""Faults during a run: it is killed, the disk is full, files vanish, others write. No half-written result stays."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from commands import is_one_sentence
from MedInpaintLib import pipeline
from MedInpaintLib.command import outputs
from MedInpaintLib.command.console import Console
from MedInpaintLib.command.main import main
from MedInpaintLib.command.outputs import Outputs, run_files
from MedInpaintLib.errors import Cancelled, InputError
from MedInpaintLib.models.registry import find_model
from MedInpaintLib.search import device, latent
from MedInpaintLib.search.fallback import SMALL_CHUNK, with_fallback
from MedInpaintLib.settings import Settings
from MedInpaintLib.space.case import prepare_case
from MedInpaintLib.volumes.image import same_grid
from MedInpaintLib.volumes.read import read_image

QUICK = Settings(device="cpu", iterations=2, residual=False)
OPTIONS = ["--iterations", "2", "--device", "cpu", "--no-residual", "--progress", "json"]
REAL = "from MedInpaintLib.command.main import main"
# The command with a stub of the engine that adds the seed to the scan. It takes a second.
FAST = """
import sys, time
from types import SimpleNamespace
import SimpleITK as sitk
from MedInpaintLib.command import outputs
from MedInpaintLib.command.main import main
from MedInpaintLib.pipeline import Result
from MedInpaintLib.volumes import write as files

def inpaint_together(scans, masks, settings, progress):
    (scan,), (mask,) = scans, masks
    report = {"lesion": {"volume_ml": 1.0, "count": 1}, "seconds": {"total": 1.0}, "warnings": []}
    report |= {"contrast": {"name": "T1", "levels": [0, 1], "curve": [0, 700]}}
    hole = sitk.GetArrayFromImage(mask) != 0
    return [Result(scan + settings.seed, sitk.Cast(scan, sitk.sitkFloat32), None, report, hole)]

outputs.inpaint_together = inpaint_together
sys.modules["MedInpaintLib.search.device"] = SimpleNamespace(choose_device=lambda name: name)  # avoids loading torch
"""
# The command that stops when a part of the filled scan is on the disk.
HALTED = f"""{FAST}
real = outputs.write_filled_copy

def write(source, path, image, hole):
    real(source, path, image, hole)
    with open(path, "r+b") as file:
        file.truncate(1000)
    print('{{"stage": "writing"}}', flush=True)
    time.sleep(60)

outputs.write_filled_copy = write
"""
# The command that stops in one stage of the work.
STUCK = f"""{FAST}
STAGE = sys.argv.pop(1)

def inpaint_together(scans, masks, settings, progress):
    for stage in ("reading", "aligning", "optimising", "blending"):
        progress(0.5, stage, "at work")
        if stage == STAGE:
            time.sleep(60)

outputs.inpaint_together = inpaint_together
"""
FILES = ["--report", "r.json", "--figure", "f.png", "--generated", "g.nii.gz"]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX")


@pytest.fixture
def folder(folder):
    """A folder with the small sample, and an earlier result of each name."""
    for name in ("result.nii.gz", *FILES[1::2]):
        (folder / name).write_text("earlier")
    return folder


@pytest.fixture(scope="module")
def case(small, fast_engine):
    """The aligned sample, because the alignment takes seconds."""
    model = find_model(QUICK.model)
    return prepare_case(*(read_image(small / name) for name in ("scan.nii.gz", "mask.nii.gz")), model.template())


@pytest.fixture
def aligned(monkeypatch, case):
    def prepared(images, masks, template, label, grow, progress, align):
        progress(0.0, "aligning")
        return [case]

    monkeypatch.setattr(pipeline, "prepare_cases", prepared)


@pytest.fixture(scope="module")
def reference(small, case, tmp_path_factory) -> bytes:
    """The file that an undisturbed run writes in this process."""
    path = tmp_path_factory.mktemp("reference") / "result.nii.gz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "prepare_cases", lambda *_: [case])
        run_files(small / "scan.nii.gz", small / "mask.nii.gz", Outputs(path), QUICK, Console())
    return path.read_bytes()


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def start(folder, code, *options, output="result.nii.gz", first=(), **more):
    """`medinpaint run` in a child process, after this code, which may take the arguments `first`."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nsys.exit(main())", *first]
    command += ["run", "scan.nii.gz", "mask.nii.gz", output, *options]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", **more
    )


def wait_for(child, stage):
    """Read the child's events until this stage."""
    for line in iter(child.stdout.readline, ""):
        if json.loads(line).get("stage") == stage:
            return
    pytest.fail(f"no {stage}: {child.stderr.read()}")


# --- killed and cancelled


@posix
@pytest.mark.parametrize(("name", "stage"), [("SIGINT", "reading"), ("SIGTERM", "blending"), ("SIGKILL", "aligning")])
def test_a_killed_run_leaves_the_folder_as_it_was(folder, name, stage):
    before = content(folder)
    with start(folder, STUCK, *FILES, "--progress", "json", first=[stage]) as child:
        wait_for(child, stage)
        child.send_signal(getattr(signal, name))
        error = child.communicate(timeout=30)[1]
    assert (child.returncode, error) == (-signal.SIGKILL if name == "SIGKILL" else 130, "")
    assert content(folder) == before


@posix
@pytest.mark.parametrize(("name", "stage"), [("SIGTERM", "aligning"), ("SIGINT", "optimising"), ("SIGINT", "blending")])
def test_a_run_that_is_stopped_in_the_code_of_a_library_leaves_the_folder_as_it_was(folder, name, stage):
    before = content(folder)
    with start(folder, REAL, *OPTIONS, *FILES) as child:
        wait_for(child, stage)
        child.send_signal(getattr(signal, name))
        error = child.communicate(timeout=100)[1]
    assert (child.returncode, error) == (130, "")
    assert content(folder) == before


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_run_that_is_stopped_while_it_writes_leaves_the_folder_as_it_was(folder, name):
    before = content(folder)
    with start(folder, HALTED, *FILES, "--progress", "json") as child:
        wait_for(child, "writing")
        assert len(content(folder)) == len(before) + 1
        child.send_signal(getattr(signal, name))
        error = child.communicate(timeout=100)[1]
    assert (child.returncode, error) == (130, "")
    assert content(folder) == before


@posix
def test_a_second_ctrl_c_also_leaves_the_folder_as_it_was(folder):
    """It comes while the run removes its files after the first one."""
    slow = f"{HALTED}\nreal_unlink = files.Path.unlink\ndef unlink(path, **options):\n    print('{{}}', flush=True)\n"
    slow += "    time.sleep(0.3)\n    real_unlink(path, **options)\nfiles.Path.unlink = unlink"
    before = content(folder)
    with start(folder, slow, "--progress", "json") as child:
        wait_for(child, "writing")
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "{}\n"
        child.send_signal(signal.SIGINT)
        error = child.communicate(timeout=30)[1]
    assert (child.returncode, error) == (130, "")
    assert content(folder) == before


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_between_two_renames_is_ignored(folder, name):
    """So no new report lies beside an earlier image: all files are new, and the exit code is 0."""
    slow = f"{FAST}\nreal = files.os.replace\ndef replace(source, target):\n    real(source, target)\n"
    slow += """    print('{"stage": "renaming"}', flush=True)\n    time.sleep(0.2)\nfiles.os.replace = replace"""
    before = content(folder)
    with start(folder, slow, "--report", "r.json", "--generated", "g.nii.gz", "--progress", "json") as child:
        wait_for(child, "renaming")
        assert (folder / "result.nii.gz").read_text(encoding="utf-8") == "earlier"  # it is renamed last
        child.send_signal(getattr(signal, name))
        error = child.communicate(timeout=30)[1]
    assert (child.returncode, error) == (0, "")
    after = content(folder)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"result.nii.gz", "r.json", "g.nii.gz"}


@posix
@pytest.mark.parametrize(("progress", "code"), [("bar", 0), ("json", 130)])
def test_if_the_reader_of_stdout_is_gone_a_run_stops_only_if_it_reports_progress_there(folder, progress, code):
    before = content(folder)
    with start(folder, FAST, "--progress", progress) as child:
        child.stdout.close()
        error = child.stderr.read()
        assert (child.wait(30), error) == (code, "")
    assert (content(folder) == before) == (code == 130)
    assert len(content(folder)) == len(before)


@posix
def test_a_run_needs_no_stdout_and_no_stderr(folder):
    line = [sys.executable, "-c", f"{FAST}\nsys.exit(main())", "run", "scan.nii.gz", "mask.nii.gz", "result.nii.gz"]
    closed = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *line]
    assert subprocess.run(closed, cwd=folder, timeout=30).returncode == 0
    assert same_grid(read_image(folder / "result.nii.gz"), read_image(folder / "scan.nii.gz"))


@posix
def test_a_run_that_is_killed_while_it_writes_leaves_one_hidden_file_and_the_earlier_results(folder):
    """The hidden file does not look like a result, and it does not disturb the next run.

    When it is one hour old, the next run with the same output removes it; the tests of volumes/ check this.
    """
    before = content(folder)
    with start(folder, HALTED, *FILES, "--progress", "json") as child:
        wait_for(child, "writing")
        child.kill()
        child.communicate(timeout=100)
    after = content(folder)
    (hidden,) = after.keys() - before.keys()
    assert hidden.startswith(".")
    assert {name: after[name] for name in before} == before
    with start(folder, FAST) as child:
        assert child.wait(100) == 0
    assert content(folder).keys() - {hidden} == before.keys()  # another run could still use it
    assert len((folder / "result.nii.gz").read_bytes()) > 100_000


@pytest.mark.usefixtures("aligned")
@pytest.mark.parametrize("at", ["reading", "aligning", "optimising", "blending", "done"])
def test_a_cancelled_run_leaves_no_file_and_no_thread(folder, at):
    class Stopping(Console):
        def progress(self, fraction, stage, message):
            if stage == at:
                raise Cancelled

    before, threads = content(folder), threading.enumerate()
    paths = [folder / name for name in ("scan.nii.gz", "mask.nii.gz")]
    with pytest.raises(Cancelled):
        run_files(*paths, Outputs(folder / "result.nii.gz"), QUICK, Stopping())
    assert content(folder) == before
    assert threading.enumerate() == threads


# --- nowhere to write


def without_niftilib(error):
    """stderr without the lines of niftilib."""
    return "".join(line for line in error.splitlines(keepends=True) if "ERROR: NWAD" not in line)


@posix
@pytest.mark.parametrize("limit", [50, 5_000, 200_000])
def test_a_full_disk_is_reported_in_one_sentence_and_leaves_the_folder_as_it_was(folder, limit):
    """A limit of the size of files, at which writing fails as on a full disk."""
    resource = pytest.importorskip("resource")
    before = content(folder)

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with start(folder, FAST, *FILES, preexec_fn=limited) as child:
        out, error = child.communicate(timeout=100)
    assert (child.returncode, out) == (2, "")
    assert is_one_sentence(without_niftilib(error))
    assert "free disk space" in error
    assert content(folder) == before


@posix
def test_a_disk_that_is_really_full_is_reported_in_one_sentence_and_keeps_the_earlier_result(folder):
    disk = folder / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", disk], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("only an administrator can add a small disk")
    try:
        (disk / "result.nii.gz").write_text("earlier")
        with start(folder, FAST, output="disk/result.nii.gz") as child:
            out, error = child.communicate(timeout=30)
        assert (child.returncode, out) == (2, "")
        assert is_one_sentence(without_niftilib(error))
        assert "free disk space" in error
        assert content(disk) == {"result.nii.gz": b"earlier"}
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has a folder where root cannot write")
def test_a_folder_where_nobody_can_write_is_refused_before_the_work(folder, capfd):
    arguments = ["run", str(folder / "scan.nii.gz"), str(folder / "mask.nii.gz"), "/proc/self/result.nii.gz"]
    assert main([*arguments, "--progress", "json"]) == 2
    out, error = capfd.readouterr()
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["error"]
    assert is_one_sentence(error)
    assert "cannot be written to" in error


class Meddling(Console):
    """It changes the files after they were read."""

    def __init__(self, meddle):
        super().__init__()
        self.meddle = meddle

    def progress(self, fraction, stage, message):
        if stage == "aligning" and self.meddle:
            self.meddle()
            self.meddle = None


@pytest.mark.usefixtures("aligned")
@posix
def test_a_folder_that_vanishes_during_the_run_is_reported(folder):
    target = folder / "results"
    target.mkdir()
    with pytest.raises(InputError, match=r"^'result.nii.gz' could not be written: .*another folder\.$"):
        run_files(
            folder / "scan.nii.gz",
            folder / "mask.nii.gz",
            Outputs(target / "result.nii.gz"),
            QUICK,
            Meddling(target.rmdir),
        )
    assert not target.exists()


@posix
def test_circular_links_are_replaced_as_outputs_and_refused_as_inputs(folder):
    for name in ("loop.nii.gz", "loop.json"):
        (folder / name).symlink_to(name)
    with start(folder, FAST, "--report", "loop.json", output="loop.nii.gz") as child:
        assert child.wait(30) == 0
    assert same_grid(read_image(folder / "loop.nii.gz"), read_image(folder / "scan.nii.gz"))
    (folder / "mask.nii.gz").unlink()
    (folder / "mask.nii.gz").symlink_to("mask.nii.gz")
    with start(folder, FAST, output="loop.nii.gz") as child:
        error = child.communicate(timeout=30)[1]
    assert child.returncode == 2
    assert is_one_sentence(error)


# --- others at the same files


@pytest.mark.usefixtures("aligned")
def test_inputs_that_vanish_or_change_during_the_run_do_not_change_its_result(folder, reference, monkeypatch):
    """The clock is also set back."""

    def meddle():
        (folder / "mask.nii.gz").unlink()
        os.replace(folder / "f.png", folder / "scan.nii.gz")
        monkeypatch.setattr(time, "time", lambda: 0.0)

    paths = (folder / name for name in ("scan.nii.gz", "mask.nii.gz"))
    began = time.perf_counter()
    (result,) = run_files(*paths, Outputs(folder / "result.nii.gz"), QUICK, Meddling(meddle))
    took = time.perf_counter() - began
    assert (folder / "result.nii.gz").read_bytes() == reference
    seconds = result.report["seconds"]
    assert all(0 <= spent < took for spent in seconds.values())


def test_two_runs_with_the_same_output_never_show_a_part_of_a_result(folder):
    loop = f"{FAST}\nonce = main\ndef main():\n    return max(once() for _ in range(3))"
    seen, before = [], content(folder).keys()
    with start(folder, loop, "--seed", "1") as first, start(folder, loop, "--seed", "2") as second:
        while first.poll() is None or second.poll() is None:
            seen.append((folder / "result.nii.gz").read_bytes())
            time.sleep(0.002)
    assert (first.returncode, second.returncode) == (0, 0)
    assert content(folder).keys() == before
    results = set(seen) - {b"earlier"}
    assert len(results) == 2
    scan = sitk.GetArrayFromImage(read_image(folder / "scan.nii.gz"))
    seeds = set()
    for result in results:
        (folder / "seen.nii.gz").write_bytes(result)
        difference = sitk.GetArrayFromImage(read_image(folder / "seen.nii.gz")) - scan
        seeds |= set(np.unique(difference).tolist())
    assert seeds == {1, 2}


# --- other locales and terminals


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    """A locale with a decimal comma, as a folder for LOCPATH."""
    folder = tmp_path_factory.mktemp("locales")
    if not shutil.which("localedef"):
        pytest.skip("no localedef")
    done = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", folder / "de_DE.UTF-8"], capture_output=True)
    if done.returncode:
        pytest.skip("no sources of locales")
    return folder


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
def test_a_decimal_comma_and_another_time_zone_change_nothing(folder, german, suffix):
    """The locale is set for the process, as Qt does at its start."""
    scan = sitk.ReadImage(str(folder / "scan.nii.gz"))
    scan.SetSpacing((1.5, 1.25, 2.5))
    sitk.WriteImage(scan, str(folder / f"in{suffix}"))
    code = f"""{FAST}
import locale
locale.setlocale(locale.LC_ALL, "")
assert locale.localeconv()["decimal_point"] == ","
sys.argv[2:4] = ["in{suffix}"] * 2
ran, main = main, lambda: ran() or locale.localeconv()["decimal_point"] != ","
"""
    environment = {**os.environ, "LOCPATH": str(german), "LC_ALL": "de_DE.UTF-8", "TZ": "Pacific/Kiritimati"}
    with start(folder, code, "--generated", "g.mha", output=f"out{suffix}", env=environment) as child:
        _, error = child.communicate(timeout=100)
    assert (child.returncode, error) == (0, "")
    for name in (f"out{suffix}", "g.mha"):
        got = read_image(folder / name)
        assert same_grid(got, scan)
        np.testing.assert_array_equal(*map(sitk.GetArrayFromImage, (got, scan)))


def test_a_file_name_that_the_terminal_cannot_show_does_not_stop_a_run(folder):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with start(folder, FAST, output="gefüllt.nii.gz", env=environment) as child:
        out, error = child.communicate(timeout=100)
    assert (child.returncode, error) == (0, "")
    assert out.endswith("llt.nii.gz: 1 ml in 1 lesions filled, 1 s\n")


# --- memory


@pytest.mark.parametrize("at", ["_start", "step", "results"])
def test_a_device_that_is_full_at_any_point_of_the_search_changes_only_the_batches(case, monkeypatch, at):
    """The CPU stands for the device. The result is that of a search with small batches from its start."""
    monkeypatch.setattr(device, "release_memory", lambda device: None)
    real, chunks = getattr(latent._Descent, at), []

    def full(descent, *arguments):
        chunks.append(descent.chunk)
        if descent.chunk > SMALL_CHUNK and len(chunks) == (2 if at == "step" else 1):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(descent, *arguments)

    monkeypatch.setattr(latent._Descent, at, full)
    network, count = find_model(QUICK.model).network(torch.device("cpu")), case.template.image.GetSize()[2]

    def search(place, chunk, progress):
        return latent.search(network, case.slices, count, QUICK, progress, chunk)[0]

    silent = lambda done, message: None  # noqa: E731
    generated, place, (warning,) = with_fallback(search, torch.device("cpu:0"), silent)
    assert (place, chunks[-1]) == ("cpu:0", SMALL_CHUNK)
    assert "in batches of 8 slices" in warning
    expected = search(None, SMALL_CHUNK, silent)
    assert generated.slices.tobytes() == expected.slices.tobytes()
    assert generated.losses.tobytes() == expected.losses.tobytes()


@pytest.mark.parametrize("stage", ["read_image", "check_input", "draw_figure"])
def test_a_lack_of_memory_outside_the_search_is_reported_in_one_sentence(folder, monkeypatch, capfd, stage):
    before = content(folder)
    report = {"warnings": [], "contrast": None}
    hole = np.zeros(read_image(folder / "scan.nii.gz").GetSize()[::-1], bool)
    filled = lambda scans, *_: [outputs.Result(scan, scan, None, report, hole) for scan in scans]  # noqa: E731
    monkeypatch.setattr(outputs, "inpaint_together", filled)
    monkeypatch.setattr(outputs, stage, lambda *_: np.zeros(10**14))
    arguments = (str(folder / name) for name in ("scan.nii.gz", "mask.nii.gz", "result.nii.gz"))
    assert main(["run", *arguments, "--figure", str(folder / "f.png"), "--progress", "none"]) == 2
    error = capfd.readouterr().err
    assert is_one_sentence(error)
    assert "not enough memory" in error
    assert content(folder) == before
