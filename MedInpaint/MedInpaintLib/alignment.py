"""Scan <-> model space: an affine transform found by registration, the lesion left out of the metric."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

WORKING_SPACING = 3.0  # mm; both images are shrunk to about this before registration
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

    Source: Mattes et al., IEEE Trans. Med. Imaging 22(1), 2003.
    """
    moving, known = _shrink(scan, values, hole)
    extracted = is_brain_extracted(values)
    transform = register(template, moving, known, extracted)
    if extracted and not _empty_around_brain(moving, template, transform):
        extracted = False  # a cropped head on zeros looked like a brain
        transform = register(template, moving, known, extracted)
    brain = carry(template.brain, scan, transform.GetInverse())
    if extracted:
        brain &= ndimage.binary_fill_holes((values != 0) | hole)
    return Alignment(transform, brain, _correlation(template, moving, known, transform), extracted)


def carry(mask: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> np.ndarray:
    """A binary image on another grid: bool (z, y, x). The transform takes the grid's points to the mask's."""
    share = sitk.Resample(sitk.Cast(mask, sitk.sitkFloat32), grid, transform, sitk.sitkLinear, 0.0)
    return sitk.GetArrayViewFromImage(share) >= 0.5


def is_brain_extracted(values: np.ndarray) -> bool:
    """True if over 30 % of the border-connected volume is exactly zero, and so are all but a tenth of its faces."""
    faces = np.concatenate([np.take(values, side, axis).ravel() for axis in range(3) for side in (0, -1)])
    return bool((values == 0).mean() > 0.3 and (faces != 0).mean() < 0.1)


def register(
    template: Template, moving: sitk.Image, known: sitk.Image, extracted: bool, affine: bool = True
) -> sitk.AffineTransform:
    """Template -> scan, on shrunk images. Starts from the best of several poses, so that tilted or cut heads do."""
    fixed = _to_spacing(template.image, WORKING_SPACING)
    # Beyond the brain the template is zero: right for a brain-extracted scan; in a head only true of the dark
    # rim of skull and fluid, so the metric sees one voxel of it.
    region = sitk.BinaryDilate(
        sitk.Resample(template.brain, fixed, sitk.Transform(), sitk.sitkNearestNeighbor), [3 if extracted else 1] * 3
    )
    centre = _centre_of_mass(template.brain)
    poses = _starting_poses(moving, centre, extracted)
    coarse = _method(region, known, levels=((2, 2.0),))
    coarse_fixed = fixed
    ranked = sorted(poses, key=lambda pose: _metric(coarse, coarse_fixed, moving, pose))[:3]
    candidates = []
    for pose in ranked:
        method = _method(region, known, levels=((2, 2.0),), iterations=40)
        candidates.append((method, _run(method, fixed, moving, pose)))
    best = min(candidates, key=lambda pair: _metric(coarse, fixed, moving, pair[1]))[1]
    result = sitk.AffineTransform(3)
    result.SetCenter(centre)
    result.SetMatrix(best.GetMatrix())
    result.SetTranslation(best.GetTranslation())
    if affine:
        method = _method(region, known, levels=((2, 1.0), (1, 0.0)), iterations=60)
        result = sitk.AffineTransform(_run(method, fixed, moving, result))
    return result


def _run(method, fixed, moving, transform):
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    return transform


def _metric(method, fixed, moving, transform) -> float:
    method.SetInitialTransform(transform, inPlace=False)
    try:
        return method.MetricEvaluate(fixed, moving)
    except RuntimeError:  # no overlap
        return np.inf


def _method(region, known, levels, iterations=1) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(region)
    method.SetMetricMovingMask(known)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.5)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=0.02, numberOfIterations=iterations, relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-6,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([factor for factor, _ in levels])
    method.SetSmoothingSigmasPerLevel([sigma for _, sigma in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    return method


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
        pose.SetTranslation((target + [0.0, back, up] - centre).tolist())
        poses.append(pose)
    return poses


def _shrink(scan: sitk.Image, values: np.ndarray, hole: np.ndarray) -> tuple[sitk.Image, sitk.Image]:
    """The scan at about the working spacing, bright outliers clipped, and the known voxels as a mask."""
    bright = np.percentile(values[values > 0], 99.5) if (values > 0).any() else 1.0
    clipped = np.clip(values, None, bright) / bright
    factors = [max(1, round(WORKING_SPACING / spacing)) for spacing in scan.GetSpacing()]

    def shrunk(array):
        image = sitk.GetImageFromArray(array)
        image.CopyInformation(scan)
        return sitk.BinShrink(image, factors)

    known = shrunk((~hole).astype(np.float32)) > 0.5
    return shrunk(clipped.astype(np.float32)), sitk.Cast(known, sitk.sitkUInt8)


def _to_spacing(image: sitk.Image, spacing: float) -> sitk.Image:
    return sitk.BinShrink(image, [max(1, round(spacing / s)) for s in image.GetSpacing()])


def _physical_centre(mask: np.ndarray, image: sitk.Image) -> tuple[float, float, float]:
    z, y, x = ndimage.center_of_mass(mask)
    return image.TransformContinuousIndexToPhysicalPoint([float(x), float(y), float(z)])


def _centre_of_mass(mask: sitk.Image) -> tuple[float, float, float]:
    return _physical_centre(sitk.GetArrayViewFromImage(mask) > 0, mask)


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
