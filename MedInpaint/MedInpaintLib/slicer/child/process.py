"""The engine in a child process: the application stays usable, and a run can be cancelled.

A process, not a thread: it can be ended at any moment, and then all its memory is free again, on the GPU too. It lives
on after a run, with the model and the alignment of the last scan, so that the next run begins at once.

This uses only what PythonQt (Slicer) and PySide6 (the tests) spell alike: methods instead of properties, new-style
connections, and slots without arguments, so that neither overloads nor the types of signal arguments matter.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import qt

from ...errors import InputError
from ...settings import Settings
from .exchange import model_path, order, read_results, remove_folder, write_inputs
from .start import command, environment

if TYPE_CHECKING:
    import SimpleITK as sitk

PATIENCE = 1500  # ms to wait for the end of a killed child
LOG_LINES = 500
LAST_LINE = 300  # characters of the last line that a message quotes


class InpaintingProcess:
    """Runs the engine in a child process, one run at a time. All callbacks come from Qt's event loop.

    Args:
        on_progress: called with the done fraction, the stage, a message, and the seconds left (None: not known yet).
        on_warning: called with a sentence that the user should see.
        on_done: called with the Result, and those of the further scans.
        on_failed: called with one sentence: why there is no result, and what to do.

    Every run that is not stopped ends with one call of on_done or on_failed. At that time its temporary folder is
    removed: both may start another run. The child lives on and waits for it, unless it has crashed; the next run then
    has a new one.
    """

    def __init__(
        self,
        on_progress: Callable[[float, str, str, float | None], None],
        on_warning: Callable[[str], None],
        on_done: Callable[..., None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._on_progress = on_progress
        self._on_warning = on_warning
        self._on_done = on_done
        self._on_failed = on_failed
        self._process: qt.QProcess | None = None  # the child
        self._folder: tempfile.TemporaryDirectory | None = None  # of the run
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._lines: deque[bytes] = deque()

    @property
    def running(self) -> bool:
        """Whether a run has started that has neither ended nor been stopped."""
        return self._folder is not None

    @property
    def log(self) -> str:
        """The last lines that the child wrote besides its events since the latest run began, such as tracebacks."""
        return "\n".join(self._log)

    def prepare(self, model: str) -> None:
        """Start a child that loads this model and waits, unless there is one."""
        if self._process is None:
            self._launch(model)

    def start(
        self,
        image: sitk.Image,
        mask: sitk.Image,
        settings: Settings,
        further: Sequence[sitk.Image] = (),
        extras: Collection[str] = (),
    ) -> None:
        """Start a run and return at once. If the engine refuses the input, on_failed gets its sentence.

        Args:
            image: the scan, as for inpaint(). It must not change while the run lasts; nor may the further ones.
            mask: the lesion.
            settings: of the run.
            further: other scans of the head, filled together with this one.
            extras: "generated" and "uncertainty", if the results shall have them.

        Raises:
            InputError: a run is under way, or the scan cannot be written to a temporary folder.
        """
        if self.running:
            raise InputError("A computation is already running: wait until it has ended, or cancel it.")
        with ExitStack() as on_failure:
            try:
                folder = tempfile.TemporaryDirectory(prefix="medinpaint-", ignore_cleanup_errors=True)
                on_failure.callback(remove_folder, folder)
                write_inputs(Path(folder.name), image, mask, further)
            except (OSError, RuntimeError) as error:
                raise InputError("The scan cannot be written to a temporary folder: free disk space.") from error
            on_failure.pop_all()
        self._images, self._settings, self._folder, self._begun = [image, *further], settings, folder, time.monotonic()
        self._extras = extras
        self._log.clear()
        self._waited = self._child_lives()  # whether the child waited for this run
        if not self._waited:
            self._forget_child()
            self._launch(settings.model)
        self._send()

    def stop(self) -> None:
        """End the run, if there is one, and the child within two seconds: no more callbacks, and no files remain."""
        process = self._process
        if process is not None:
            process.blockSignals(True)  # the process may live longer than PATIENCE
            process.kill()
            if self._pid not in (0, process.processId()):  # in a build tree of Slicer, the process is only a launcher
                with suppress(OSError):
                    os.kill(self._pid, signal.SIGTERM)
            process.waitForFinished(PATIENCE)
            self._forget_child()
        self._forget_run()

    def _child_lives(self) -> bool:
        if self._process is None:
            return False
        self._process.waitForFinished(0)  # Qt notices the end of a process no sooner than it looks
        return self._process.state() != qt.QProcess.NotRunning

    def _launch(self, model: str) -> None:
        self._started, self._last_line, self._pid = False, "", 0
        self._partial_output, self._partial_error = b"", b""
        application = qt.QCoreApplication.instance()
        # A callback may stop the child, which is not allowed while a QProcess emits a signal. So its signals only start
        # this timer, and all work is done when the timer fires. Process and timer belong to the application instead of
        # Python, so that no callback can destroy the object that is calling it.
        self._timer = qt.QTimer(application)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._advance)
        process = self._process = qt.QProcess(application)
        process.setProcessEnvironment(environment())
        process.started.connect(self._note_start)
        process.readyReadStandardOutput.connect(self._wake)
        process.errorOccurred.connect(self._wake)
        process.finished.connect(self._wake)
        program, *options = command()
        process.setWorkingDirectory(tempfile.gettempdir())
        process.start(program, [*options, model_path(model)])

    def _send(self) -> None:
        """Tell the child to begin with the run."""
        self._answered, self._last_line = False, ""
        self._process.write(order(Path(self._folder.name), self._settings, len(self._images) - 1, self._extras))

    def _note_start(self) -> None:
        self._started = True

    def _wake(self) -> None:
        self._timer.start(0)

    def _advance(self) -> None:
        """Pass on what the child has written since the last call, and notice its end."""
        process = self._process
        if process is None:
            return
        ended = process.state() == qt.QProcess.NotRunning  # before reading: then reading gets all that there is
        self._read(process, ended)
        try:
            # A callback may stop the run, which clears the lines, or let Qt process events, which calls this again.
            while self._lines:
                self._handle(self._lines.popleft())
        finally:
            if self._process is process and ended:
                self._end_of_child(process)

    def _read(self, process: qt.QProcess, ended: bool) -> None:
        # QByteArray.data() is a bytes object in PythonQt and in PySide6.
        end = b"\n" if ended else b""
        output = self._partial_output + process.readAllStandardOutput().data() + end
        messages = self._partial_error + process.readAllStandardError().data() + end
        *lines, self._partial_output = output.split(b"\n")
        *messages, self._partial_error = messages.split(b"\n")
        self._lines.extend(lines)
        for line in filter(None, map(_text, messages)):
            self._log.append(line)
            self._last_line = line

    def _handle(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        match event:
            case {"event": "ready", "pid": int(pid)}:
                self._pid = pid
            case {"event": "progress", "fraction": float() | int() as done, "stage": str(stage), "message": str(text)}:
                if self.running:
                    self._answered = True
                    self._on_progress(done, stage, text, seconds_left(done, time.monotonic() - self._begun))
            case {"event": "warning", "message": str(message)}:
                self._on_warning(message)
            case {"event": "error", "message": str(message)}:
                self._end_of_run(message)
            case {"event": "failed", "message": str(message), "details": str(details)}:
                self._log.extend(details.splitlines())
                self._end_of_run(_failed(message))
            case {"event": "done"}:
                self._end_of_run("")
            case {"event": "device"}:
                self._answered = True
            case _ if _text(line):
                self._log.append(_text(line))

    def _end_of_run(self, failure: str) -> None:
        """Take the result of the run, unless it failed, and pass on how it ended."""
        if not self.running:
            return
        if not failure:
            try:
                results = read_results(Path(self._folder.name), self._images, self._extras)
            except Exception as error:  # whatever is wrong with the files, the run has to end with a sentence
                self._log.append(f"{type(error).__name__}: {error}")
                failure = "The computation ended without a usable result: free disk space and try again."
        self._forget_run()
        if failure:
            self._on_failed(failure)
        else:
            self._on_done(*results)

    def _end_of_child(self, process: qt.QProcess) -> None:
        """The child has ended by itself. If a run is under way, it fails, or a new child gets it."""
        failure = self._failure(process)
        self._forget_child()
        if not self.running:
            return
        if self._waited and not self._answered:  # the child had been ended while it was idle
            self._waited = False
            self._launch(self._settings.model)
            self._send()
        else:
            self._end_of_run(failure)

    def _failure(self, process: qt.QProcess) -> str:
        """Why the child ended, in one sentence."""
        if not self._started:
            return f"The computation cannot start, as '{command()[0]}' cannot be run: reinstall the application."
        line = self._last_line[:LAST_LINE]
        if process.exitStatus() == qt.QProcess.NormalExit:
            return _failed(line)
        quoted = f" ({line})" if line else ""
        cause = f"The computation crashed or was ended from outside{quoted}"
        return f"{cause}: close other programs to free memory, or choose another device, and try again."

    def _forget_run(self) -> None:
        folder = self._folder
        self._images = self._folder = None
        if folder is not None:
            remove_folder(folder)

    def _forget_child(self) -> None:
        process, self._process = self._process, None
        self._lines.clear()
        if process is None:
            return
        self._timer.stop()
        self._timer.deleteLater()
        if process.state() == qt.QProcess.NotRunning:  # to destroy a running one would wait for its end
            process.deleteLater()


def _failed(line: str) -> str:
    quoted = f" ({line})" if line else ""
    return f"The computation failed{quoted}: try another device, and report this if it happens again."


def seconds_left(fraction: float, elapsed: float) -> float | None:
    """A rough estimate from the done fraction and the seconds so far; None before the engine is loaded."""
    if not 0.05 < fraction <= 1:
        return None
    return elapsed * (1 - fraction) / fraction


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()
