"""The lesion filling of NiftySeg, if its program `seg_FillLesions` is installed.

Source: Prados et al., "A multi-time-point modality-agnostic patch-based method for lesion filling in multiple
sclerosis", NeuroImage 139, 2016.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...space.case import Case
from ...volumes.image import like

PROGRAM = "seg_FillLesions"
TIME_LIMIT = 400  # seconds


def is_installed() -> bool:
    """True if the program is on the PATH."""
    return shutil.which(PROGRAM) is not None


def niftyseg(case: Case) -> NDArray[np.floating]:
    """The patch-based fill of NiftySeg in the hole of a case, see `fill_lesions`."""
    return fill_lesions(case.scan, case.hole)


def fill_lesions(scan: sitk.Image, hole: NDArray[np.bool_], time_limit: float = TIME_LIMIT) -> NDArray[np.floating]:
    """The values that NiftySeg gives the hole, bool (z, y, x), of a scan of any contrast: (n,), as in values[hole].

    All are NaN if it takes more than the time limit (seconds) or fails.
    """
    with tempfile.TemporaryDirectory() as name:
        before, mask, output = (Path(name) / f"{file}.nii" for file in ("scan", "mask", "filled"))
        sitk.WriteImage(sitk.Cast(scan, sitk.sitkFloat32), str(before))
        sitk.WriteImage(like(scan, hole.astype(np.float32)), str(mask))
        command = [PROGRAM, "-i", str(before), "-l", str(mask), "-o", str(output)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=time_limit)
            return sitk.GetArrayFromImage(sitk.ReadImage(str(output)))[hole]
        except (subprocess.SubprocessError, RuntimeError):
            return np.full(np.count_nonzero(hole), np.nan)
