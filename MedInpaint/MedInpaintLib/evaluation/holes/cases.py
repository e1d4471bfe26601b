"""What is evaluated: healthy scans, and holes cut into them under which the truth is known.

Holes are lumpy ellipsoids, real lesions that experts outlined in another scan, carried over by alignment, and squares
in one slice (see `squares`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...errors import InputError
from ...space.alignment import Alignment, align
from ...space.case import Case, prepare_case
from ...space.resampling import carry
from ...space.template import Template
from ...volumes.image import check_scan, like, scan_values, spacing_zyx, with_voxels
from ...volumes.mask import hole_on_grid
from ...volumes.read import read_image
from .shapes import lesion_hole, lumpy_ellipsoid

LESIONS = "lesions"
ELLIPSOID = "ellipsoid"  # followed by its radius in mm
SQUARE = "square"  # followed by its side in percent of the slice's width
LARGEST_SQUARE = 50  # percent


@dataclass(frozen=True)
class Subject:
    """A healthy scan.

    Attributes:
        group: name of the folder its file is in.
        name: of its file, without the suffix.
        scan: the truth.
        alignment: of the whole scan; it places the holes, each case is aligned anew without its hole.
        brain: bool (z, y, x), where holes may lie; without a brain-extracted scan's zeros.
    """

    group: str
    name: str
    scan: sitk.Image
    alignment: Alignment
    brain: NDArray[np.bool_]


@dataclass(frozen=True)
class Lesions:
    """Expert lesion masks on one scan's grid, and that scan's way to model space."""

    masks: tuple[Path, ...]
    scan: sitk.Image
    alignment: Alignment

    def on(self, index: int, subject: Subject) -> NDArray[np.bool_]:
        """The mask of this index where it would lie in the subject's head, clipped to the brain: bool (z, y, x)."""
        mask = hole_on_grid(read_image(self.masks[index]), self.scan)
        way = scan_to_scan(subject.alignment, self.alignment)
        hole = lesion_hole(carry(like(self.scan, mask.astype(np.uint8)), subject.scan, way), subject.brain)
        if not hole.any():
            raise InputError(f"'{self.masks[index].name}' misses the brain of {subject.name}: leave one of them out.")
        return hole


@dataclass(frozen=True)
class Hole:
    """A hole in a subject's brain.

    Attributes:
        kind: "lesions", "ellipsoid" and its radius in mm, or "square" and its side in percent of the slice's width.
        index: among those of its kind in this subject.
        shape: the lesion mask's name, or "".
        voxels: bool (z, y, x).
    """

    kind: str
    index: int
    shape: str
    voxels: NDArray[np.bool_]


def stem(path: Path) -> str:
    """A file's name without .nii.gz and the like."""
    return path.name.split(".")[0]


def group(path: Path) -> str:
    """The name of the folder a file is in."""
    return path.resolve().parent.name


def file_list(paths: Sequence[Path]) -> str:
    """Files as a command reads on any computer: each by its own and its folder's name, many by the first and last."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(group(path), []).append(path.name)
    shown = ((folder, [names[0], "...", names[-1]] if len(names) > 2 else names) for folder, names in folders.items())
    return " ".join(name if name == "..." else f"{folder}/{name}" for folder, names in shown for name in names)


def scan_to_scan(here: Alignment, there: Alignment) -> sitk.CompositeTransform:
    """Takes a point of one aligned scan to the point of another at the same place in the brain."""
    return sitk.CompositeTransform([there.transform, here.transform.GetInverse()])  # the last one is applied first


def read_subject(path: Path, template: Template) -> Subject:
    """Read a healthy scan and align it. Raises InputError if it cannot be used."""
    scan = read_image(path)
    check_scan(scan)
    nothing = np.zeros(scan.GetSize()[::-1], bool)
    values = scan_values(scan, nothing)
    alignment = align(scan, values, nothing, template)
    brain = alignment.brain & (values > 0) if alignment.extracted else alignment.brain
    return Subject(group(path), stem(path), scan, alignment, brain)


def read_lesions(masks: Sequence[Path], scan_path: Path, template: Template) -> Lesions:
    """Align the scan whose grid the masks share, leaving out its own lesions: the masks that share its first name.

    For patient26_T1.nii.gz these are patient26_*.
    """
    scan = read_image(scan_path)
    check_scan(scan)
    own = np.zeros(scan.GetSize()[::-1], bool)
    for path in masks:
        if stem(path).split("_")[0] == stem(scan_path).split("_")[0]:
            own |= hole_on_grid(read_image(path), scan)
    return Lesions(tuple(masks), scan, align(scan, scan_values(scan, own), own, template))


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise InputError unless every kind of hole is known."""
    for kind in kinds:
        shape, size = kind.rstrip("0123456789"), kind[len(kind.rstrip("0123456789")) :]
        if kind != LESIONS and not (shape in (ELLIPSOID, SQUARE) and size):
            raise InputError(
                f"There is no hole '{kind}': use lesions, ellipsoid and a radius in mm (ellipsoid12), or square and a "
                "side in percent of the slice's width (square25)."
            )
        if shape == SQUARE and not 1 <= int(size) <= LARGEST_SQUARE:
            raise InputError(f"There is no hole '{kind}': a square takes 1 to {LARGEST_SQUARE} percent of the width.")


def draw_hole(kind: str, index: int, subject: Subject, lesions: Lesions | None, seed: int) -> Hole:
    """The hole of this kind and index. It depends on nothing else but the subject's name and the seed.

    A subject's lesions are different masks until all have been used.
    """
    if kind == LESIONS:
        order = np.random.default_rng([seed, crc32(subject.name.encode())]).permutation(len(lesions.masks))
        chosen = int(order[index % len(order)])
        return Hole(kind, index, stem(lesions.masks[chosen]), lesions.on(chosen, subject))
    rng = np.random.default_rng([seed, crc32(f"{subject.name} {kind}".encode()), index])
    radius = float(kind.removeprefix(ELLIPSOID))
    return Hole(kind, index, "", lumpy_ellipsoid(subject.brain, spacing_zyx(subject.scan), radius, rng))


def cut_hole(subject: Subject, hole: Hole, template: Template) -> Case:
    """The case as a fill sees it: the hole holds zeros, and the alignment was made without what was there."""
    emptied = with_voxels(subject.scan, np.zeros(np.count_nonzero(hole.voxels)), hole.voxels)
    return prepare_case(emptied, like(subject.scan, hole.voxels.astype(np.uint8)), template)
