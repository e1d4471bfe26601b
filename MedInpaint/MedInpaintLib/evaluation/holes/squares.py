"""Square holes in one axial slice, as in the 2-D inpainting literature (Yeh et al., CVPR 2017)."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ...space.alignment import Alignment
from ...space.case import Case
from ...space.intensities import intensity_scale
from ...space.slices import Slices, known_parts, to_model_grid
from ...space.template import Template
from ...volumes.image import like, scan_values, with_voxels
from .cases import SQUARE, Hole, Subject
from .shapes import square

MIDDLE = (0.30, 0.75)  # of the brain's height: where the slices are taken from
ROOM = 2  # a slice's brain is at least this many times as large as the square


def cut_square(kind: str, index: int, subject: Subject, template: Template, seed: int) -> tuple[Subject, Hole, Case]:
    """One model-space slice of the subject as a scan of its own, a square hole in it, and the case a fill sees.

    The slices above and below are not known, so that every fill works in two dimensions. As in studies on prepared
    slices, the alignment and the intensity scale have seen the truth; all else has not. Slice and place depend on
    nothing but the subject's name, the kind, the index and the seed.

    Args:
        kind: "square" and its side in percent of the slice's width.
        subject: of the whole scan.

    Raises InputError if no slice is large enough.
    """
    brain, values = _model_brain(subject, template)
    side = round(int(kind.removeprefix(SQUARE)) / 100 * brain.shape[2])
    rng = np.random.default_rng([seed, crc32(f"{subject.name} {kind}".encode()), index])
    low, high = np.quantile(np.flatnonzero(brain.any(axis=(1, 2))), MIDDLE)
    large = np.flatnonzero(brain.sum(axis=(1, 2)) >= ROOM * side**2)
    heights = large[(large >= low) & (large <= high)]
    if not heights.size:
        raise InputError(f"No slice of {subject.name} takes a '{kind}' hole: choose smaller squares.")
    height = int(rng.choice(heights))

    level = slice(height, height + 1)
    scan = like(template.image[:, :, level], values[level])
    alignment = Alignment(sitk.AffineTransform(3), brain[level], subject.alignment.quality, subject.alignment.extracted)
    part = Subject(subject.group, subject.name, scan, alignment, brain[level])
    hole = Hole(kind, index, "", square(brain[level], 0, side, rng))
    emptied = with_voxels(scan, np.zeros(side**2), hole.voxels)
    cut = np.zeros_like(brain)
    cut[level] = hole.voxels
    parts = known_parts(values, cut, np.ones_like(cut), template, alignment.extracted)
    image, unknown, context = (array[level] for array in parts)
    slices = Slices(image, hole.voxels, unknown, context, np.array([height]), scale=1.0)
    return part, hole, Case(emptied, scan_values(emptied, hole.voxels), hole.voxels, template, alignment, slices)


def _model_brain(subject: Subject, template: Template) -> tuple[np.ndarray, np.ndarray]:
    """The subject's brain, bool, and intensities, float32, on the model grid (z, h, w)."""
    everything = np.ones(subject.brain.shape, bool)
    scanned = scan_values(subject.scan, ~everything)
    values, _ = to_model_grid(subject.scan, scanned, everything, template, subject.alignment.transform)
    values /= intensity_scale(scanned, subject.alignment.brain)
    brain = sitk.GetArrayViewFromImage(template.brain) > 0
    return (brain & (values > 0) if subject.alignment.extracted else brain), values
