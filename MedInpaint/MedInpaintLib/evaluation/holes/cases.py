"""Cases of an evaluation: a hole of a given kind is drawn in a subject's brain, and its content is removed.

The kinds are real lesion shapes, lumpy ellipsoids, and squares in one slice (see squares.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...errors import InputError
from ...space.case import Case, prepare_case
from ...space.template import Template
from ...volumes.image import like, spacing_zyx, with_voxels
from .lesions import Lesions
from .shapes import lumpy_ellipsoid
from .subjects import Subject, stem

LESIONS = "lesions"
ELLIPSOID = "ellipsoid"  # followed by the radius in mm
SQUARE = "square"  # followed by the side in percent of the slice's width
LARGEST_SQUARE = 50  # percent


@dataclass(frozen=True)
class Hole:
    """A hole in a subject's brain.

    Attributes:
        kind: "lesions", "ellipsoid" and the radius in mm, or "square" and the side in percent of the slice's width.
        index: number of the hole among the holes of this kind in this subject.
        shape: name of the lesion mask; "" for other kinds.
        voxels: bool (z, y, x).
    """

    kind: str
    index: int
    shape: str
    voxels: NDArray[np.bool_]


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise InputError unless every kind of hole is known."""
    for kind in kinds:
        shape, size = split_kind(kind)
        if kind != LESIONS and not (shape in (ELLIPSOID, SQUARE) and size is not None):
            raise InputError(
                f"There is no hole '{kind}': use lesions, ellipsoid and a radius in mm (ellipsoid12), or square and a "
                "side in percent of the slice's width (square25)."
            )
        if shape == SQUARE and not 1 <= size <= LARGEST_SQUARE:
            raise InputError(f"There is no hole '{kind}': a square takes 1 to {LARGEST_SQUARE} percent of the width.")


def split_kind(kind: str) -> tuple[str, int | None]:
    """The shape and the size of a kind of hole: "ellipsoid12" gives ("ellipsoid", 12); "lesions" has the size None."""
    shape = kind.rstrip("0123456789")
    return shape, int(kind[len(shape) :]) if shape != kind else None


def draw_hole(kind: str, index: int, subject: Subject, lesions: Lesions | None, seed: int) -> Hole:
    """The hole of this kind ("lesions" or an ellipsoid) and index.

    The hole depends only on the kind, the index, the subject's name and the seed. The lesions of a subject are
    different masks until all masks have been used. Raises InputError if the brain has no place for the hole.
    """
    if kind == LESIONS:
        order = np.random.default_rng([seed, crc32(subject.name.encode())]).permutation(len(lesions.masks))
        chosen = int(order[index % len(order)])
        return Hole(kind, index, stem(lesions.masks[chosen]), lesions.on(chosen, subject))
    _, radius = split_kind(kind)
    rng = np.random.default_rng([seed, crc32(f"{subject.name} {kind}".encode()), index])
    return Hole(kind, index, "", lumpy_ellipsoid(subject.brain, spacing_zyx(subject.scan), radius, rng))


def cut_hole(subject: Subject, hole: Hole, template: Template) -> Case:
    """The case that a fill sees: the hole contains zeros, and neither alignment nor slices use what was in it."""
    mask = like(subject.scan, hole.voxels.astype(np.uint8))
    return prepare_case(empty_hole(subject.scan, hole.voxels), mask, template)


def empty_hole(scan: sitk.Image, voxels: NDArray[np.bool_]) -> sitk.Image:
    """The scan with zeros in a hole, bool (z, y, x)."""
    return with_voxels(scan, np.zeros(np.count_nonzero(voxels)), voxels)
