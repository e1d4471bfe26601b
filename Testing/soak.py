"""Many runs in one process, by hand on Linux: `python Testing/soak.py` fails if memory grows or a result differs."""

from __future__ import annotations

import argparse
import os
import sys
import threading

import SimpleITK as sitk
from MedInpaintLib.pipeline import inpaint
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.settings import Settings
from MedInpaintLib.volumes.read import read_image

SETTLED = 5  # runs after which the caches of the libraries are full
MAXIMUM_GROWTH = 50  # MB after these runs


def main() -> int:
    """Returns 1 if memory grows or a result differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", metavar="N", type=int, default=100, help="more than 5 (default: %(default)s)")
    runs = parser.parse_args().runs
    if runs <= SETTLED:
        parser.error(f"--runs must be more than {SETTLED}")
    samples = resources_folder() / "SampleData"
    scan = sitk.BinShrink(read_image(samples / "MSPatient26_T1.nii.gz"), [2, 2, 2])
    mask = sitk.BinShrink(read_image(samples / "MSPatient26_lesions.nii.gz") * 100, [2, 2, 2]) > 50
    first, settled = None, 0.0
    for number in range(1, runs + 1):
        result = inpaint(scan, mask, Settings(device="cpu", iterations=2))
        fill = sitk.GetArrayViewFromImage(result.image).tobytes()
        first = first or fill
        if fill != first:
            print(f"run {number} differs from the first")
            return 1
        if number in (1, SETTLED) or number % 10 == 0 or number == runs:
            print(f"run {number}: {resident():.0f} MB, {threading.active_count()} Python threads", flush=True)
        if number == SETTLED:
            settled = resident()
    growth = resident() - settled
    print(f"memory grew by {growth:.0f} MB since run {SETTLED}")
    return int(growth > MAXIMUM_GROWTH)


def resident() -> float:
    """The memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())
