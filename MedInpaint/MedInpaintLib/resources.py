"""Where the files shipped with the engine are: models and sample data."""

from __future__ import annotations

from pathlib import Path


def resources_folder() -> Path:
    """Beside the Slicer module and in a source checkout; inside the package where pip installed a wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "Resources"
    return inside if inside.is_dir() else package.parent / "Resources"
