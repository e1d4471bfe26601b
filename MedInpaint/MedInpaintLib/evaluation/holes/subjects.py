"""The healthy scans of an evaluation, and the names of their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...space.alignment import Alignment, align
from ...space.template import Template
from ...volumes.image import check_scan, scan_values
from ...volumes.read import read_image


@dataclass(frozen=True)
class Subject:
    """A healthy scan.

    Attributes:
        group: name of the file's folder.
        name: name of the file without the suffix.
        scan: the image, which is the truth under every hole.
        alignment: of the whole scan. It places the holes; each case is aligned again without its hole.
        brain: bool (z, y, x), where holes may lie: the brain mask, without the zeros of a brain-extracted scan.
    """

    group: str
    name: str
    scan: sitk.Image
    alignment: Alignment
    brain: NDArray[np.bool_]


def read_subject(path: Path, template: Template) -> Subject:
    """Read a healthy scan and align it. Raises InputError if the scan cannot be used."""
    scan = read_image(path)
    check_scan(scan)
    no_hole = np.zeros(scan.GetSize()[::-1], bool)
    values = scan_values(scan, no_hole)
    alignment = align(scan, values, no_hole, template)
    brain = alignment.brain & (values > 0) if alignment.extracted else alignment.brain
    return Subject(group(path), stem(path), scan, alignment, brain)


def stem(path: Path) -> str:
    """The name of a file without .nii.gz or another suffix."""
    return path.name.split(".")[0]


def group(path: Path) -> str:
    """The name of the folder that contains a file."""
    return path.resolve().parent.name


def file_list(paths: Sequence[Path]) -> str:
    """Files as "folder/name", without the path to the folder; of more than two in a folder, the first and the last."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(group(path), []).append(path.name)
    words = []
    for folder, names in folders.items():
        first, *others = [f"{folder}/{name}" for name in names]
        words += [first, "...", others[-1]] if len(others) > 1 else [first, *others]
    return " ".join(words)
