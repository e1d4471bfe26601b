"""Cases of an evaluation: a lesion of a given kind is stamped into a subject's brain, and a mask marks it.

The kinds are real lesion shapes, real strokes, lumpy ellipsoids, balls in plain white matter, and squares in one slice
(see squares.py). A variant may follow: "-tight" (the mask is eroded by one voxel), "-generous" (the mask is 1 mm
larger) or "-zero" (the hole holds zeros, for diagnosis only). Without a variant the hole holds a dark lesion and the
mask is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from ...errors import InputError
from ...space.case import Case, prepare_case
from ...space.template import Template
from ...volumes.image import like, scan_values, spacing_zyx, with_voxels
from ...volumes.mask import enlarge
from .lesions import Lesions
from .shapes import ball_in, lumpy_ellipsoid
from .stamp import stamp_lesion
from .subjects import Subject, stem

LESIONS, STROKE = "lesions", "stroke"
ELLIPSOID, BALL = "ellipsoid", "ball"  # followed by the radius in mm
SQUARE = "square"  # followed by the side in percent of the slice's width
LARGEST_SQUARE = 50  # percent
TIGHT, GENEROUS, ZERO = "tight", "generous", "zero"  # variants
MARGIN = 1.0  # mm of a generous mask


@dataclass(frozen=True)
class Hole:
    """A hole in a subject's brain.

    Attributes:
        kind: "lesions", "stroke", "ellipsoid" or "ball" and the radius in mm, or "square" and the side in percent of
            the slice's width; then perhaps a hyphen and a variant.
        index: number of the hole among the holes of this kind in this subject.
        shape: name of the lesion mask; "" for other kinds.
        voxels: bool (z, y, x), the mask that is filled.
        lesion: bool (z, y, x), the voxels that the lesion changes.
    """

    kind: str
    index: int
    shape: str
    voxels: NDArray[np.bool_]
    lesion: NDArray[np.bool_]


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise InputError unless every kind of hole is known."""
    for kind in kinds:
        shape, size = split_kind(kind)
        variants = ("",) if shape == SQUARE else ("", TIGHT, GENEROUS, ZERO)
        sized = shape in (ELLIPSOID, BALL, SQUARE) and size
        if variant_of(kind) not in variants or not (sized or (shape in (LESIONS, STROKE) and size is None)):
            raise InputError(
                f"There is no hole '{kind}': use lesions, stroke, ellipsoid or ball and a radius in mm (ellipsoid12), "
                "each perhaps with -tight, -generous or -zero, or square and a side in percent of the slice's width "
                "(square25)."
            )
        if shape == SQUARE and not 1 <= size <= LARGEST_SQUARE:
            raise InputError(f"There is no hole '{kind}': a square takes 1 to {LARGEST_SQUARE} percent of the width.")


def split_kind(kind: str) -> tuple[str, int | None]:
    """The shape and the size of a kind of hole: "ellipsoid12-tight" gives ("ellipsoid", 12); "lesions" has no size."""
    kind = kind.partition("-")[0]
    shape = kind.rstrip("0123456789")
    return shape, int(kind[len(shape) :]) if shape != kind else None


def variant_of(kind: str) -> str:
    """The variant of a kind of hole: "tight", "generous", "zero", or "" for an exact mask of a dark lesion."""
    return kind.partition("-")[2]


def draw_hole(
    kind: str, index: int, subject: Subject, masks: Mapping[str, Lesions], white_matter: NDArray[np.bool_], seed: int
) -> Hole:
    """The hole of this kind (all but squares) and index.

    The lesion depends only on the shape, the size, the index, the subject's name and the seed: the variants of a
    kind have the same lesion. The masks of a subject are different ones until all have been used.

    Args:
        kind: of the hole.
        index: number of the hole among the holes of this kind in this subject.
        subject: the healthy scan.
        masks: the real lesions of the kinds "lesions" and "stroke".
        white_matter: bool (z, y, x), where balls may lie.
        seed: of the random draws.

    Raises InputError if the brain has no place for the hole.
    """
    shape, size = split_kind(kind)
    name, spacing = "", spacing_zyx(subject.scan)
    rng = np.random.default_rng([seed, crc32(f"{subject.name} {shape}{size or ''}".encode()), index])
    if shape in masks:
        order = np.random.default_rng([seed, crc32(subject.name.encode())]).permutation(len(masks[shape].masks))
        chosen = int(order[index % len(order)])
        name, lesion = stem(masks[shape].masks[chosen]), masks[shape].on(chosen, subject)
    elif shape == BALL:
        lesion = ball_in(white_matter, spacing, size, rng) & subject.brain
    else:
        lesion = lumpy_ellipsoid(subject.brain, spacing, size, rng)
    return Hole(kind, index, name, _mask(variant_of(kind), lesion, subject), lesion)


def cut_hole(subject: Subject, hole: Hole, template: Template, seed: int) -> Case:
    """The case that a fill sees: the scan with the lesion in it, and the mask. Nothing shows what was there before."""
    mask = like(subject.scan, hole.voxels.astype(np.uint8))
    if variant_of(hole.kind) == ZERO:
        return prepare_case(empty_hole(subject.scan, hole.voxels), mask, template)
    rng = np.random.default_rng([seed, crc32(f"{subject.name} content".encode()), hole.index])
    return prepare_case(stamp_lesion(subject.scan, subject.brain, hole.lesion, rng), mask, template)


def empty_hole(scan: sitk.Image, voxels: NDArray[np.bool_]) -> sitk.Image:
    """The scan with zeros in a hole, bool (z, y, x)."""
    return with_voxels(scan, np.zeros(np.count_nonzero(voxels)), voxels)


def _mask(variant: str, lesion: NDArray[np.bool_], subject: Subject) -> NDArray[np.bool_]:
    """The mask that is drawn for a lesion. What erosion would remove completely stays as it is."""
    if variant == GENEROUS:
        tissue = scan_values(subject.scan, lesion) != 0
        return enlarge(lesion, tissue, spacing_zyx(subject.scan), MARGIN)
    if variant != TIGHT:
        return lesion
    eroded = ndimage.binary_erosion(lesion)
    pieces, count = ndimage.label(lesion, np.ones((3, 3, 3)))
    gone = np.setdiff1d(np.arange(1, count + 1), pieces[eroded])
    return eroded | np.isin(pieces, gone)
