"""The fills that the models are compared with. A fill takes a case and returns the new values of the hole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...blending.poisson import harmonic_fill
from ...space.case import Case
from ...volumes.image import spacing_zyx
from .niftyseg import PROGRAM, is_installed, niftyseg
from .slicewise import biharmonic, check_libraries, telea

Fill = Callable[[Case], NDArray[np.floating]]  # (n,), in the order of values[hole]


def baselines() -> dict[str, Fill]:
    """The fills by their names in the tables. NiftySeg is among them if it is installed.

    Raises InputError if a library is not installed.
    """
    check_libraries()
    fills: dict[str, Fill] = {"harmonic": harmonic, "biharmonic": biharmonic, "telea": telea}
    if is_installed():
        fills["niftyseg"] = niftyseg
    else:
        print(f"NiftySeg is left out: there is no {PROGRAM} on the PATH.")
    return fills


def harmonic(case: Case) -> NDArray[np.float64]:
    """The smoothest continuation of the surroundings in 3-D. It has no knowledge of brains."""
    return harmonic_fill(case.values, case.hole, spacing_zyx(case.scan))
