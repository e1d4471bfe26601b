"""How a run ends early: the input is wrong, memory does not suffice, or the user cancels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

# The words of CUDA (full, or in use by another program), cuBLAS, MPS, torch on the CPU, ITK and C++.
OUT_OF_MEMORY = re.compile(
    "out of memory|busy or unavailable|ALLOC_FAILED|not enough memory|allocate memory|bad_alloc", re.IGNORECASE
)


class InputError(ValueError):
    """Wrong input or usage. The message is one sentence: what is wrong and what to do."""


class Cancelled(Exception):
    """The user cancelled the run."""


@contextmanager
def explain_out_of_memory() -> Iterator[None]:
    """Turn a lack of memory into an InputError. Works as a `with` block and as a decorator."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            "There is not enough memory for this scan: close other programs or crop the scan to the head."
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, numpy, torch or SimpleITK means that memory does not suffice."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and bool(OUT_OF_MEMORY.search(str(error)))
    )
