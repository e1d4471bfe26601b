"""The fills that the models are compared with. A fill takes a case and returns the new values of the hole.

The mean brain and the linear latent model give model-space slices. These are resampled to the scan and blended by
Poisson's equation, as in the study of Yeh et al. (CVPR 2017).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...blending.blend import blend_poisson
from ...blending.poisson import harmonic_fill
from ...search.context import context_weights
from ...space.case import Case
from ...space.slices import to_scan
from ...training.slices.data import SliceData
from ...volumes.image import spacing_zyx
from .linear import LinearModel
from .niftyseg import PROGRAM, is_installed, niftyseg
from .slicewise import biharmonic, check_libraries, telea

Fill = Callable[[Case], NDArray[np.floating]]  # (n,), in the order of values[hole]
LINEAR_WINDOW = 7  # pixels of the context weights; with the noise below, the best on the tuning scans
LINEAR_NOISE = 0.1  # intensity squared: a larger value trusts the prior more


def baselines(data: SliceData | None) -> dict[str, Fill]:
    """The fills by their names in the tables. NiftySeg is among them if it is installed.

    The mean brain and the linear latent model need data, of which they use only the training brains.

    Raises InputError if a library is not installed.
    """
    check_libraries()
    fills: dict[str, Fill] = {"harmonic": harmonic, "biharmonic": biharmonic, "telea": telea}
    if is_installed():
        fills["niftyseg"] = niftyseg
    else:
        print(f"NiftySeg is left out: there is no {PROGRAM} on the PATH.")
    if data:
        brains = data.brains(tuning=False)
        fills |= {"mean": mean_fill(brains), "linear": linear_fill(brains)}
    return fills


def harmonic(case: Case) -> NDArray[np.float64]:
    """The smoothest continuation of the surroundings in 3-D. It has no knowledge of brains."""
    return harmonic_fill(case.values, case.hole, spacing_zyx(case.scan))


def mean_fill(brains: NDArray[np.float32]) -> Fill:
    """The mean of the training brains (subjects, z, h, w). It knows brains, but nothing of this brain."""
    mean = brains.mean(axis=0)
    return lambda case: _blend_slices(case, mean[case.slices.heights])


def linear_fill(brains: NDArray[np.float32]) -> Fill:
    """The linear latent model of the training brains (subjects, z, h, w)."""
    model = LinearModel().fit(brains)

    def fill(case: Case) -> NDArray[np.floating]:
        slices = case.slices
        weights = context_weights(slices.hole, slices.context, slices.heights, LINEAR_WINDOW)
        generated = model.fill_stack(slices.image, weights, slices.heights.tolist(), LINEAR_NOISE)
        return _blend_slices(case, generated)

    return fill


def _blend_slices(case: Case, generated: NDArray[np.float32]) -> NDArray[np.floating]:
    source, _ = to_scan(case.scan, generated, case.slices, case.alignment, case.template)
    return blend_poisson(case, source, "3d")
