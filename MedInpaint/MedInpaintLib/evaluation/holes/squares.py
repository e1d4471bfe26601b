"""Square holes in one axial slice, as in the 2-D inpainting literature (Yeh et al., CVPR 2017)."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ...space.alignment import Alignment
from ...space.case import Case
from ...space.intensities import intensity_scale
from ...space.slices import Slices, mask_unknown, to_model_grid
from ...space.template import Template
from ...volumes.image import like, scan_values
from .cases import Hole, empty_hole, split_kind
from .shapes import square
from .subjects import Subject

HEIGHTS = (0.30, 0.75)  # share of the brain's height between which the slices are chosen
LEAST_BRAIN = 2  # brain in the slice, as a multiple of the area of the square


def cut_square(kind: str, index: int, subject: Subject, template: Template, seed: int) -> tuple[Subject, Hole, Case]:
    """One model-space slice of the subject as a scan, a square hole in it, and the case that a fill sees.

    The case contains no other slice, so every fill works in two dimensions. As in studies on prepared slices, alignment
    and intensity scale use the whole scan, the content of the hole included. The slice and the place of the square
    depend only on the subject's name, the kind, the index and the seed.

    Args:
        kind: "square" and the side in percent of the slice's width.
        index: number of the hole among the holes of this kind in this subject.
        subject: the whole scan.
        template: of the model space.
        seed: of the random draws.

    Raises InputError if no slice is large enough.
    """
    brain, values = _brain_in_model_space(subject, template)
    side = round(split_kind(kind)[1] / 100 * brain.shape[2])
    rng = np.random.default_rng([seed, crc32(f"{subject.name} {kind}".encode()), index])
    low, high = np.quantile(np.flatnonzero(brain.any(axis=(1, 2))), HEIGHTS)
    large = np.flatnonzero(brain.sum(axis=(1, 2)) >= LEAST_BRAIN * side**2)
    heights = large[(large >= low) & (large <= high)]
    if not heights.size:
        raise InputError(f"No slice of {subject.name} takes a '{kind}' hole: choose smaller squares.")
    height = int(rng.choice(heights))

    level = slice(height, height + 1)
    scan = like(template.image[:, :, level], values[level])
    alignment = Alignment(sitk.AffineTransform(3), brain[level], subject.alignment.quality, subject.alignment.extracted)
    subject_slice = Subject(subject.group, subject.name, scan, alignment, brain[level])
    voxels = square(brain[level], 0, side, rng)
    hole = Hole(kind, index, "", voxels, voxels)
    emptied = empty_hole(scan, hole.voxels)
    everywhere = np.ones_like(hole.voxels)
    image, unknown, context = mask_unknown(values[level], hole.voxels, everywhere, template, level, alignment.extracted)
    slices = Slices(image, hole.voxels, unknown, context, np.array([height]), scale=1.0)
    case = Case(emptied, scan_values(emptied, hole.voxels), hole.voxels, template, alignment, slices)
    return subject_slice, hole, case


def _brain_in_model_space(subject: Subject, template: Template) -> tuple[np.ndarray, np.ndarray]:
    """The subject's brain mask, bool, and model intensities, float32, on the model grid (z, h, w)."""
    whole = np.ones(subject.brain.shape, bool)
    scanned = scan_values(subject.scan, ~whole)
    values, _ = to_model_grid(subject.scan, scanned, whole, template.image, subject.alignment.transform)
    values /= intensity_scale(scanned, subject.alignment.brain)
    brain = sitk.GetArrayViewFromImage(template.brain) > 0
    return (brain & (values > 0) if subject.alignment.extracted else brain), values
