"""From the scan to a stack of axial slices in model space, and back to the scan's grid."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..volumes.image import affine, like
from ..volumes.mask import bounding_box
from .alignment import Alignment
from .intensities import LEVELS, intensity_scale
from .resampling import covered_box, resample, resample_mask, to_matrix
from .template import Template

NEIGHBOURS = 4  # slices above and below the hole that the search sees
FLATTER = 0.5  # of the scale of T1-weighted scans: the tissues of other contrasts differ less
MARGIN = 8  # voxels; more than the smoothing reaches beyond the part of the scan that is smoothed


@dataclass(frozen=True)
class Slices:
    """The model-space slices that the hole touches and their neighbours: n slices of h x w pixels.

    Attributes:
        image: float32 (n, h, w), model intensities; 0 where unknown and outside the brain.
        hole: bool (n, h, w), pixels to fill.
        unknown: bool (n, h, w), the hole, what the scan does not show, and what may be brain or skull.
        context: bool (n, h, w), known pixels that the search fits.
        heights: int (n,), each slice's index along the model grid's z axis.
        scale: scan intensity of model intensity 1 minus that of model intensity 0.
        floor: scan intensity of model intensity 0.
        curve: float (k,), the contrast curve where the search starts: the scan's model intensities where the model has
            LEVELS.
    """

    image: np.ndarray
    hole: np.ndarray
    unknown: np.ndarray
    context: np.ndarray
    heights: np.ndarray
    scale: float
    floor: float = 0.0
    curve: np.ndarray = field(default_factory=LEVELS.copy)


@dataclass(frozen=True)
class Tissue:
    """The generated tissue on the scan's grid, before the residual.

    Attributes:
        scan_like: float32 (z, y, x), in scan intensities.
        model_like: float32 (z, y, x), in the model's own intensities, those of a T1-weighted scan.
        valid: bool (z, y, x), where both are defined.
        bright: whether lesions are brighter than white matter in the scan.
    """

    scan_like: np.ndarray
    model_like: np.ndarray
    valid: np.ndarray
    bright: bool = False

    def crop(self, box: tuple[slice, ...]) -> Tissue:
        """The part in a box."""
        return Tissue(self.scan_like[box], self.model_like[box], self.valid[box], self.bright)


def cut_slices(
    scan: sitk.Image,
    values: np.ndarray,
    hole: np.ndarray,
    alignment: Alignment,
    template: Template,
    heights: np.ndarray | None = None,
) -> Slices:
    """Every axial slice in model space that the hole touches, and its neighbours above and below.

    Args:
        scan: gives the geometry.
        values: float32 (z, y, x), all finite; values in the hole are ignored.
        hole: bool (z, y, x).
        alignment: of this scan to this template.
        heights: int (n,), cut these slices, which are all that the hole needs and more; None: all that it needs.
    """
    transform = alignment.transform
    scale = intensity_scale(values, alignment.brain & ~hole)
    contrast, curve = alignment.contrast, LEVELS.copy()
    if not contrast.straight:
        scale *= FLATTER
        curve = contrast.values / scale
    lesion = bounding_box(hole, 1)
    ones = like(scan[lesion[::-1]], hole[lesion].astype(np.float32))
    filled = resample(ones, template.image, transform, sitk.sitkLinear) > 0.01
    filled |= _nearest_to_hole(scan, hole, template, transform)
    heights = searched_heights(filled) if heights is None else heights

    span = slice(int(heights[0]), int(heights[-1]) + 1)
    slab, filled = template.image[:, :, span], filled[span]
    box = covered_box(slab, scan, transform.GetInverse(), MARGIN)  # what these slices show
    image, share = to_model_grid(scan[box[::-1]], values[box], ~hole[box], slab, transform)
    image /= scale
    field = _field_of_view(scan, slab, transform)
    unknown = filled | (share < 0.5) & field
    image, unknown, context = mask_unknown(image, unknown, field, template, span, alignment.extracted)
    rows = heights - heights[0]
    return Slices(image[rows], filled[rows], unknown[rows], context[rows], heights, scale, curve=curve)


def to_model_grid(
    scan: sitk.Image, values: np.ndarray, known: np.ndarray, grid: sitk.Image, transform: sitk.Transform
) -> tuple[np.ndarray, np.ndarray]:
    """Resample the known voxels to the model grid by normalised convolution, so that the hole has no influence.

    `grid` is that of the template, or a slab of it. Returns the values (float32) and the known share of each voxel
    (0 to 1), both (z, y, x).
    """
    spacing = grid.GetSpacing()[0]
    sigmas = [0.4 * max(spacing - 0.5 * s, 0.25 * spacing) for s in scan.GetSpacing()]

    def smooth(part: sitk.Image, array: np.ndarray) -> sitk.Image:
        return sitk.SmoothingRecursiveGaussian(like(part, array.astype(np.float32)), sigmas)

    def resampled(image: sitk.Image) -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.Resample(image, grid, transform, sitk.sitkLinear, 0.0))

    known_share = np.ones(known.shape, np.float32)
    if not known.all():
        near = bounding_box(~known, MARGIN)  # the share is 1 elsewhere
        known_share[near] -= sitk.GetArrayFromImage(smooth(scan[near[::-1]], ~known[near]))
    share = resampled(like(scan, known_share))
    total = resampled(smooth(scan, np.where(known, values, 0.0)))
    return np.where(share > 0.1, total / np.maximum(share, 0.1), 0.0).astype(np.float32), share


def mask_unknown(
    image: np.ndarray, unknown: np.ndarray, field: np.ndarray, template: Template, span: slice, extracted: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Set unknown pixels of a slab of the model grid to 0 and find the context.

    Args:
        image: float32 (z, h, w), model intensities.
        unknown: bool (z, h, w), the hole and what the scan does not show.
        field: bool (z, h, w), the scan's field of view.
        span: the heights of the slab.
        extracted: whether the scan shows a brain without the rest of the head.

    Returns `image`, `unknown` and `context` as in Slices, of all heights of the slab, (z, h, w).
    """
    brain, edge = sitk.GetArrayViewFromImage(template.brain)[span] > 0, template.edge[span]
    if extracted:
        context = ~unknown & field & (brain | edge)
    else:
        # In a head, the skull is no part of the model, and the edge of the brain is known only roughly.
        image = np.where(brain | edge, image, 0)
        unknown = unknown | edge
        context = ~unknown & field & brain
    return np.where(unknown, 0, image).astype(np.float32), unknown, context


def searched_heights(hole: np.ndarray) -> np.ndarray:
    """The heights to search, int (n,): slices of a model-space hole, bool (z, h, w), and four neighbours each way."""
    return np.flatnonzero(ndimage.binary_dilation(hole.any(axis=(1, 2)), iterations=NEIGHBOURS))


def to_scan(
    scan: sitk.Image, stack: np.ndarray, slices: Slices, alignment: Alignment, template: Template
) -> np.ndarray:
    """Generated slices on the scan's grid, in scan intensities, float32 (z, y, x).

    Between and beyond the slices the nearest one is repeated, for two of the scan's voxels beyond the outermost ones.

    Args:
        scan: gives the grid.
        stack: float32 (n, h, w), model intensities, at slices.heights.
    """
    return _on_scan(scan, stack * slices.scale + slices.floor, slices, alignment, template, sitk.sitkBSpline)


def slices_on_scan(scan: sitk.Image, slices: Slices, alignment: Alignment, template: Template) -> np.ndarray:
    """Where the slices lie on the scan's grid, bool (z, y, x)."""
    there = np.isin(np.arange(slices.heights[0], slices.heights[-1] + 1), slices.heights)[:, None, None]
    there = np.broadcast_to(there, (len(there), *slices.image.shape[1:])).astype(np.uint8)
    slab = template.image[:, :, int(slices.heights[0]) : int(slices.heights[-1]) + 1]
    return resample_mask(like(slab, there), scan, alignment.transform.GetInverse())


def deviation_to_scan(
    scan: sitk.Image, deviation: np.ndarray, slices: Slices, alignment: Alignment, template: Template
) -> np.ndarray:
    """Standard deviations (n, h, w) of generated slices on the scan's grid, in scan intensities, float32 (z, y, x)."""
    return _on_scan(scan, deviation * slices.scale, slices, alignment, template, sitk.sitkLinear)


def _on_scan(
    scan: sitk.Image, stack: np.ndarray, slices: Slices, alignment: Alignment, template: Template, interpolator: int
) -> np.ndarray:
    """A stack (n, h, w) on the scan's grid, float32 (z, y, x), with the nearest slice where there is none."""
    beyond = int(np.ceil(2 * max(scan.GetSpacing()) / template.image.GetSpacing()[2]))  # thick voxels need as much
    span = np.arange(slices.heights[0] - beyond, slices.heights[-1] + 1 + beyond)
    nearest = np.abs(span[:, None] - slices.heights[None]).argmin(axis=1)
    volume = sitk.GetImageFromArray(stack[nearest].astype(np.float32))
    volume.SetSpacing(template.image.GetSpacing())
    volume.SetDirection(template.image.GetDirection())
    volume.SetOrigin(template.image.TransformIndexToPhysicalPoint((0, 0, int(span[0]))))
    return resample(volume, scan, alignment.transform.GetInverse(), interpolator)


def _nearest_to_hole(
    scan: sitk.Image, hole: np.ndarray, template: Template, transform: sitk.AffineTransform
) -> np.ndarray:
    """The model voxels nearest to the hole's voxels, bool (z, h, w). Even a tiny lesion has at least one."""
    x_y_z = np.argwhere(hole)[:, ::-1]
    to_model = np.linalg.inv(to_matrix(transform) @ affine(template.image)) @ affine(scan)
    indices = np.rint(x_y_z @ to_model[:3, :3].T + to_model[:3, 3]).astype(int)
    indices = indices[((indices >= 0) & (indices < template.image.GetSize())).all(axis=1)]
    nearest = np.zeros(template.image.GetSize()[::-1], bool)
    nearest[tuple(indices.T[::-1])] = True
    return nearest


def _field_of_view(scan: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> np.ndarray:
    """The scan's field of view on a grid in model space, bool (z, h, w): half a voxel beyond the outermost centres."""
    to_scan = np.linalg.inv(affine(scan)) @ to_matrix(transform) @ affine(grid)
    z, y, x = np.ogrid[tuple(slice(length) for length in grid.GetSize()[::-1])]
    inside = np.ones(grid.GetSize()[::-1], bool)
    for (of_x, of_y, of_z, start), length in zip(to_scan[:3], scan.GetSize(), strict=True):
        index = of_x * x + of_y * y + of_z * z + start
        inside &= (index >= -0.5) & (index < length - 0.5)
    return inside
