"""What to do when a graphics device runs out of memory: use smaller batches, then the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..errors import is_out_of_memory

if TYPE_CHECKING:
    import torch

SMALL_CHUNK = 8  # slices that are decoded at once if latent.CHUNK are too many
Outcome = TypeVar("Outcome")
Report = Callable[[float, str], None]  # takes the fraction done and a message


def with_fallback(
    work: Callable[[torch.device, int, Report], Outcome], device: torch.device, progress: Report
) -> tuple[Outcome, str, list[str]]:
    """Run work on the device. If memory runs out, run it again in smaller batches, and then on the CPU.

    Each attempt starts from the beginning, so earlier failures do not change the result. On the CPU there is one
    attempt.

    Args:
        work: called with a device, the number of slices to decode at once and a progress function.
        device: where to try first.
        progress: called with the fraction done, which never falls, and a message; may raise Cancelled.

    Returns the outcome of the work, the device that was used, and a warning if a fallback was needed.

    Errors that are not about memory are raised as they are, and so is the error of the last attempt.
    """
    from .device import choose_device, release_memory
    from .latent import CHUNK

    cpu = choose_device("cpu")
    plan = [(device, CHUNK), (device, SMALL_CHUNK), (cpu, CHUNK)] if device != cpu else [(cpu, CHUNK)]
    message, highest = f"preparing the search on {device}", 0.0
    warnings: list[str] = []

    def forward(done: float, message: str) -> None:
        nonlocal highest
        highest = max(highest, done)
        progress(highest, message)

    while True:
        place, chunk = plan.pop(0)
        forward(0.0, message)
        try:
            return work(place, chunk, forward), str(place), warnings
        except RuntimeError as error:
            if not plan or not is_out_of_memory(error):
                raise
        # Outside the except block: there, the error's traceback still refers to the memory of the failed attempt.
        release_memory(place)
        how = "on the CPU" if plan[0][0] == cpu else f"in batches of {SMALL_CHUNK} slices"
        message = f"the {device} device is busy or out of memory: starting again {how}"
        warnings = [f"The {device} device was busy or out of memory: the search was done {how}, which takes longer."]
