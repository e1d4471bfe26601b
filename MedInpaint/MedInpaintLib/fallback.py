"""What is done where memory runs out: on a graphics device smaller batches, then the CPU; there one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    import torch

    from .latent import Generated
    from .networks import GAN, VAE
    from .settings import Settings
    from .slices import Slices

SMALL_CHUNK = 8  # slices decoded at once where latent.CHUNK are too many
# Words of CUDA (full, or taken by another program), cuBLAS, MPS, torch on the CPU (Windows' and others'), ITK and C++.
EXHAUSTED = re.compile(
    "out of memory|busy or unavailable|ALLOC_FAILED|not enough memory|allocate memory|bad_alloc", re.IGNORECASE
)


def search_with_fallback(
    network: VAE | GAN,
    device: torch.device,
    slices: Slices,
    count: int,
    settings: Settings,
    progress: Callable[[float, str], None],
) -> tuple[Generated, str, list[str]]:
    """latent.search on the device; if its memory does not suffice, in smaller batches, and at last on the CPU.

    Each attempt starts anew from the same seed, so that the result is that of a search in such batches on that
    device, whatever failed before. A search on the CPU is attempted once.

    Args:
        network: the model; it is moved to the device, or back to the CPU.
        device: where to search.
        slices, count, settings: as for latent.search.
        progress: called with the done fraction, which never falls, and a message; may raise Cancelled.

    Returns what was found, the device that it was found on, and a sentence to warn with if that took a fallback.

    Errors of the search that are not about memory, and those of the last attempt, are raised as they are.
    """
    from .latent import CHUNK, choose_device, release, search

    cpu = choose_device("cpu")
    plan = [(device, CHUNK), (device, SMALL_CHUNK), (cpu, CHUNK)] if device != cpu else [(cpu, CHUNK)]
    message, reached = f"preparing the search on {device}", 0.0
    warnings: list[str] = []

    def forward(done: float, message: str) -> None:
        nonlocal reached
        reached = max(reached, done)
        progress(reached, message)

    while True:
        place, chunk = plan.pop(0)
        forward(0.0, message)
        try:
            return search(network.to(place), slices, count, settings, forward, chunk), str(place), warnings
        except RuntimeError as error:
            if not plan or not out_of_memory(error):
                raise
        release(place)  # not before the error is gone, whose traceback holds what the search did
        how = "on the CPU" if plan[0][0] == cpu else f"in batches of {SMALL_CHUNK} slices"
        message = f"the {device} device is busy or out of memory: starting anew {how}"
        warnings = [f"The {device} device was busy or out of memory: the search was done {how}, which takes longer."]


def out_of_memory(error: BaseException) -> bool:
    """True if an error of Python, numpy, torch or SimpleITK says that there is not enough memory."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(EXHAUSTED.search(str(error))))


@contextmanager
def enough_memory() -> Iterator[None]:
    """A block, or a function that this decorates, in which a lack of memory raises InputError with one sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            "There is not enough memory for this scan: close other programs or crop the scan to the head."
        ) from error
