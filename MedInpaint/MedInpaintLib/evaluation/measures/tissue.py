"""Tissue classes of a T1-weighted brain: a Gaussian mixture with a Markov random field, as in segmentation tools.

Source: Zhang, Brady, Smith 2001, Segmentation of brain MR images through a hidden Markov random field model and the
expectation-maximization algorithm, IEEE TMI 20(1). There is no model of partial volumes. The bias field is found by N4:
Tustison et al. 2010, N4ITK: improved N3 bias correction, IEEE TMI 29(6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from ...errors import InputError
from ...volumes.image import like, scan_values
from ...volumes.mask import bounding_box

CSF, GM, WM = 1, 2, 3  # labels, by rising intensity in T1-weighted scans; 0 is outside the brain
TISSUES = {"CSF": CSF, "GM": GM, "WM": WM}
NEIGHBOUR_WEIGHT = 0.5  # beta: each face neighbour of the same class adds this to the log probability
ROUNDS = 15  # a fixed number, because EM keeps changing slowly and all versions of a scan should be comparable
FIELD_SPACING = 4.0  # mm; a bias field is smooth
FIELD_ITERATIONS = (30, 30, 30)  # at most, from coarse to fine
LEVELS = (0.1, 0.45, 0.85)  # quantiles of the brain's intensities: the first means of the classes


@dataclass(frozen=True)
class Tissue:
    """A classified brain.

    Attributes:
        labels: uint8 (z, y, x): CSF, GM, WM, and 0 outside the brain.
        means: float (3,), of CSF, GM and WM, in the scan's intensities.
    """

    labels: NDArray[np.uint8]
    means: NDArray[np.float64]

    def shares(self, region: NDArray[np.bool_]) -> dict[str, float]:
        """Share of each class among the voxels of a region of the brain, by its name."""
        return {name: float((self.labels[region] == label).mean()) for name, label in TISSUES.items()}

    def volumes(self, voxel_ml: float) -> dict[str, float]:
        """Volume of each class (ml), by its name."""
        return {name: float(np.count_nonzero(self.labels == label) * voxel_ml) for name, label in TISSUES.items()}


def classify(
    values: NDArray[np.floating], brain: NDArray[np.bool_], neighbour_weight: float = NEIGHBOUR_WEIGHT
) -> Tissue:
    """CSF, GM or WM for every voxel of the brain, by HMRF-EM; the same input gives the same classes.

    Each round is one pass of iterated conditional modes, first over every other voxel, then over the rest, and one
    update of the means and variances of the classes from the probabilities given the face neighbours.

    Args:
        values: (z, y, x), T1-weighted intensities.
        brain: bool (z, y, x).
        neighbour_weight: of the Potts prior; 0 gives a plain Gaussian mixture.

    Raises InputError if the brain has not three different intensities.
    """
    box = _box(brain)
    inside = np.pad(brain[box], 1)  # with a border of class 0, every voxel has six neighbours
    image = np.pad(np.asarray(values[box], np.float32), 1)
    known = image[inside]
    means = np.quantile(known.astype(np.float64), LEVELS)
    if not (np.diff(means) > 0).all():
        raise InputError("The scan's brain does not show three tissues: check that it is T1-weighted, and its mask.")
    deviations = np.full(3, np.diff(means).min() / 2)
    parity = np.indices(image.shape, np.int16).sum(axis=0) % 2
    parts = [np.flatnonzero(inside & (parity == number)) for number in (0, 1)]
    intensities = [image.ravel()[part].astype(np.float64) for part in parts]

    labels = np.zeros(image.shape, np.uint8)
    labels[inside] = 1 + _log_likelihood(known, means, deviations).argmax(axis=0)
    for _ in range(ROUNDS):
        sums = np.zeros((3, 3))  # of p, p y and p y^2, for each class
        for part, y in zip(parts, intensities, strict=True):
            logs = _log_likelihood(y, means, deviations) + neighbour_weight * _count_neighbours(labels, part)
            labels.ravel()[part] = 1 + logs.argmax(axis=0)
            probability = np.exp(logs - logs.max(axis=0))
            probability = (probability / probability.sum(axis=0)).astype(np.float64)
            sums += [probability.sum(axis=1), probability @ y, probability @ y**2]
        means = sums[1] / sums[0]
        deviations = np.sqrt(np.maximum(sums[2] / sums[0] - means**2, 1e-12 * means**2 + 1e-12))
    whole = np.zeros(brain.shape, np.uint8)
    whole[box] = labels[1:-1, 1:-1, 1:-1]
    return Tissue(whole, means)


def white_matter(scan: sitk.Image, brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The white matter, bool (z, y, x), without the two outermost voxels of the brain."""
    inner = ndimage.binary_erosion(brain, iterations=2)
    values = scan_values(scan, ~inner)
    inner &= values > 0
    field = bias_field(like(scan, values), inner)
    return classify(values / field, inner).labels == WM


def bias_field(scan: sitk.Image, tissue: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The bias field of a scan, float32 (z, y, x). Intensities divided by it are corrected.

    Args:
        scan: of a real type, with positive tissue.
        tissue: bool (z, y, x), the voxels to estimate from: the brain without its lesions.
    """
    image = sitk.Cast(scan, sitk.sitkFloat32)
    factors = [max(1, round(FIELD_SPACING / spacing)) for spacing in scan.GetSpacing()]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)  # threads add in any order, so two runs would differ in the last digits
    n4.SetNumberOfWorkUnits(1)
    n4.SetMaximumNumberOfIterations(FIELD_ITERATIONS)
    n4.Execute(*(sitk.Shrink(each, factors) for each in (image, like(scan, tissue.astype(np.uint8)))))
    return sitk.GetArrayFromImage(sitk.Exp(n4.GetLogBiasFieldAsImage(image)))


def _log_likelihood(y: NDArray, means: NDArray, deviations: NDArray) -> NDArray[np.float32]:
    """The log likelihood of each class, (3, n), without the constant.

    Intensities are clipped to the outer means. Otherwise what is brighter than white matter, such as vessels, would
    become CSF, which has the largest variance.
    """
    clipped = np.clip(y, means[0], means[-1]).astype(np.float32)
    means, deviations = means.astype(np.float32), deviations.astype(np.float32)
    distance = (clipped - means[:, None]) / deviations[:, None]
    return -0.5 * distance**2 - np.log(deviations)[:, None]


def _count_neighbours(labels: NDArray[np.uint8], part: NDArray[np.int64]) -> NDArray[np.float32]:
    """The number of face neighbours of each class, (3, n), for n voxels given as flat indices, none at the border."""
    steps = (labels.shape[1] * labels.shape[2], labels.shape[2], 1)
    counts = np.zeros((3, part.size), np.float32)
    for offset in (sign * step for step in steps for sign in (-1, 1)):
        neighbour = labels.ravel()[part + offset]
        for row, label in zip(counts, TISSUES.values(), strict=True):
            row += neighbour == label
    return counts


def _box(brain: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The bounding box of the brain. Raises InputError if the brain is empty."""
    if not brain.any():
        raise InputError("The scan shows no brain to classify: check that it is a T1-weighted brain scan.")
    return bounding_box(brain, 0)
