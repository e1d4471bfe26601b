"""Tissue classes of a T1-weighted brain: a Gaussian mixture with a Markov random field, as segmentation tools fit it.

Source: Zhang, Brady, Smith 2001, Segmentation of brain MR images through a hidden Markov random field model and the
expectation-maximization algorithm, IEEE TMI 20(1). Partial volumes are not modelled. The bias field is estimated by N4:
Tustison et al. 2010, N4ITK: improved N3 bias correction, IEEE TMI 29(6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...errors import InputError
from ...volumes.image import like

CSF, GM, WM = 1, 2, 3  # labels, by rising intensity in T1-weighted scans; 0 is what lies outside the brain
TISSUES = {"CSF": CSF, "GM": GM, "WM": WM}
NEIGHBOUR_WEIGHT = 0.5  # beta: what a face neighbour of the same class adds to the log probability
ROUNDS = 15  # always, so that all versions of a scan are equally far along; EM goes on to creep
FIELD_SPACING = 4.0  # mm; a bias field is smooth
FIELD_ITERATIONS = (30, 30, 30)  # at most, from coarse to fine
LEVELS = (0.1, 0.45, 0.85)  # quantiles of the brain's intensities where the classes' means start


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

    Each round is one pass of iterated conditional modes over the labels, first over every other voxel, then over the
    rest, and one update of the classes' means and variances by the labels' probabilities given their face neighbours.

    Args:
        values: (z, y, x), T1-weighted intensities.
        brain: bool (z, y, x).
        neighbour_weight: of the Potts prior; 0 leaves a plain Gaussian mixture.

    Raises InputError if the brain does not show three intensities.
    """
    box = _box(brain)
    inside = np.pad(brain[box], 1)  # the border has no class and spares the neighbours' sums their edges
    image = np.pad(np.asarray(values[box], np.float32), 1)
    known = image[inside]
    means = np.quantile(known.astype(np.float64), LEVELS)
    if not (np.diff(means) > 0).all():
        raise InputError("The scan's brain does not show three tissues: check that it is T1-weighted, and its mask.")
    deviations = np.full(3, np.diff(means).min() / 2)
    colour = np.indices(image.shape, np.int16).sum(axis=0) % 2
    parts = [np.flatnonzero(inside & (colour == number)) for number in (0, 1)]
    intensities = [image.ravel()[part].astype(np.float64) for part in parts]

    labels = np.zeros(image.shape, np.uint8)
    labels[inside] = 1 + _log_likelihood(known, means, deviations).argmax(axis=0)
    for _ in range(ROUNDS):
        sums = np.zeros((3, 3))  # of the probabilities, times intensity, times its square
        for part, y in zip(parts, intensities, strict=True):
            logs = _log_likelihood(y, means, deviations) + neighbour_weight * _like_neighbours(labels, part)
            labels.ravel()[part] = 1 + logs.argmax(axis=0)
            probability = np.exp(logs - logs.max(axis=0))
            probability = (probability / probability.sum(axis=0)).astype(np.float64)
            sums += [probability.sum(axis=1), probability @ y, probability @ y**2]
        means = sums[1] / sums[0]
        deviations = np.sqrt(np.maximum(sums[2] / sums[0] - means**2, 1e-12 * means**2 + 1e-12))
    whole = np.zeros(brain.shape, np.uint8)
    whole[box] = labels[1:-1, 1:-1, 1:-1]
    return Tissue(whole, means)


def bias_field(scan: sitk.Image, tissue: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The scan's bias field, float32 (z, y, x), by which its intensities are to be divided.

    Args:
        scan: of a real type; its tissue is positive.
        tissue: bool (z, y, x), what the field is estimated from: the brain without its lesions.
    """
    image = sitk.Cast(scan, sitk.sitkFloat32)
    factors = [max(1, round(FIELD_SPACING / spacing)) for spacing in scan.GetSpacing()]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)  # threads add up in any order, so that two runs would differ in the last digits
    n4.SetNumberOfWorkUnits(1)
    n4.SetMaximumNumberOfIterations(FIELD_ITERATIONS)
    n4.Execute(*(sitk.Shrink(each, factors) for each in (image, like(scan, tissue.astype(np.uint8)))))
    return sitk.GetArrayFromImage(sitk.Exp(n4.GetLogBiasFieldAsImage(image)))


def _log_likelihood(y: NDArray, means: NDArray, deviations: NDArray) -> NDArray[np.float32]:
    """Of each class (3, n), but for a constant. Beyond the outer means it is as at them.

    Else the broad class of CSF would take what is brighter than white matter, vessels for example.
    """
    within = np.clip(y, means[0], means[-1]).astype(np.float32)
    means, deviations = means.astype(np.float32), deviations.astype(np.float32)
    apart = (within - means[:, None]) / deviations[:, None]
    return -0.5 * apart**2 - np.log(deviations)[:, None]


def _like_neighbours(labels: NDArray[np.uint8], part: NDArray[np.int64]) -> NDArray[np.float32]:
    """How many face neighbours of each class the voxels of a part have: (3, n). None of the part is at the border."""
    steps = (labels.shape[1] * labels.shape[2], labels.shape[2], 1)
    alike = np.zeros((3, part.size), np.float32)
    for offset in (sign * step for step in steps for sign in (-1, 1)):
        neighbour = labels.ravel()[part + offset]
        for row, label in zip(alike, TISSUES.values(), strict=True):
            row += neighbour == label
    return alike


def _box(brain: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The brain's bounding box. Raises InputError if there is none."""
    if not brain.any():
        raise InputError("The scan shows no brain to classify: check that it is a T1-weighted brain scan.")
    reach = (np.flatnonzero(brain.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    return tuple(slice(int(where[0]), int(where[-1]) + 1) for where in reach)
