"""The engine in a child process: real Qt and real processes, what they say, how they end, and that nothing is left."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import fields, replace
from pathlib import Path

import MedInpaintLib
import numpy as np
import pytest
import qt
import SimpleITK as sitk
from desktop import COPY, DONE, exists
from MedInpaintLib.errors import InputError
from MedInpaintLib.kept import Kept
from MedInpaintLib.models.folder import models_folder
from MedInpaintLib.pipeline import inpaint
from MedInpaintLib.settings import Settings
from MedInpaintLib.slicer.child import exchange, process, start
from MedInpaintLib.volumes.read import read_image
from scipy.spatial.transform import Rotation
from slicer_scene import QUICK

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where the temporary folders are made: its name has a blank and umlauts."""
    folder = tmp_path / "Zwischen ablage äöü"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def run(temporary, monkeypatch):
    """A run that notes what it hears, and what is raised within Qt's event loop."""
    run = Run(temporary)
    for hook in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, hook, lambda *details: run.raised.append(details))
    yield run
    run.process.stop()
    assert run.raised == []


class Run:
    """A process, and all that its callbacks were given."""

    def __init__(self, temporary):
        self.temporary = temporary
        self.progress, self.warnings, self.ends, self.raised = [], [], [], []
        self.on_progress = lambda: None
        self.process = process.InpaintingProcess(self._progress, self.warnings.append, self._end, self._end)

    def _progress(self, *told):
        self.progress.append(told)
        self.on_progress()

    def _end(self, outcome):
        assert not self.process.running
        assert list(self.temporary.iterdir()) == []
        self.ends.append(outcome)

    @property
    def stages(self):
        return {stage for _, stage, _, _ in self.progress}

    @property
    def pid(self):
        return self.process._process.processId()

    def wait(self, until, seconds=60):
        """Let Qt's event loop run until this holds."""
        loop, ticker, deadline = qt.QEventLoop(), qt.QTimer(), time.monotonic() + seconds
        ticker.timeout.connect(lambda: loop.quit() if until() or time.monotonic() > deadline else None)
        ticker.start(10)
        loop.exec()
        assert until(), self.process.log

    def linger(self, seconds=0.3):
        """Let Qt's event loop run this long, so that what may still come does."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end)

    def outcome(self, seconds=60):
        """What the run ends with: its Result, or the sentence that says why there is none."""
        self.wait(lambda: self.ends, seconds)
        self.linger()
        assert len(self.ends) == 1
        return self.ends.pop()


def is_a_sentence(text):
    return text[:1].isupper() and text.endswith(".") and "\n" not in text


@pytest.fixture
def tiny():
    """A volume for children that do no work."""
    return sitk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(4, 5, 6))


# --- the real engine


def test_a_real_run_gives_what_the_engine_gives_in_this_process_bit_for_bit(
    expected, run, scan, mask, small_scan, small_hole
):
    run.process.start(scan, mask, QUICK)
    assert run.process.running
    result = run.outcome(120)

    for name in ("image", "generated", "uncertainty"):
        got, wanted = getattr(result, name), getattr(expected, name)
        assert got.GetPixelID() == wanted.GetPixelID()
        for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(got, geometry)() == getattr(wanted, geometry)()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(got), sitk.GetArrayFromImage(wanted))
    changed = sitk.GetArrayFromImage(result.image) != small_scan
    assert changed.any()
    assert not (changed & ~small_hole).any()
    assert {**result.report, "seconds": None} == {**expected.report, "seconds": None}

    fractions = [fraction for fraction, *_ in run.progress]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    assert {"reading", "aligning", "optimising", "blending", "done"} <= run.stages
    left = [seconds for *_, seconds in run.progress]
    assert left[0] is None
    assert left[-1] == 0
    assert all(seconds > 0 for fraction, _, _, seconds in run.progress if 0.05 < fraction < 1)


@posix
def test_a_run_that_is_stopped_is_gone_at_once_and_for_good(run, scan, mask, temporary, child, tiny):
    run.process.start(scan, mask, replace(QUICK, iterations=1000))
    run.wait(lambda: "aligning" in run.stages, 240)
    pid, heard = run.pid, len(run.progress)
    assert exists(pid)
    assert len(list(temporary.iterdir())) == 1

    begun = time.monotonic()
    run.process.stop()
    assert time.monotonic() - begun < 2
    assert not run.process.running
    assert not exists(pid)
    assert list(temporary.iterdir()) == []
    run.linger()
    assert len(run.progress) == heard
    assert run.ends == []

    child("sys.exit('the next child')")
    run.process.start(tiny, tiny, QUICK)
    assert "the next child" in run.outcome()


def test_wrong_input_is_told_in_the_engine_s_own_words(run, scan, mask):
    run.process.start(scan, mask * 0, QUICK)
    assert run.outcome() == "The mask is empty: paint the lesion or choose another mask."


def test_the_child_opens_its_files_by_ascii_names_in_its_own_folder(run, child, tiny, temporary):
    """On Windows ITK cannot open other names, and users' temporary folders may have other names."""
    assert not str(temporary).isascii()
    names = exchange.SCAN, exchange.MASK, exchange.FILLED, exchange.GENERATED, exchange.UNCERTAINTY, exchange.REPORT
    assert all(name.isascii() and not os.path.dirname(name) for name in names)
    child(COPY + "assert os.path.dirname(os.getcwd()).endswith('äöü'), os.getcwd()" + DONE)
    run.process.start(tiny, tiny, QUICK)
    result = run.outcome()
    assert not isinstance(result, str), result


def test_a_model_s_folder_may_have_any_name(run, scan, mask, tmp_path, monkeypatch):
    """The engine finds the model, which its damage proves, in the working directory, but no modules there."""
    folder = tmp_path / "-modèle für mich"
    folder.mkdir()
    for file in (models_folder() / "linear").iterdir():
        (folder / file.name).write_bytes(file.read_bytes() if file.name == "card.json" else b"damaged")
    if sys.version_info >= (3, 11):
        (tmp_path / "SimpleITK.py").write_text("raise ImportError('somebody else\\'s')")
    monkeypatch.chdir(tmp_path)
    run.process.start(scan, mask, replace(QUICK, model=folder.name))
    sentence = run.outcome()
    assert is_a_sentence(sentence)
    assert "There is no model" not in sentence
    assert "install" in sentence


# --- the child lives on


def same_bits(one, other):
    for name in ("image", "generated", "uncertainty"):
        got, wanted = (sitk.GetArrayViewFromImage(getattr(result, name)) for result in (one, other))
        np.testing.assert_array_equal(got, wanted)
    assert compared(one.report) == compared(other.report)


def compared(report):
    """A report without what a second run has in another way."""
    return {**report, "seconds": None, "alignment": {**report["alignment"], "reused": None}}


def test_further_runs_in_the_same_child_give_the_same_bits_also_with_another_mask(expected, run, scan, mask, temporary):
    other = sitk.BinaryDilate(mask > 0, [1, 1, 1])
    kept = Kept()
    inpaint(scan, mask, QUICK, kept=kept)
    run.process.prepare(QUICK.model)
    pid = run.pid
    further = inpaint(scan, other, QUICK, kept=kept)
    for given, wanted, reused in ((mask, expected, False), (mask, expected, True), (other, further, True)):
        run.process.start(scan, given, QUICK)
        result = run.outcome(120)
        same_bits(result, wanted)
        assert result.report["alignment"]["reused"] == reused
        assert run.pid == pid
        assert list(temporary.iterdir()) == []
    run.process.start(scan, mask * 0, QUICK)
    assert run.outcome() == "The mask is empty: paint the lesion or choose another mask."
    run.process.start(scan, mask, QUICK)
    same_bits(run.outcome(120), expected)
    assert run.pid == pid


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_idle_child_needs_less_than_700_mb(run, samples):
    scan, mask = (read_image(samples / f"HealthyHead_{name}.nii.gz") for name in ("T1", "hole"))
    run.process.start(scan, mask, QUICK)
    run.outcome(240)
    time.sleep(1)
    status = Path(f"/proc/{run.pid}/status").read_text()
    kilobytes = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert 100_000 < kilobytes < 700_000


@posix
def test_stopping_ends_the_idle_child_too(run, child, tiny):
    child("")
    run.process.prepare("vae3")
    pid = run.pid
    run.process.prepare("vae3")
    assert run.pid == pid
    run.process.stop()
    assert not exists(pid)
    assert run.process._process is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("working", [False, True])
def test_stopping_ends_the_real_child_behind_a_launcher_too(run, tiny, tmp_path, monkeypatch, working):
    """In a build tree of Slicer, python-real is not beside the launcher."""
    real, launcher, noted = tmp_path / "real.py", tmp_path / "launcher.py", tmp_path / "pid"
    real.write_text(f"""
import json, os, sys, time
print(json.dumps({{"event": "ready", "pid": os.getpid()}}), flush=True)
open({str(noted)!r}, "w").write(str(os.getpid()))
sys.stdin.readline()
time.sleep(60)
""")
    launcher.write_text(f"import subprocess, sys\nsubprocess.run([sys.executable, {str(real)!r}])")
    monkeypatch.setattr(process, "command", lambda: [sys.executable, str(launcher)])
    run.process.prepare("vae3")
    if working:
        run.process.start(tiny, tiny, QUICK)
    run.wait(lambda: run.process._pid)
    run.wait(lambda: noted.exists() and noted.read_text())
    pid = int(noted.read_text())
    assert pid != run.pid
    run.process.stop()
    run.wait(lambda: not exists(pid) or "State:\tZ" in Path(f"/proc/{pid}/status").read_text(), 10)


@posix
def test_a_child_that_was_killed_while_it_was_idle_is_replaced_without_a_word(run, child, tiny):
    child(COPY + DONE)
    run.process.prepare("vae3")
    pid = run.pid
    os.kill(pid, signal.SIGKILL)
    run.process.start(tiny, tiny, QUICK)
    result = run.outcome()
    assert not isinstance(result, str), result
    assert run.warnings == []


def test_a_child_that_ends_before_it_takes_up_the_run_is_replaced_once(run, child, tiny, tmp_path):
    started = tmp_path / "started"
    child(f"open({str(started)!r}, 'a').write('x')\nsys.exit('no luck')")
    run.process.prepare("vae3")
    run.process.start(tiny, tiny, QUICK)
    assert "(no luck)" in run.outcome()
    assert started.read_text() == "xx"


@posix
def test_after_a_crash_the_next_run_has_a_new_child(run, child, tiny):
    child("print(json.dumps({'event': 'device', 'device': 'cpu'}), flush=True)\nos.abort()")
    run.process.prepare("vae3")
    run.process.start(tiny, tiny, QUICK)
    assert "crashed" in run.outcome()
    child(COPY + DONE)
    run.process.start(tiny, tiny, QUICK)
    result = run.outcome()
    assert not isinstance(result, str), result


def serving(folder):
    """The real child as a process of this test."""
    return subprocess.Popen(
        [sys.executable, "-m", "MedInpaintLib.slicer.child.server", "vae3"], cwd=folder, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(MedInpaintLib.__file__).parents[1])},
    )  # fmt: skip


def test_the_idle_child_ends_with_the_application(tmp_path):
    with serving(tmp_path) as child:
        assert json.loads(child.stdout.readline()) == {"event": "ready", "pid": child.pid}
        child.stdin.close()
        assert child.wait(20) == 0


def test_a_child_at_work_whose_application_has_died_ends_and_removes_the_scan(tmp_path, scan, mask):
    folder = tmp_path / "run"
    folder.mkdir()
    exchange.write_inputs(folder, scan, mask)
    with serving(tmp_path) as child:
        child.stdin.write(exchange.order(folder, QUICK))
        child.stdin.close()
        while "aligning" not in child.stdout.readline().decode():
            pass
        child.stdout.close()
        assert child.wait(60) != 0
    assert not folder.exists()


# --- children that end badly


@posix
def test_a_child_that_is_killed_is_reported(run, child, tiny):
    child("print(json.dumps({'event': 'progress', 'fraction': 0.5, 'stage': 'a', 'message': 'b'}), flush=True)\n"
          "time.sleep(60)")  # fmt: skip
    run.process.start(tiny, tiny, QUICK)
    run.wait(lambda: run.progress)
    os.kill(run.pid, signal.SIGKILL)
    sentence = run.outcome()
    assert is_a_sentence(sentence)
    assert "ended from outside" in sentence
    assert "try again" in sentence


def test_a_traceback_is_kept_and_its_last_line_told(run, child, tiny):
    child("def work(): raise RuntimeError('GPU on fire')\nwork()")
    run.process.start(tiny, tiny, QUICK)
    sentence = run.outcome()
    assert is_a_sentence(sentence)
    assert "(RuntimeError: GPU on fire)" in sentence
    assert "Traceback" in run.process.log
    assert "in work" in run.process.log


def test_a_refusal_is_told_as_it_was_said(run, child, tiny):
    child("print(json.dumps({'event': 'error', 'message': 'The mask is empty: paint the lesion.'}))")
    run.process.start(tiny, tiny, QUICK)
    assert run.outcome() == "The mask is empty: paint the lesion."


def test_a_failure_that_the_child_survives_is_told_and_its_traceback_kept(run, child, tiny):
    child("""
        told = {"event": "failed", "message": "KeyError: 'z'", "details": "Traceback\\n  in work"}
        print(json.dumps(told), flush=True)
        sys.stdin.readline()""")
    run.process.start(tiny, tiny, QUICK)
    sentence = run.outcome()
    assert sentence.startswith("The computation failed (KeyError: 'z')")
    assert is_a_sentence(sentence)
    assert run.process.log.splitlines() == ["Traceback", "  in work"]


BROKEN = {
    "no output": "os.remove('scan.mha')",
    "half an image": f"{COPY}\nos.truncate(FILLED, 300)",
    "no image": f"{COPY}\nopen(FILLED, 'w').write('hello')",
    "another grid": f"{COPY}\nsitk.WriteImage(sitk.ConstantPad(sitk.ReadImage(SCAN), (1, 1, 1)), FILLED)",
    "another pixel type": f"{COPY}\nshutil.copy(GENERATED, FILLED)",
    "no generated volume": f"{COPY}\nos.remove(GENERATED)",
    "half an uncertainty": f"{COPY}\nopen(UNCERTAINTY, 'w').write('ObjectType = Image')",
    "no report": f"{COPY}\nos.remove(REPORT)",
    "half a report": f"{COPY}\nopen(REPORT, 'w').write('{{')",
    "another report": f"{COPY}\nopen(REPORT, 'w').write('[]')",
}


@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN)
def test_a_child_that_claims_success_without_a_whole_result_is_reported(run, child, tiny, code):
    child(code + DONE)
    run.process.start(tiny, tiny, QUICK)
    sentence = run.outcome()
    assert isinstance(sentence, str)
    assert is_a_sentence(sentence)
    assert "without a usable result" in sentence
    assert "Error: " in run.process.log


def test_a_whole_result_is_read_with_the_scan_s_own_geometry_and_metadata(run, child, tiny):
    tiny.SetMetaData("0010|0010", "Doe^Jane")
    tiny.SetOrigin((0.1, 1 / 3, -7))
    child(COPY + "assert b'Doe' not in open(SCAN, 'rb').read()" + DONE)
    run.process.start(tiny, tiny, QUICK)
    result = run.outcome()
    assert not isinstance(result, str), result
    assert sitk.Hash(result.image) == sitk.Hash(tiny)
    assert result.image.GetOrigin() == tiny.GetOrigin()
    assert result.image.GetMetaData("0010|0010") == "Doe^Jane"
    assert result.report == {"lesion": {}}


def test_an_uncertainty_is_read_if_there_is_one(run, child, tiny):
    child(COPY + "sitk.WriteImage(sitk.ReadImage(GENERATED) + 0.5, UNCERTAINTY)" + DONE)
    run.process.start(tiny, tiny, QUICK)
    result = run.outcome()
    assert sitk.Hash(result.uncertainty) == sitk.Hash(result.generated + 0.5)

    child(COPY + DONE)
    run.process.start(tiny, tiny, replace(QUICK, residual=False))
    result = run.outcome()
    assert not isinstance(result, str), result
    assert result.uncertainty is None


def test_a_program_that_is_missing_is_reported(run, monkeypatch, tmp_path, tiny):
    monkeypatch.setattr(process, "command", lambda: [str(tmp_path / "none"), "-m", "MedInpaintLib"])
    run.process.start(tiny, tiny, QUICK)
    sentence = run.outcome()
    assert "cannot start" in sentence
    assert is_a_sentence(sentence)


# --- what a child says


def test_events_are_told_whole_however_they_arrive_and_rubbish_is_kept_for_the_log(run, child, tiny):
    child(r"""
        def say(text, pause=0.0):
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
            time.sleep(pause)

        def event(fraction, **more):
            told = {"event": "progress", "fraction": fraction, "stage": "aligning", "message": "läuft", **more}
            return json.dumps(told, ensure_ascii=False).encode()

        half = event(0.1)
        cut = half.index("ä".encode()) + 1  # within a character
        say(half[:cut], 0.2)
        say(half[cut:] + b"\n", 0.2)
        say(event(0.2) + b"\r\n\n" + event(0.3) + b"\n" + b"rubbish \xff\n[1]\n" + event(0.4, stage=None) + b"\n")
        say(b'{"event": "warning", "message": "Look at it."}\n{"event": "device", "device": "cpu"}\n"progress"\n')
        print("medinpaint: warning: Look at it.", file=sys.stderr)
        say(event(0.5))
        sys.exit("over")""")
    run.process.start(tiny, tiny, QUICK)
    assert "(over)" in run.outcome()
    assert [(fraction, stage, message) for fraction, stage, message, _ in run.progress] == [
        (fraction, "aligning", "läuft") for fraction in (0.1, 0.2, 0.3, 0.5)
    ]
    assert run.warnings == ["Look at it."]
    log = run.process.log.splitlines()
    assert {"rubbish \ufffd", "[1]", '"progress"', "medinpaint: warning: Look at it.", "over"} <= set(log)
    assert len(log) == 6  # and the progress without a stage


def test_a_child_that_says_a_lot_does_not_get_stuck(run, child, tiny):
    child("""
        for _ in range(20000):
            print("x" * 100)
            print("y" * 100, file=sys.stderr)
        sys.exit(5)""")
    run.process.start(tiny, tiny, QUICK)
    assert "failed" in run.outcome()
    assert len(run.process.log.splitlines()) == 500


STEADY = """
from MedInpaintLib.command.console import Console
console = Console("json")
for i in range(600):
    console.progress(i / 600, "optimising", "")
    time.sleep(0.05)
"""


# --- callbacks that act


def test_a_second_start_is_refused_and_the_first_goes_on(run, child, tiny, temporary):
    child("print(json.dumps({'event': 'progress', 'fraction': 0, 'stage': 'a', 'message': 'b'}), flush=True)\n"
          "time.sleep(1)\nsys.exit('the first')")  # fmt: skip
    run.process.start(tiny, tiny, QUICK)
    with pytest.raises(InputError, match="already running") as refusal:
        run.process.start(tiny, tiny, QUICK)
    assert is_a_sentence(str(refusal.value))
    assert len(list(temporary.iterdir())) == 1
    assert "the first" in run.outcome()


BURST = """
def event(i):
    return json.dumps({"event": "progress", "fraction": i, "stage": "", "message": ""}) + os.linesep
sys.stdout.write(event(0))
sys.stdout.flush()
time.sleep(0.2)
sys.stdout.write(event(1) + event(2) + event(3))
sys.exit("over")
"""


def at_the_end(run, act):
    """Make a run's progress act once the child of BURST has ended, with lines of it still to be told."""
    run.on_progress = lambda: time.sleep(1) if len(run.progress) == 1 else act()


def test_a_callback_may_stop_the_run(run, child, tiny, temporary):
    child(BURST)
    at_the_end(run, run.process.stop)
    run.process.start(tiny, tiny, QUICK)
    run.wait(lambda: len(run.progress) == 2)
    run.linger()
    assert [fraction for fraction, *_ in run.progress] == [0, 1]
    assert run.ends == []
    assert list(temporary.iterdir()) == []


def test_a_callback_may_stop_the_run_and_start_another(run, child, tiny):
    child(STEADY)

    def restart():
        run.on_progress = lambda: None
        run.process.stop()
        child("sys.exit('the next child')")
        run.process.start(tiny, tiny, QUICK)

    run.on_progress = restart
    run.process.start(tiny, tiny, QUICK)
    assert "the next child" in run.outcome()
    assert len(run.progress) == 1


def test_a_callback_may_start_the_next_run(temporary, child, tiny):
    child("sys.exit('over')")
    ends = []

    def again(sentence):
        ends.append(sentence)
        if len(ends) < 3:
            run.process.start(tiny, tiny, QUICK)

    run = Run(temporary)
    run.process = process.InpaintingProcess(print, print, print, again)
    run.process.start(tiny, tiny, QUICK)
    run.wait(lambda: len(ends) == 3)
    assert not run.process.running
    assert list(temporary.iterdir()) == []


def test_a_callback_may_let_qt_process_its_events(run, child, tiny):
    child("""
        for i in range(1, 6):
            print(json.dumps({"event": "progress", "fraction": i, "stage": "", "message": ""}), flush=True)
            time.sleep(0.02)
        sys.exit("over")""")

    def busy():
        time.sleep(0.05)
        qt.QCoreApplication.processEvents()

    run.on_progress = busy
    run.process.start(tiny, tiny, QUICK)
    assert "(over)" in run.outcome()
    assert [fraction for fraction, *_ in run.progress] == [1, 2, 3, 4, 5]


def test_a_callback_that_raises_does_not_keep_the_run_from_ending(run, child, tiny):
    child(BURST)
    at_the_end(run, lambda: 1 / 0)
    run.process.start(tiny, tiny, QUICK)
    assert "(over)" in run.outcome()
    assert run.raised.pop()[0] is ZeroDivisionError


def test_stopping_what_does_not_run_is_harmless(run, child, tiny):
    run.process.stop()
    child("sys.exit('over')")
    run.process.start(tiny, tiny, QUICK)
    run.outcome()
    run.process.stop()
    run.process.stop()
    assert run.ends == []


def test_a_run_may_be_stopped_right_after_its_start(run, child, tiny, temporary):
    child(STEADY)
    run.process.start(tiny, tiny, QUICK)
    run.process.stop()
    run.linger()
    assert (run.progress, run.ends, list(temporary.iterdir())) == ([], [], [])


@posix
def test_a_child_that_takes_its_time_to_die_is_not_waited_for(run, child, tiny, temporary, monkeypatch, capfd):
    child(STEADY)
    run.process.start(tiny, tiny, QUICK)
    run.wait(lambda: run.progress)
    pid, heard = run.pid, len(run.progress)
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(process, "PATIENCE", 0)
    run.process.stop()
    assert not run.process.running
    assert list(temporary.iterdir()) == []
    run.wait(lambda: not exists(pid))
    run.linger()
    assert len(run.progress) == heard
    assert capfd.readouterr().err == ""


@posix
def test_a_child_ends_soon_after_an_application_that_died(tmp_path):
    """Its next word finds no listener."""
    child, marker, driver = (tmp_path / name for name in ("child.py", "ended", "driver.py"))
    child.write_text(f"import time\ntry:\n{textwrap.indent(STEADY, '    ')}\nfinally:\n    open({str(marker)!r}, 'w')")
    driver.write_text(
        textwrap.dedent(f"""
            import os, sys
            import SimpleITK as sitk
            from MedInpaintLib import Settings
            from qt_stand_in import application, install

            install()
            from MedInpaintLib.slicer.child import process

            process.command = lambda: [sys.executable, {str(child)!r}]
            run = process.InpaintingProcess(lambda *told: os._exit(9), print, print, print)
            run.start(sitk.Image(4, 4, 4, sitk.sitkInt16), sitk.Image(4, 4, 4, sitk.sitkInt16), Settings())
            application().exec()
            """)
    )
    places = os.pathsep.join(map(str, (Path(__file__).parents[1], Path(MedInpaintLib.__file__).parents[1])))
    environment = {**os.environ, "PYTHONPATH": places, "TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, driver], env=environment, timeout=60).returncode == 9
    deadline = time.monotonic() + 10
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marker.exists()


# --- how it is started


def test_a_start_that_fails_leaves_no_folder(run, tiny, temporary, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(sitk, "WriteImage", full)
        with pytest.raises(InputError, match="cannot be written") as refusal:
            run.process.start(tiny, tiny, QUICK)
    assert is_a_sentence(str(refusal.value))
    assert list(temporary.iterdir()) == []
    assert not run.process.running

    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "none"))
    with pytest.raises(InputError, match="cannot be written"):
        run.process.start(tiny, tiny, QUICK)
    assert not run.process.running


@posix
def test_nobody_else_may_look_into_the_temporary_folder(run, child, tiny, temporary):
    child(STEADY)
    run.process.start(tiny, tiny, QUICK)
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int64, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("handedness", [1, -1])
def test_a_scan_of_any_type_on_any_grid_comes_over_exactly(tmp_path, kind, handedness):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 256, 4 * 5 * 6 * np.dtype(kind).itemsize, dtype=np.uint8).view(kind).reshape(4, 5, 6)
    scan = sitk.GetImageFromArray(bits)
    scan.SetDirection((Rotation.random(random_state=1).as_matrix() * [1, 1, handedness]).ravel())
    scan.SetSpacing(rng.uniform(0.4, 6, 3))
    scan.SetOrigin(rng.uniform(-300, 300, 3))
    exchange.write_inputs(tmp_path, scan, scan[::-1])
    for name, wanted in ((exchange.SCAN, scan), (exchange.MASK, scan[::-1])):
        got = read_image(tmp_path / name)
        assert got.GetPixelID() == wanted.GetPixelID()
        for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(got, geometry)() == getattr(wanted, geometry)()
        assert sitk.GetArrayFromImage(got).tobytes() == sitk.GetArrayFromImage(wanted).tobytes()


CHANGES = [
    {"model": "Modelle/für mich/-x"},
    {"model": "-x=y z"},
    {"device": "cpu"},
    {"label": 3},
    {"label": -1},
    {"grow": 0.1 + 0.2},
    {"iterations": 0},
    {"prior_weight": 0.0},
    {"prior_weight": 0.1 + 0.2},
    {"prior_weight": 1e-300},
    {"prior_weight": np.float64(0.7)},
    {"window": 31},
    {"weighting": False},
    {"prior": False},
    {"slicewise": True},
    {"residual": False},
    {"blending": "3d"},
    {"blending": "2d"},
    {"blending": "none"},
    {"noise": True},
    {"seed": 2**63 - 1},
]


@pytest.mark.parametrize("change", [{}, *CHANGES], ids=str)
def test_the_child_reads_the_settings_that_it_was_given(tmp_path, change):
    line = exchange.order(tmp_path / "ä\nö", Settings(**change))
    assert line.isascii()
    assert (line[-1:], line.count(b"\n")) == (b"\n", 1)
    assert exchange.read_order(line.decode()) == (tmp_path / "ä\nö", Settings(**change), [])


def test_every_setting_is_among_those_changes():
    assert {name for change in CHANGES for name in change} == {field.name for field in fields(Settings)}


def test_a_model_s_folder_is_told_so_that_another_working_directory_does_not_matter(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    line = exchange.order(tmp_path, Settings(model="mine")).decode()
    assert exchange.read_order(line)[1].model == str(tmp_path / "mine")
    assert exchange.model_path("vae3") == "vae3"


def executable(folder, name):
    folder.mkdir(exist_ok=True)
    path = folder / (f"{name}.exe" if os.name == "nt" else name)
    path.write_text("")
    path.chmod(0o755)
    return str(path)


def test_the_real_interpreter_is_preferred_to_slicer_s_launcher(tmp_path, monkeypatch):
    launcher = executable(tmp_path / "bin", "PythonSlicer")
    monkeypatch.setattr(sys, "executable", launcher)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert start.command() == [launcher, "-m", "MedInpaintLib.slicer.child.server"]
    on_path = executable(tmp_path / "path", "python-real")
    assert start.command()[0] == on_path
    beside = executable(tmp_path / "bin", "python-real")
    assert start.command()[0] == beside


def test_the_child_has_this_environment_and_finds_the_package(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    monkeypatch.setenv("PYTHONHOME", "home")
    variables = start.environment()
    package = str(Path(MedInpaintLib.__file__).resolve().parents[1])
    assert variables.value("PYTHONPATH").split(os.pathsep) == [package, "somewhere"]
    assert variables.value("PYTHONHOME") == "home"
    monkeypatch.delenv("PYTHONPATH")
    assert start.environment().value("PYTHONPATH") == package


@pytest.mark.parametrize(
    ("fraction", "elapsed", "left"), [(0, 3, None), (0.05, 9, None), (0.25, 10, 30), (0.5, 8, 8), (1, 20, 0)]
)
def test_the_seconds_left_follow_from_what_is_done(fraction, elapsed, left):
    assert process.seconds_left(fraction, elapsed) == (None if left is None else pytest.approx(left))
