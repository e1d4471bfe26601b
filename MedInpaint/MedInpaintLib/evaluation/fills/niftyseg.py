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
    """The patch-based fill of NiftySeg. All values are NaN if it takes more than 400 s or fails."""
    with tempfile.TemporaryDirectory() as name:
        scan, mask, output = (Path(name) / f"{file}.nii" for file in ("scan", "mask", "filled"))
        sitk.WriteImage(sitk.Cast(case.scan, sitk.sitkFloat32), str(scan))
        sitk.WriteImage(like(case.scan, case.hole.astype(np.float32)), str(mask))
        command = [PROGRAM, "-i", str(scan), "-l", str(mask), "-o", str(output)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=TIME_LIMIT)
            return sitk.GetArrayFromImage(sitk.ReadImage(str(output)))[case.hole]
        except (subprocess.SubprocessError, RuntimeError):
            return np.full(np.count_nonzero(case.hole), np.nan)
