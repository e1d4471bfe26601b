"""Deformable registration of two scans of a brain, and its error if the deformation is known.

Source: Vercauteren et al. 2007, Non-parametric diffeomorphic image registration with the demons algorithm, MICCAI.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

CONTROL_SPACING = 40.0  # mm between the control points of the known deformation
KNOWN_LENGTH = 4.0  # mm: mean length of its displacements in the brain, as between two aligned heads
WORKING_SPACING = 2.0  # mm; both scans are resampled to it
SHRINK_FACTORS = (4, 2, 1)  # of the working grid: levels from coarse to fine
ITERATIONS = 40  # a level
FIELD_SIGMA = 1.0  # voxels of the level: smooths the displacements after each iteration


def random_deformation(
    scan: sitk.Image, brain: NDArray[np.bool_], seed: int, length: float = KNOWN_LENGTH
) -> sitk.DisplacementFieldTransform:
    """A smooth random deformation, which maps a point of the deformed scan to a point of the scan.

    Args:
        scan: the geometry.
        brain: bool (z, y, x).
        seed: the same seed gives the same deformation.
        length: mean length of the displacements in the brain, mm.
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
    """The deformed scan, float32 on the same grid. The transform maps its points to points of the scan."""
    return sitk.Resample(sitk.Cast(scan, sitk.sitkFloat32), scan, transform, sitk.sitkLinear, 0.0)


def displacements(transform: sitk.Transform, grid: sitk.Image) -> NDArray[np.float64]:
    """The displacement of each voxel of a grid: (z, y, x, 3), mm along x, y, z in LPS."""
    field = sitk.TransformToDisplacementFieldFilter()
    field.SetReferenceImage(grid)
    field.SetOutputPixelType(sitk.sitkVectorFloat64)
    return sitk.GetArrayFromImage(field.Execute(transform))


def register_demons(fixed: sitk.Image, moving: sitk.Image) -> sitk.DisplacementFieldTransform:
    """Demons with symmetric forces, from coarse to fine. The result maps a point of the fixed scan to the moving scan.

    Both scans are of the same scanner and differ only by the deformation. The same input gives the same transform.
    """
    grid = _working_grid(fixed)
    scans = [sitk.Resample(sitk.Cast(scan, sitk.sitkFloat32), grid, sitk.Transform()) for scan in (fixed, moving)]
    field = None
    for factor in SHRINK_FACTORS:
        level = [sitk.BinShrink(scan, [factor] * 3) for scan in scans]
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfThreads(1)  # threads add in any order, so two runs would differ
        demons.SetNumberOfWorkUnits(1)
        demons.SetNumberOfIterations(ITERATIONS)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(FIELD_SIGMA)
        field = demons.Execute(*level, *([] if field is None else [sitk.Resample(field, level[0])]))
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def registration_error(
    found: sitk.Transform, truth: sitk.Transform, grid: sitk.Image, regions: dict[str, NDArray[np.bool_]]
) -> dict[str, float]:
    """Mean distance (mm) between the points of two transforms, over the voxels of each region, bool (z, y, x)."""
    distance = np.linalg.norm(displacements(found, grid) - displacements(truth, grid), axis=-1)
    return {name: float(distance[region].mean()) for name, region in regions.items()}


def _working_grid(scan: sitk.Image) -> sitk.Image:
    """An empty volume over the scan with about the working spacing. The shrink factors divide its size."""
    multiple = max(SHRINK_FACTORS)
    extent = np.array(scan.GetSize()) * scan.GetSpacing()
    size = multiple * np.maximum(1, np.rint(extent / WORKING_SPACING / multiple)).astype(int)
    grid = sitk.Image(size.tolist(), sitk.sitkUInt8)
    grid.SetSpacing((extent / size).tolist())
    grid.SetDirection(scan.GetDirection())
    first = (np.array(grid.GetSpacing()) / scan.GetSpacing() - 1) / 2
    grid.SetOrigin(scan.TransformContinuousIndexToPhysicalPoint(first.tolist()))
    return grid
