"""Where the shipped models and sample data are."""

from __future__ import annotations

from pathlib import Path


def resources_folder() -> Path:
    """The folder Resources: inside an installed package, or beside the Slicer module and in a source checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "Resources"
    return inside if inside.is_dir() else package.parent / "Resources"
