"""The scale from scan intensities to model intensities."""

from __future__ import annotations

import numpy as np

from ..errors import InputError

WHITE_MATTER = 0.75  # model intensity of the brighter half of the known brain
INTENSITY_RULE = "0 stays 0; the mean of the known brain between its 50th and 98th percentile becomes 0.75"


def intensity_floor(values: np.ndarray, hole: np.ndarray) -> float:
    """The scan intensity without signal: 0, or the 0.5th percentile if 1 % or more of the known tissue is negative."""
    known = ~hole & (values != 0)
    negative = np.count_nonzero(known & (values < 0))
    return float(np.percentile(values[known], 0.5)) if negative and negative >= 0.01 * np.count_nonzero(known) else 0.0


def intensity_scale(values: np.ndarray, known: np.ndarray) -> float:
    """The scan intensity that becomes 1: the trimmed mean of the brighter half of the known brain becomes 0.75.

    Zero stays zero, so background stays background. Raises InputError if there is too little brain or no contrast.
    """
    tissue = values[known].astype(np.float64)  # float32 sums of huge intensities overflow
    if tissue.size < 100:
        raise InputError("The scan shows too little brain to work from: check that the mask marks only the lesion.")
    middle, top = np.percentile(tissue, [50, 98])
    upper = tissue[(tissue >= middle) & (tissue <= top)]
    scale = float(upper.mean() / WHITE_MATTER)
    if scale <= 0 or tissue.std() == 0:
        raise InputError("The scan has no contrast in the brain: check that it is a T1-weighted MRI.")
    return scale
