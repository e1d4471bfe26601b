"""Deformable registration of two scans of one brain, and its error where the deformation is known.

Source: Vercauteren et al. 2007, Non-parametric diffeomorphic image registration with the demons algorithm, MICCAI.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

CONTROL_SPACING = 40.0  # mm between the control points of the known deformation
KNOWN_LENGTH = 4.0  # mm: the mean length of its displacements in the brain, as between two aligned heads
WORKING_SPACING = 2.0  # mm; both scans are resampled to it
SHRINK_FACTORS = (4, 2, 1)  # of the working grid, from coarse to fine
ITERATIONS = 40  # a level
FIELD_SIGMA = 1.0  # voxels of the level: the displacements are smoothed by it after each iteration


def random_deformation(
    scan: sitk.Image, brain: NDArray[np.bool_], seed: int, length: float = KNOWN_LENGTH
) -> sitk.DisplacementFieldTransform:
    """A smooth random deformation: takes a point of the deformed scan to the scan's. The same seed gives the same.

    Args:
        scan: gives the geometry.
        brain: bool (z, y, x).
        length: mean length of its displacements in the brain, mm.
    """
    extent = [n * side for n, side in zip(scan.GetSize(), scan.GetSpacing(), strict=True)]
    spline = sitk.BSplineTransformInitializer(scan, [max(1, round(mm / CONTROL_SPACING)) for mm in extent], order=3)
    spline.SetParameters(np.random.default_rng(seed).standard_normal(spline.GetNumberOfParameters()).tolist())
    field = displacements(spline, scan)
    field *= length / np.linalg.norm(field[brain], axis=-1).mean()
    image = sitk.GetImageFromArray(field, isVector=True)
    image.CopyInformation(scan)
    return sitk.DisplacementFieldTransform(image)


def deformed(scan: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """The scan deformed, float32 on its own grid: each voxel is taken from where the transform takes its centre."""
    return sitk.Resample(sitk.Cast(scan, sitk.sitkFloat32), scan, transform, sitk.sitkLinear, 0.0)


def displacements(transform: sitk.Transform, grid: sitk.Image) -> NDArray[np.float64]:
    """How far the transform moves each voxel of a grid: (z, y, x, 3), mm along x, y, z in LPS."""
    field = sitk.TransformToDisplacementFieldFilter()
    field.SetReferenceImage(grid)
    field.SetOutputPixelType(sitk.sitkVectorFloat64)
    return sitk.GetArrayFromImage(field.Execute(transform))


def register_demons(fixed: sitk.Image, moving: sitk.Image) -> sitk.DisplacementFieldTransform:
    """Demons with symmetric forces, from coarse to fine: takes a point of the fixed scan to the moving scan's.

    The two are of one scanner and aligned but for the deformation. The same input gives the same transform.
    """
    grid = _working_grid(fixed)
    scans = [sitk.Resample(sitk.Cast(scan, sitk.sitkFloat32), grid, sitk.Transform()) for scan in (fixed, moving)]
    field = None
    for factor in SHRINK_FACTORS:
        level = [sitk.BinShrink(scan, [factor] * 3) for scan in scans]
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfThreads(1)  # threads may add up in any order
        demons.SetNumberOfWorkUnits(1)
        demons.SetNumberOfIterations(ITERATIONS)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(FIELD_SIGMA)
        field = demons.Execute(*level, *([] if field is None else [sitk.Resample(field, level[0])]))
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def registration_error(
    found: sitk.Transform, truth: sitk.Transform, grid: sitk.Image, regions: dict[str, NDArray[np.bool_]]
) -> dict[str, float]:
    """Mean distance (mm) of where two transforms take the voxels of each region, bool (z, y, x) on the grid."""
    apart = np.linalg.norm(displacements(found, grid) - displacements(truth, grid), axis=-1)
    return {name: float(apart[region].mean()) for name, region in regions.items()}


def _working_grid(scan: sitk.Image) -> sitk.Image:
    """An empty volume over the scan's, of voxels of about the working spacing; every level divides its size."""
    multiple = max(SHRINK_FACTORS)
    extent = np.array(scan.GetSize()) * scan.GetSpacing()
    size = multiple * np.maximum(1, np.rint(extent / WORKING_SPACING / multiple)).astype(int)
    grid = sitk.Image(size.tolist(), sitk.sitkUInt8)
    grid.SetSpacing((extent / size).tolist())
    grid.SetDirection(scan.GetDirection())
    first = (np.array(grid.GetSpacing()) / scan.GetSpacing() - 1) / 2
    grid.SetOrigin(scan.TransformContinuousIndexToPhysicalPoint(first.tolist()))
    return grid
