"""The average brain that defines model space. Scans are registered and averaged three times, left-right symmetric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import linalg, ndimage

from ...space.alignment import align
from ...space.intensities import intensity_scale
from ...space.resampling import to_matrix, to_transform
from ...space.template import Template

SIZE = (96, 128, 104)  # x, y, z
SPACING = 1.5  # mm


def model_grid() -> sitk.Image:
    """The empty model grid: its centre is the origin, its axes are left, posterior, superior."""
    grid = sitk.Image(SIZE, sitk.sitkFloat32)
    grid.SetSpacing([SPACING] * 3)
    grid.SetOrigin([-(n - 1) * SPACING / 2 for n in SIZE])
    return grid


def build_template(paths: Sequence[Path], map_: Callable = map) -> Template:
    """Average brain-extracted T1w scans into a template.

    Args:
        paths: the training scans.
        map_: applies the registration to all scans, for example the map of a process pool.
    """
    template = _average([_centred(paths[len(paths) // 2])])
    for scans in (paths[::4], paths, paths):
        fits = list(map_(_register, [(path, template) for path in scans]))
        template = _average([(path, _common(matrix, fits)) for path, matrix in zip(scans, fits, strict=True)])
    return template


def _register(task: tuple[Path, Template]) -> np.ndarray:
    """The 4 x 4 matrix (mm) from the template to a scan."""
    path, template = task
    scan = sitk.ReadImage(str(path), sitk.sitkFloat32)
    values = sitk.GetArrayFromImage(scan)
    return to_matrix(align(scan, values, np.zeros(values.shape, bool), template).transform)


def _centred(path: Path) -> tuple[Path, np.ndarray]:
    """A scan and the translation that moves its centre of mass to the origin of model space, a 4 x 4 matrix."""
    scan = sitk.ReadImage(str(path))
    z, y, x = ndimage.center_of_mass(sitk.GetArrayViewFromImage(scan) > 0)
    matrix = np.eye(4)
    matrix[:3, 3] = scan.TransformContinuousIndexToPhysicalPoint([float(x), float(y), float(z)])
    return path, matrix


def _common(matrix: np.ndarray, fits: list[np.ndarray]) -> np.ndarray:
    """A fit relative to the mean pose and size of all fits, so that no single brain determines them."""
    mean = np.mean(fits, axis=0)
    mean[:3, 3] = 0
    return matrix @ np.linalg.inv(mean)


def _average(scans: list[tuple[Path, np.ndarray]]) -> Template:
    """The mean of scans, given with their matrices, on the model grid."""
    grid = model_grid()
    total = np.zeros(SIZE[::-1])
    share = np.zeros(SIZE[::-1])
    for path, matrix in scans:
        scan = sitk.ReadImage(str(path), sitk.sitkFloat32)
        values = sitk.GetArrayFromImage(scan)
        image = scan / intensity_scale(values, values > 0)
        transform = to_transform(matrix)
        total += sitk.GetArrayFromImage(sitk.Resample(image, grid, transform, sitk.sitkLinear, 0.0))
        share += sitk.GetArrayFromImage(
            sitk.Resample(sitk.Cast(scan > 0, sitk.sitkFloat32), grid, transform, sitk.sitkLinear, 0.0)
        )
    average, share = total / len(scans), share / len(scans)
    if len(scans) > 1:
        average, share = _symmetric(average, share)
    # The brain is moved to the centre, so that it fits into the grid.
    brain = ndimage.binary_fill_holes(share > 0.5)
    shift = np.round(ndimage.center_of_mass(brain) - (np.array(brain.shape) - 1) / 2).astype(int)
    shift[2] = 0 if len(scans) > 1 else shift[2]
    average, brain = (np.roll(array, -shift, (0, 1, 2)) for array in (np.where(brain, average, 0), brain))
    images = [sitk.GetImageFromArray(array) for array in (average.astype(np.float32), brain.astype(np.uint8))]
    for image in images:
        image.CopyInformation(grid)
    return Template(*images)


def _symmetric(average: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotate the midplane of the brain to the plane x = 0 of the grid, then average with the mirror image."""
    mirror = np.diag([-1.0, 1, 1, 1])
    image = sitk.GetImageFromArray(average.astype(np.float32))
    image.CopyInformation(model_grid())
    brain = sitk.Cast(image > 0.05, sitk.sitkUInt8)
    flipped = np.ascontiguousarray(average[..., ::-1])
    fit = align(image, flipped.astype(np.float32), np.zeros(average.shape, bool), Template(image, brain))
    # fit = M^-1 maps the brain to its mirror image; its square root maps half of the way, to the midplane.
    half = np.real(linalg.sqrtm(to_matrix(fit.transform)))
    half = mirror @ half @ mirror
    rotation, _ = linalg.polar(half[:3, :3])
    half[:3, :3] = rotation
    symmetric = []
    for array in (average, share):
        source = sitk.GetImageFromArray(array.astype(np.float32))
        source.CopyInformation(image)
        result = sitk.GetArrayFromImage(sitk.Resample(source, image, to_transform(half), sitk.sitkLinear, 0.0))
        symmetric.append((result + result[..., ::-1]) / 2)
    return symmetric[0], symmetric[1]
