"""Scan -> stack of model-space axial slices, and the way back to the scan's own voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .alignment import Alignment, Template, carry, to_matrix
from .errors import InputError
from .image import affine

WHITE_MATTER = 0.75  # model intensity of the brighter half of the known brain
INTENSITY_RULE = "0 stays 0; the mean of the known brain between its 50th and 98th percentile becomes 0.75"
NEIGHBOURS = 4  # slices above and below the hole that the search sees


@dataclass(frozen=True)
class Slices:
    """The model-space slices that the hole touches and their neighbours, n of h x w pixels.

    Attributes:
        image: float32 (n, h, w), model intensities; 0 where unknown and outside the brain.
        hole: bool (n, h, w), pixels to fill.
        unknown: bool (n, h, w), the hole and what the scan does not show or what cannot be told from the skull.
        context: bool (n, h, w), known pixels that the result is fitted to.
        heights: int (n,), each slice's index along the model grid's z axis.
        scale: difference in scan intensity between model intensities 1 and 0.
        floor: scan intensity of model intensity 0.
    """

    image: np.ndarray
    hole: np.ndarray
    unknown: np.ndarray
    context: np.ndarray
    heights: np.ndarray
    scale: float
    floor: float = 0.0


def intensity_floor(values: np.ndarray, hole: np.ndarray) -> float:
    """The scan intensity that counts as no signal: 0, or for a scan with negative tissue its 0.5th percentile."""
    known = values[~hole & (values != 0)]
    return 0.0 if known.size == 0 or (known < 0).mean() < 0.01 else float(np.percentile(known, 0.5))


def intensity_scale(values: np.ndarray, known: np.ndarray) -> float:
    """The scan intensity that becomes 1: the trimmed mean of the brighter half of the known brain becomes 0.75.

    Zero stays zero, so background stays background. Raises InputError if there is nothing to measure.
    """
    tissue = values[known]
    if tissue.size < 100:
        raise InputError("The scan shows too little brain to work from: check that the mask marks only the lesion.")
    middle, top = np.percentile(tissue, [50, 98])
    upper = tissue[(tissue >= middle) & (tissue <= top)]
    scale = float(upper.mean() / WHITE_MATTER)
    if scale <= 0 or tissue.std() == 0:
        raise InputError("The scan has no contrast in the brain: check that it is a T1-weighted MRI.")
    return scale


def to_model_grid(
    scan: sitk.Image, values: np.ndarray, known: np.ndarray, template: Template, transform: sitk.Transform
) -> tuple[np.ndarray, np.ndarray]:
    """Resample the known voxels to the model grid by normalised convolution, so that the hole leaks nowhere.

    Returns the values (float32) and the share of each voxel that is known (0 to 1), both (z, y, x).
    """
    spacing = template.image.GetSpacing()[0]

    def resampled(array):
        image = sitk.GetImageFromArray(array.astype(np.float32))
        image.CopyInformation(scan)
        sigmas = [0.4 * max(spacing - 0.5 * s, 0.25 * spacing) for s in scan.GetSpacing()]
        image = sitk.SmoothingRecursiveGaussian(image, sigmas)
        return sitk.GetArrayFromImage(sitk.Resample(image, template.image, transform, sitk.sitkLinear, 0.0))

    share = resampled(known)
    total = resampled(np.where(known, values, 0.0))
    return np.where(share > 0.1, total / np.maximum(share, 0.1), 0.0).astype(np.float32), share


def to_slices(
    scan: sitk.Image, values: np.ndarray, hole: np.ndarray, alignment: Alignment, template: Template
) -> Slices:
    """Every model-space axial slice that the hole touches, and the next ones above and below.

    Args:
        scan: gives the geometry.
        values: float32 (z, y, x), all finite; what it holds in the hole is ignored.
        hole: bool (z, y, x).
        alignment: of this scan to this template.
    """
    transform = alignment.transform
    scale = intensity_scale(values, alignment.brain & ~hole)
    image, share = to_model_grid(scan, values, ~hole, template, transform)
    image /= scale
    ones = sitk.GetImageFromArray(hole.astype(np.float32))
    ones.CopyInformation(scan)
    filled = sitk.GetArrayFromImage(sitk.Resample(ones, template.image, transform, sitk.sitkLinear, 0.0)) > 0.01
    filled |= _nearest(scan, hole, template, transform)
    field = _inside(scan, template, transform)
    unknown = filled | (share < 0.5) & field
    image, unknown, context = shown_parts(image, unknown, field, template, alignment.extracted)
    heights = searched_heights(filled)
    return Slices(image[heights], filled[heights], unknown[heights], context[heights], heights, scale)


def shown_parts(
    image: np.ndarray, unknown: np.ndarray, field: np.ndarray, template: Template, extracted: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What of a brain on the model grid is shown, what is not known and what a fill is fitted to, all (z, h, w).

    Args:
        image: float32, model intensities.
        unknown: bool, the hole and what the scan does not show.
        field: bool, within the scan's field.
        extracted: whether there is no head outside the brain.

    Returns `Slices.image`, `Slices.unknown` and `Slices.context` of every height.
    """
    brain, edge = sitk.GetArrayViewFromImage(template.brain) > 0, template.edge
    if extracted:
        context = ~unknown & field & (brain | edge)
    else:
        # A head: the skull is no part of the model, and where the brain ends is known only roughly.
        image = np.where(brain | edge, image, 0)
        unknown = unknown | edge
        context = ~unknown & field & brain
    return np.where(unknown, 0, image).astype(np.float32), unknown, context


def searched_heights(hole: np.ndarray) -> np.ndarray:
    """int (n,): the slices of a model-space hole, bool (z, h, w), and the next ones above and below."""
    return np.flatnonzero(ndimage.binary_dilation(hole.any(axis=(1, 2)), iterations=NEIGHBOURS))


def to_scan(
    scan: sitk.Image, stack: np.ndarray, slices: Slices, alignment: Alignment, template: Template
) -> tuple[np.ndarray, np.ndarray]:
    """Generated slices on the scan's grid, in scan intensities.

    Args:
        scan: gives the grid.
        stack: float32 (n, h, w), model intensities, at slices.heights.

    Returns G(z), float32 (z, y, x), and where it is defined, bool (z, y, x); elsewhere the nearest slice is repeated.
    """
    count = template.image.GetSize()[2]
    back = alignment.transform.GetInverse()
    made = np.isin(np.arange(count), slices.heights)[:, None, None]
    made = sitk.GetImageFromArray(np.broadcast_to(made, (count, *stack.shape[1:])).astype(np.uint8))
    made.CopyInformation(template.image)
    generated = _resampled(scan, stack * slices.scale + slices.floor, slices, alignment, template, sitk.sitkBSpline)
    return generated, carry(made, scan, back)


def sd_to_scan(
    scan: sitk.Image, sd: np.ndarray, slices: Slices, alignment: Alignment, template: Template
) -> np.ndarray:
    """Standard deviations (n, h, w) of generated slices on the scan's grid, in scan intensities, float32 (z, y, x)."""
    return _resampled(scan, sd * slices.scale, slices, alignment, template, sitk.sitkLinear)


def _resampled(
    scan: sitk.Image, stack: np.ndarray, slices: Slices, alignment: Alignment, template: Template, interpolator: int
) -> np.ndarray:
    nearest = np.abs(np.arange(template.image.GetSize()[2])[:, None] - slices.heights[None]).argmin(axis=1)
    volume = sitk.GetImageFromArray(stack[nearest])
    volume.CopyInformation(template.image)
    return sitk.GetArrayFromImage(sitk.Resample(volume, scan, alignment.transform.GetInverse(), interpolator, 0.0))


def _nearest(scan: sitk.Image, hole: np.ndarray, template: Template, transform: sitk.AffineTransform) -> np.ndarray:
    """bool on the model grid: the voxels nearest to the hole's, so that not even a tiny lesion falls between them."""
    x_y_z = np.argwhere(hole)[:, ::-1]
    to_model = np.linalg.inv(to_matrix(transform) @ affine(template.image)) @ affine(scan)
    indices = np.rint(x_y_z @ to_model[:3, :3].T + to_model[:3, 3]).astype(int)
    indices = indices[((indices >= 0) & (indices < template.image.GetSize())).all(axis=1)]
    nearest = np.zeros(template.image.GetSize()[::-1], bool)
    nearest[tuple(indices.T[::-1])] = True
    return nearest


def _inside(scan: sitk.Image, template: Template, transform: sitk.Transform) -> np.ndarray:
    """bool on the model grid: within the scan's field."""
    field = sitk.Image(scan.GetSize(), sitk.sitkUInt8) + 1
    field.CopyInformation(scan)
    return carry(field, template.image, transform)
