"""The memory that a fill needs."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

PROCESS = Path("/proc/self")
RESET_PEAK = "5"  # written to clear_refs, it resets the peak of resident memory, see proc(5)


class PeakMemory:
    """The peak of memory in a `with` block, above the memory in use at its start.

    Attributes:
        megabytes: 10^6 bytes; of the process or of the GPU that torch uses, the larger one. NaN if the system does not
            report the memory (only Linux does).
    """

    def __enter__(self) -> PeakMemory:
        gc.collect()
        _reset_peak()
        self.megabytes = float("nan")
        self._before = _resident("VmRSS"), _on_gpu("memory_allocated")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        rises = np.subtract((_resident("VmHWM"), _on_gpu("max_memory_allocated")), self._before)
        self.megabytes = float(np.fmax(*rises))


def _reset_peak() -> None:
    """Return freed memory to the system, because the block could use it without a rise, and reset the peak."""
    with suppress(AttributeError, OSError, TypeError):  # only glibc has this function
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text(RESET_PEAK)
    _on_gpu("reset_peak_memory_stats")


def _resident(name: str) -> float:
    """A line of /proc/self/status, MB; NaN if there is none."""
    try:
        lines = (PROCESS / "status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:")), float("nan"))


def _on_gpu(function: str) -> float:
    """The result of a function of torch.cuda, MB; NaN if torch does not use CUDA."""
    import torch

    return (getattr(torch.cuda, function)() or 0) / 1e6 if torch.cuda.is_initialized() else float("nan")
