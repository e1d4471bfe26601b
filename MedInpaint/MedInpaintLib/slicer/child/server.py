"""The child process: it loads the engine once, then fills one lesion after another, as its standard input says.

Each line of the input is an order; see `exchange`. The answers are lines of JSON on the standard output: progress and
warnings, and at the end of each order `done`, `error` (the input cannot be used) or `failed` (anything else). The end
of the input ends the child; if the application dies during a run, the next answer finds no reader, and that ends it,
too.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ...command.console import Console
from ...errors import InputError, explain_out_of_memory
from ...kept import Kept
from ...models.registry import find_model
from ...settings import Settings
from .exchange import MASK, SCAN, read_order, write_result


def serve(model: str, orders: Iterable[str]) -> None:
    """Load the model, then do what the orders say until they end."""
    console, kept, home = Console("json"), Kept(), Path.cwd()
    _warm_up(kept, model)
    console.event("ready", pid=os.getpid())
    for line in orders:
        folder, settings, also, extras = read_order(line)
        try:
            os.chdir(folder)
            event, told = _fill(settings, also, extras, kept, console)
            os.chdir(home)  # before the application removes the folder
            console.event(event, **told)
            _return_memory()
        except OSError:  # the application has died: nobody else removes the patient's scan
            os.chdir(home)
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _fill(
    settings: Settings, also: list[str], extras: list[str], kept: Kept, console: Console
) -> tuple[str, dict[str, str]]:
    """Fill the scan in the working directory, and with it those in these folders. Returns the order's last event."""
    from ...pipeline import inpaint_together
    from ...search.device import choose_device, release_memory
    from ...volumes.read import read_image

    try:
        with explain_out_of_memory():
            device = choose_device(settings.device)
            console.event("device", device=str(device))
            folders = [Path(), *map(Path, also)]
            scans, masks = [read_image(folder / SCAN) for folder in folders], [read_image(MASK), *(None for _ in also)]
            results = inpaint_together(scans, masks, settings, console.progress, kept)
            for folder, result in zip(folders, results, strict=True):
                write_result(folder, result, extras)
            if device.type != "cpu":
                release_memory(device)
        for warning in dict.fromkeys(warning for result in results for warning in result.report["warnings"]):
            console.event("warning", message=warning)
    except InputError as error:
        return "error", {"message": str(error)}
    except Exception as error:
        return "failed", {"message": f"{type(error).__name__}: {error}", "details": traceback.format_exc()}
    return "done", {}


def _return_memory() -> None:
    """Give freed memory back to the system: the C library of Linux would keep 260 MB of a run on a whole head."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _warm_up(kept: Kept, model: str) -> None:
    """Import what a run needs and load the model; what is wrong with it, the first run says."""
    from ... import pipeline  # noqa: F401
    from ...blending import residual  # noqa: F401
    from ...search import latent  # noqa: F401

    with suppress(InputError):
        kept.load(find_model(model))


if __name__ == "__main__":
    serve(sys.argv[1], iter(sys.stdin.readline, ""))
