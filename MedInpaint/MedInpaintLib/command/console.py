"""The messages of a command: JSON lines on stdout, or a progress bar and sentences on stderr."""

from __future__ import annotations

import json
import os
import sys
from io import TextIOWrapper

MODES = ("bar", "json", "none")
BAR_WIDTH = 24
ERASE_LINE = "\r\x1b[K"


class Console:
    """Progress, warnings and errors of one command.

    Args:
        mode: "json" writes one event a line to stdout; "bar" draws on stderr if that is a terminal; "none" shows no
            progress. Warnings and errors are sentences on stderr in every mode.
    """

    def __init__(self, mode: str = "none") -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # some file names cannot be shown on some terminals
        self._json = mode == "json"
        self._bar = mode == "bar" and sys.stderr is not None and sys.stderr.isatty()

    def progress(self, fraction: float, stage: str, message: str) -> None:
        """Show the fraction done (0 to 1), the stage and a message."""
        self.event("progress", fraction=round(fraction, 4), stage=stage, message=message)
        if self._bar:
            done = round(BAR_WIDTH * fraction)
            bar = "#" * done + "." * (BAR_WIDTH - done)
            sys.stderr.write(f"{ERASE_LINE}[{bar}] {100 * fraction:3.0f} % {stage}: {message}")
            sys.stderr.flush()

    def event(self, event: str, **fields: object) -> None:
        """Write one JSON line, in JSON mode only."""
        if self._json:
            print(json.dumps({"event": event, **fields}), flush=True)

    def warning(self, message: str) -> None:
        """Show a warning; the run continues."""
        self.event("warning", message=message)
        self._say(f"medinpaint: warning: {message}")

    def error(self, message: str) -> None:
        """Show why the run ends without a result."""
        self.event("error", message=message)
        self._say(f"medinpaint: {message}")

    def close(self) -> None:
        """Erase the bar and flush stdout, if its reader is still there."""
        if self._bar:
            sys.stderr.write(ERASE_LINE)
            sys.stderr.flush()
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:  # Python would flush again at exit, and fail with a message
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _say(self, line: str) -> None:
        self.close()
        if sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)
