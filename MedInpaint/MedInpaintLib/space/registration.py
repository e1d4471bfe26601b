"""Registration of the template to a scan, and of two scans of a head, on shrunk images and without the hole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import InputError
from ..volumes.image import like
from .resampling import resample_mask
from .template import Template

WORKING_SPACING = 3.0  # mm; both images are shrunk to about this before registration
STARTS = 3  # the best starting poses, which are optimised
FEW, MANY = 0.25, 0.5  # share of the voxels that the metric samples, for a rigid and an affine transform
Pose = TypeVar("Pose", bound=sitk.Transform)


@dataclass(frozen=True)
class Shrunk:
    """A scan at about the working spacing.

    Attributes:
        image: the scan, intensities 0 to 1.
        known: its known voxels, uint8.
        bright: the scan's intensity that became 1, the 99.5th percentile of the tissue.
    """

    image: sitk.Image
    known: sitk.Image
    bright: float


def register(template: Template, scan: Shrunk, extracted: bool) -> sitk.AffineTransform:
    """The affine transform from the template to a scan.

    The search starts from the best of several poses, so that tilted and cropped heads are found, too. `extracted` is
    true for a brain without the rest of the head. Raises ITK's RuntimeError if there is too little to compare.
    """
    # The template is zero outside the brain. So is a brain-extracted scan. In a head this is true only of the dark
    # rim of skull and fluid, so that the metric sees a margin of one voxel.
    margin = 3 if extracted else 1
    fixed = shrink_to_spacing(template.image, WORKING_SPACING)
    coarse = shrink_to_spacing(template.image, 2 * WORKING_SPACING)
    region = sitk.GetArrayFromImage(_dilated_brain(template, coarse, margin)) > 0
    method = _method(_dilated_brain(template, fixed, margin), scan.known, MANY)
    cost = _disagreement(coarse, region, scan)

    def optimise(pose: Pose, levels: Sequence[tuple[int, float]]) -> Pose:
        method.SetShrinkFactorsPerLevel([factor for factor, _ in levels])
        method.SetSmoothingSigmasPerLevel([sigma for _, sigma in levels])
        method.SetInitialTransform(pose, inPlace=True)
        method.Execute(fixed, scan.image)
        return pose

    centre = _physical_centre(sitk.GetArrayViewFromImage(template.brain) > 0, template.brain)
    starts = sorted(_starting_poses(scan.image, centre, extracted), key=cost)[:STARTS]
    similarity = min((optimise(pose, [(2, 2.0)]) for pose in starts), key=cost)
    transform = sitk.AffineTransform(3)
    transform.SetCenter(centre)
    transform.SetMatrix(similarity.GetMatrix())
    transform.SetTranslation(similarity.GetTranslation())
    return optimise(transform, [(2, 1.0), (1, 0.0)])


def register_rigidly(fixed: sitk.Image, region: np.ndarray, scan: Shrunk) -> sitk.Euler3DTransform:
    """The rigid transform from the points of a scan to those of another scan of the same head, of any contrast.

    The search starts from the headers, and from several poses with the same centre, whichever agrees best. Raises ITK's
    RuntimeError if there is too little to compare.

    Args:
        fixed: the first scan, shrunk.
        region: bool (z, y, x), the known brain on the grid of `fixed`.
        scan: the other scan.
    """
    mask = like(fixed, region.astype(np.uint8))
    centre = _physical_centre(region, fixed)
    foreground = sitk.GetArrayViewFromImage(scan.image) > 0.1
    shift = np.subtract(_physical_centre(foreground, scan.image), centre) if foreground.any() else np.zeros(3)
    poses = [sitk.Euler3DTransform(centre)]
    poses += [sitk.Euler3DTransform(centre, np.deg2rad(pitch), 0, 0, shift.tolist()) for pitch in (-20, -10, 0, 10, 20)]
    method = _method(mask, scan.known, FEW)
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 0.0])
    coarse = shrink_to_spacing(fixed, 2 * WORKING_SPACING)
    pose = min(poses, key=_disagreement(coarse, resample_mask(mask, coarse, sitk.Transform()), scan))
    method.SetInitialTransform(pose, inPlace=True)
    method.Execute(fixed, scan.image)
    return pose


def _disagreement(fixed: sitk.Image, region: np.ndarray, scan: Shrunk) -> Callable[[sitk.Transform], float]:
    """A function of a pose: the negative mutual information of the two images in the region, without the hole."""
    values = sitk.GetArrayViewFromImage(fixed)
    smooth = sitk.SmoothingRecursiveGaussian(scan.image, WORKING_SPACING)
    hole = 1 - scan.known

    def cost(pose: sitk.Transform) -> float:
        others = sitk.GetArrayFromImage(sitk.Resample(smooth, fixed, pose, sitk.sitkLinear, 0.0))
        compared = region & ~resample_mask(hole, fixed, pose)
        return -mutual_information(values[compared], others[compared])

    return cost


def mutual_information(a: np.ndarray, b: np.ndarray, bins: int = 24) -> float:
    """Mutual information (nats) of two samples of intensities from 0 to 1; 0 if they are empty."""
    if not len(a):
        return 0.0
    joint = np.histogram2d(a, b, bins, [[0, 1], [0, 1]])[0] / len(a)
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / independent[joint > 0])).sum())


def shrink_scan(scan: sitk.Image, values: np.ndarray, hole: np.ndarray) -> Shrunk:
    """The scan at about the working spacing.

    Bright outliers are clipped. The hole gets the median of the tissue, so that its content has no influence. Raises
    InputError if the mask covers all tissue or the scan is too thin.
    """
    middle, bright = _middle_and_bright_end(values, hole)
    factors = [max(1, round(WORKING_SPACING / spacing)) for spacing in scan.GetSpacing()]
    # The smoothing filter needs four voxels along every axis.
    if any(length < 4 * factor for length, factor in zip(scan.GetSize(), factors, strict=True)):
        raise InputError("The scan is too thin to align with the model: give one of 15 mm or more along every axis.")

    known = sitk.BinShrink(like(scan, (~hole).astype(np.float32)), factors) > 0.5
    clipped = values.copy()
    clipped[hole] = middle
    np.clip(clipped, 0, bright, out=clipped)
    clipped /= bright
    return Shrunk(sitk.BinShrink(like(scan, clipped), factors), sitk.Cast(known, sitk.sitkUInt8), bright)


def _middle_and_bright_end(values: np.ndarray, hole: np.ndarray) -> tuple[float, float]:
    tissue = values[(values > 0) & ~hole]
    if not tissue.size:
        raise InputError("The mask covers all tissue of the scan: mark the lesion only.")
    middle, bright = np.percentile(tissue, (50, 99.5), overwrite_input=True)
    return float(middle), float(bright)


def shrink_to_spacing(image: sitk.Image, spacing: float) -> sitk.Image:
    """The image averaged over blocks of whole voxels, so that its spacing becomes about this one (mm)."""
    return sitk.BinShrink(image, [max(1, round(spacing / s)) for s in image.GetSpacing()])


def _dilated_brain(template: Template, grid: sitk.Image, margin: int) -> sitk.Image:
    """The template's brain on a grid, dilated by a margin in voxels of the grid."""
    brain = sitk.Resample(template.brain, grid, sitk.Transform(), sitk.sitkNearestNeighbor)
    return sitk.BinaryDilate(brain, [margin] * 3)


def _method(region: sitk.Image, known: sitk.Image, share: float) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(region)
    method.SetMetricMovingMask(known)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(share, seed=1)  # the default seed is the clock
    method.SetNumberOfThreads(1)  # several threads add in random order, and two runs differ in the last digits
    method.SetNumberOfWorkUnits(1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=0.02, numberOfIterations=60, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _starting_poses(
    moving: sitk.Image, centre: tuple[float, float, float], extracted: bool
) -> list[sitk.Similarity3DTransform]:
    """Poses for the usual tilts of a head and, in a whole head, for the distance from its centre to the brain's."""
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


def _physical_centre(mask: np.ndarray, image: sitk.Image) -> tuple[float, float, float]:
    z, y, x = ndimage.center_of_mass(mask)
    return image.TransformContinuousIndexToPhysicalPoint([float(x), float(y), float(z)])
