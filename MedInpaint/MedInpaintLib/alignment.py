"""Scan <-> model space: an affine transform found by registration, the lesion left out of the metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypeVar

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .errors import InputError
from .image import affine

WORKING_SPACING = 3.0  # mm; both images are shrunk to about this before registration
STARTS = 3  # best starting poses that are followed up
BOUNDARY = 4.5  # mm; in a whole head the brain's edge is known no better than this
Pose = TypeVar("Pose", bound=sitk.Transform)
POOR_QUALITY = 0.6  # correlation with the template; well aligned T1w scans reach 0.75 to 0.95


@dataclass(frozen=True)
class Template:
    """The average brain that defines model space.

    Attributes:
        image: float32, 0 outside the brain, white matter near 0.75; its grid is the model's grid.
        brain: uint8, 1 in the brain, on the same grid.
    """

    image: sitk.Image
    brain: sitk.Image

    @cached_property
    def edge(self) -> np.ndarray:
        """bool (z, h, w): within 4.5 mm of the edge of the brain."""
        near_brain, near_rest = (
            sitk.SignedMaurerDistanceMap(part, squaredDistance=False, useImageSpacing=True) <= BOUNDARY
            for part in (self.brain, 1 - self.brain)
        )
        return sitk.GetArrayFromImage(near_brain & near_rest) > 0

    @property
    def support(self) -> np.ndarray:
        """bool (h, w): the pixels where some slice of some brain may have tissue."""
        return ((sitk.GetArrayViewFromImage(self.brain) > 0) | self.edge).any(axis=0)


@dataclass(frozen=True)
class Alignment:
    """Where a scan lies in model space.

    Attributes:
        transform: affine; takes a template point to the scan's point (mm, LPS).
        brain: bool (z, y, x) on the scan's grid: the template's brain carried over; for a brain-extracted
            scan cut to its non-zero voxels.
        quality: Pearson correlation of the scan with the template in the known brain, -1 to 1.
        extracted: True if the scan has no head outside the brain.
    """

    transform: sitk.AffineTransform
    brain: np.ndarray
    quality: float
    extracted: bool

    @property
    def poor(self) -> bool:
        """True if the result should not be trusted without a look."""
        return self.quality < POOR_QUALITY


def align(scan: sitk.Image, values: np.ndarray, hole: np.ndarray, template: Template) -> Alignment:
    """Register the template to a scan: similarity, then affine, by Mattes mutual information.

    Args:
        scan: gives the geometry.
        values: float32 (z, y, x), the scan's voxels, all finite.
        hole: bool (z, y, x), left out of the metric.
        template: the model's template.

    Raises InputError if there is too little known tissue, or too few slices, to register.

    Source: Mattes et al., IEEE Trans. Med. Imaging 22(1), 2003.
    """
    moving, known = _shrink(scan, values, hole)
    extracted = is_brain_extracted(values, hole)
    try:
        transform = register(template, moving, known, extracted)
        if extracted and not _empty_around_brain(moving, template, transform):
            extracted = False  # a cropped head on zeros looked like a brain
            transform = register(template, moving, known, extracted)
    except RuntimeError as error:  # ITK found nothing to compare
        raise InputError(
            "The scan cannot be aligned with the model: check that it shows a brain, of which the mask leaves most."
        ) from error
    brain = carry(template.brain, scan, transform.GetInverse())
    if extracted:
        brain &= ndimage.binary_fill_holes((values != 0) | hole)
    return Alignment(transform, brain, _correlation(template, moving, known, transform), extracted)


def carry(mask: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> np.ndarray:
    """A binary image on another grid: bool (z, y, x). The transform takes the grid's points to the mask's."""
    return resampled(sitk.Cast(mask, sitk.sitkFloat32), grid, transform, sitk.sitkLinear) >= 0.5


def resampled(image: sitk.Image, grid: sitk.Image, transform: sitk.Transform, interpolator: int) -> np.ndarray:
    """An image on another grid (z, y, x), 0 where that lies beyond it; time grows with the part that does not.

    The transform, affine, takes the grid's points to the image's.
    """
    result = np.zeros(grid.GetSize()[::-1], sitk.GetArrayViewFromImage(image).dtype)
    box = covered(image, grid, transform)
    if all(side.start < side.stop for side in box):
        part = sitk.Resample(image, grid[box[::-1]], transform, interpolator, 0.0)
        result[box] = sitk.GetArrayViewFromImage(part)  # a view does not keep its image alive
    return result


def covered(image: sitk.Image, grid: sitk.Image, transform: sitk.Transform, margin: int = 0) -> tuple[slice, ...]:
    """The box (z, y, x) of a grid's voxels that holds an image, its voxels whole, and a margin in the grid's voxels.

    The transform, affine, takes the grid's points to the image's.
    """
    sides = [(-0.5, length - 0.5) for length in image.GetSize()]
    to_grid = np.linalg.inv(to_matrix(transform) @ affine(grid)) @ affine(image)
    corners = np.array([(*corner, 1.0) for corner in product(*sides)]) @ to_grid.T
    low, high = np.floor(corners.min(axis=0)) - margin, np.ceil(corners.max(axis=0)) + 1 + margin
    spans = zip(low[:3], high[:3], grid.GetSize(), strict=True)
    return tuple(slice(int(np.clip(a, 0, length)), int(np.clip(b, 0, length))) for a, b, length in spans)[::-1]


def to_matrix(transform: sitk.Transform) -> np.ndarray:
    """An affine transform as a 4 x 4 homogeneous matrix (mm)."""
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    matrix[:3, :3] = np.array([transform.TransformPoint(axis) for axis in np.eye(3).tolist()]).T - matrix[:3, 3:]
    return matrix


def is_brain_extracted(values: np.ndarray, hole: np.ndarray) -> bool:
    """True if over 30 % of the volume is exactly zero, and over 70 % of its faces; the hole does not count."""
    empty = (values == 0) & ~hole
    faces = np.concatenate([np.take(empty, side, axis).ravel() for axis in range(3) for side in (0, -1)])
    return bool(empty.mean() > 0.3 and faces.mean() > 0.7)


def register(template: Template, moving: sitk.Image, known: sitk.Image, extracted: bool) -> sitk.AffineTransform:
    """Template -> scan, on shrunk images. Starts from the best of several poses, so that tilted or cut heads do."""
    # Beyond the brain the template is zero: right for a brain-extracted scan; in a head only true of the dark
    # rim of skull and fluid, so the metric sees one voxel of it.
    margin = 3 if extracted else 1
    fixed = _to_spacing(template.image, WORKING_SPACING)
    coarse = _to_spacing(template.image, 2 * WORKING_SPACING)
    region = sitk.GetArrayFromImage(_region(template, coarse, margin)) > 0
    brain = sitk.GetArrayViewFromImage(coarse)
    method = _method(_region(template, fixed, margin), known)
    smooth = sitk.SmoothingRecursiveGaussian(moving, WORKING_SPACING)
    lesion = 1 - known

    def cost(pose: sitk.Transform) -> float:
        scan = sitk.GetArrayFromImage(sitk.Resample(smooth, coarse, pose, sitk.sitkLinear, 0.0))
        seen = region & ~carry(lesion, coarse, pose)
        return -mutual_information(brain[seen], scan[seen])

    def optimised(pose: Pose, levels: Sequence[tuple[int, float]]) -> Pose:
        method.SetShrinkFactorsPerLevel([factor for factor, _ in levels])
        method.SetSmoothingSigmasPerLevel([sigma for _, sigma in levels])
        method.SetInitialTransform(pose, inPlace=True)
        method.Execute(fixed, moving)
        return pose

    centre = _physical_centre(sitk.GetArrayViewFromImage(template.brain) > 0, template.brain)
    starts = sorted(_starting_poses(moving, centre, extracted), key=cost)[:STARTS]
    similarity = min((optimised(pose, [(2, 2.0)]) for pose in starts), key=cost)
    transform = sitk.AffineTransform(3)
    transform.SetCenter(centre)
    transform.SetMatrix(similarity.GetMatrix())
    transform.SetTranslation(similarity.GetTranslation())
    return optimised(transform, [(2, 1.0), (1, 0.0)])


def mutual_information(a: np.ndarray, b: np.ndarray, bins: int = 24) -> float:
    """Mutual information of two samples of intensities from 0 to 1, nats; 0 of none."""
    if not len(a):
        return 0.0
    joint = np.histogram2d(a, b, bins, [[0, 1], [0, 1]])[0] / len(a)
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / apart[joint > 0])).sum())


def _method(region: sitk.Image, known: sitk.Image) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(region)
    method.SetMetricMovingMask(known)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.5, seed=1)  # the default seed is the clock
    method.SetNumberOfThreads(1)  # threads add up in any order, so that two runs would differ in the last digits
    method.SetNumberOfWorkUnits(1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=0.02, numberOfIterations=60, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _region(template: Template, grid: sitk.Image, margin: int) -> sitk.Image:
    """The template's brain on a grid, grown by a margin in voxels of it."""
    brain = sitk.Resample(template.brain, grid, sitk.Transform(), sitk.sitkNearestNeighbor)
    return sitk.BinaryDilate(brain, [margin] * 3)


def _starting_poses(moving: sitk.Image, centre, extracted: bool) -> list[sitk.Similarity3DTransform]:
    """Poses that cover usual head tilts and, for a head, how far its centre lies below the brain's."""
    array = sitk.GetArrayViewFromImage(moving)
    foreground = array > (0 if extracted else 0.25 * np.percentile(array, 99))
    target = np.array(_physical_centre(foreground, moving))
    heights = (0.0,) if extracted else (-20.0, 0.0, 20.0, 40.0, 60.0)
    depths = (0.0,) if extracted else (-15.0, 0.0, 15.0)
    poses = []
    for pitch, up, back in product((-20, -10, 0, 10, 20), heights, depths):
        pose = sitk.Similarity3DTransform()
        pose.SetCenter(centre)
        pose.SetRotation([1.0, 0.0, 0.0], np.deg2rad(pitch))
        pose.SetTranslation((target - centre + np.array([0.0, back, up])).tolist())
        poses.append(pose)
    return poses


def _shrink(scan: sitk.Image, values: np.ndarray, hole: np.ndarray) -> tuple[sitk.Image, sitk.Image]:
    """The scan at about the working spacing, and its known voxels as a mask.

    Intensities go from 0 to 1, bright outliers clipped; the hole is given the tissue's median, so that nothing that
    is in it has a say.
    """
    tissue = values[(values > 0) & ~hole]
    if not tissue.size:
        raise InputError("The mask leaves nothing of the brain to go by: mark the lesion only.")
    middle, bright = np.percentile(tissue, (50, 99.5), overwrite_input=True)
    del tissue
    factors = [max(1, round(WORKING_SPACING / spacing)) for spacing in scan.GetSpacing()]
    # Smoothing asks for four voxels along every axis.
    if any(length < 4 * factor for length, factor in zip(scan.GetSize(), factors, strict=True)):
        raise InputError("The scan is too thin to align with the model: give one of 15 mm or more along every axis.")

    def shrunk(array):
        image = sitk.GetImageFromArray(array)
        image.CopyInformation(scan)
        return sitk.BinShrink(image, factors)

    known = shrunk((~hole).astype(np.float32)) > 0.5
    clipped = values.copy()
    clipped[hole] = middle
    np.clip(clipped, 0, bright, out=clipped)
    clipped /= bright
    return shrunk(clipped), sitk.Cast(known, sitk.sitkUInt8)


def _to_spacing(image: sitk.Image, spacing: float) -> sitk.Image:
    return sitk.BinShrink(image, [max(1, round(spacing / s)) for s in image.GetSpacing()])


def _physical_centre(mask: np.ndarray, image: sitk.Image) -> tuple[float, float, float]:
    z, y, x = ndimage.center_of_mass(mask)
    return image.TransformContinuousIndexToPhysicalPoint([float(x), float(y), float(z)])


def _on_template(moving, known, template, transform):
    """Shrunk scan and its known voxels on a 3 mm template grid."""
    grid = _to_spacing(template.image, WORKING_SPACING)
    scan = sitk.Resample(moving, grid, transform, sitk.sitkLinear, 0.0)
    inside = sitk.Resample(known, grid, transform, sitk.sitkNearestNeighbor, 0)
    brain = sitk.Resample(template.brain, grid, sitk.Transform(), sitk.sitkNearestNeighbor)
    return (sitk.GetArrayFromImage(image) for image in (grid, scan, inside, brain))


def _correlation(template, moving, known, transform) -> float:
    grid, scan, inside, brain = _on_template(moving, known, template, transform)
    chosen = (brain > 0) & (inside > 0)
    if chosen.sum() < 100 or scan[chosen].std() == 0:
        return 0.0
    return float(np.corrcoef(grid[chosen], scan[chosen])[0, 1])


def _empty_around_brain(moving, template, transform) -> bool:
    """True if there is next to nothing from 9 to 18 mm outside the brain."""
    known = sitk.Cast(moving * 0 + 1, sitk.sitkUInt8)
    _, scan, inside, brain = _on_template(moving, known, template, transform)
    near = ndimage.distance_transform_edt(brain == 0, sampling=WORKING_SPACING)
    shell = (near > 9) & (near < 18) & (inside > 0)
    return not shell.any() or float((scan[shell] > 0.05).mean()) < 0.25
