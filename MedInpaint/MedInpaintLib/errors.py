"""The two ways a run ends early: the input is wrong, or the user cancelled."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class InputError(ValueError):
    """Wrong input or usage. Its message is one sentence: what is wrong and what to do."""


class Cancelled(Exception):
    """The user cancelled the run."""


# Words of CUDA (full, or taken by another program), cuBLAS, MPS, torch on the CPU (Windows' and others'), ITK and C++.
EXHAUSTED = re.compile(
    "out of memory|busy or unavailable|ALLOC_FAILED|not enough memory|allocate memory|bad_alloc", re.IGNORECASE
)


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error of Python, numpy, torch or SimpleITK says that there is not enough memory."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(EXHAUSTED.search(str(error))))


@contextmanager
def explain_out_of_memory() -> Iterator[None]:
    """A block, or a function that this decorates, in which a lack of memory raises InputError with one sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            "There is not enough memory for this scan: close other programs or crop the scan to the head."
        ) from error
