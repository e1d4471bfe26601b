"""How much memory a piece of work needs."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

PROCESS = Path("/proc/self")
RESET_PEAK = "5"  # what clear_refs takes to begin the peak of resident memory anew, see proc(5)


class PeakMemory:
    """How far memory rises within a `with` block above what is in use when it begins.

    Attributes:
        megabytes: of 10^6 bytes; of the process or of the GPU, if torch works on one: what rises more. Not a number
            where the system does not tell (no Linux).
    """

    def __enter__(self) -> PeakMemory:
        gc.collect()
        _begin_anew()
        self.megabytes = float("nan")
        self._before = _resident("VmRSS"), _on_gpu("memory_allocated")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        rises = np.subtract((_resident("VmHWM"), _on_gpu("max_memory_allocated")), self._before)
        self.megabytes = float(np.fmax(*rises))


def _begin_anew() -> None:
    """Give freed memory back to the system, or the block would take it unnoticed, and reset the peak."""
    with suppress(AttributeError, OSError, TypeError):  # another C library than glibc has no such call
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text(RESET_PEAK)
    _on_gpu("reset_peak_memory_stats")


def _resident(name: str) -> float:
    """A line of /proc/self/status in MB, not a number if there is none."""
    try:
        lines = (PROCESS / "status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:")), float("nan"))


def _on_gpu(question: str) -> float:
    """What a function of torch.cuda says, in MB; not a number if torch uses no CUDA."""
    import torch

    return (getattr(torch.cuda, question)() or 0) / 1e6 if torch.cuda.is_initialized() else float("nan")
