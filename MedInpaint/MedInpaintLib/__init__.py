"""MedInpaint: fill a lesion in a brain MRI with the tissue a healthy brain would have there.

from MedInpaintLib import Settings, inpaint

result = inpaint(image, mask, Settings(iterations=200))  # SimpleITK images
result.image, result.generated, result.report
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import Cancelled, InputError
    from .pipeline import Result, inpaint, inpaint_together
    from .settings import Settings

__version__ = "0.1.0"
__all__ = ["Cancelled", "InputError", "Result", "Settings", "__version__", "inpaint", "inpaint_together"]

_MODULES = {
    "Cancelled": "errors",
    "InputError": "errors",
    "Result": "pipeline",
    "Settings": "settings",
    "inpaint": "pipeline",
    "inpaint_together": "pipeline",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use, so that `medinpaint --help` does not wait for SimpleITK and scipy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
