"""Run `medinpaint run` on many hostile scans and masks and count the answers: by hand, for hours if wanted.

python Testing/hostile_inputs.py --count 500 --seed 1
"""

import argparse
import collections
import os
import re
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).parent / "Python"))

import SimpleITK as sitk
import torch  # noqa: F401  loaded once for all cases
from hostile import FILLED, SECONDS, Failure, check_case, hostile
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.volumes.read import read_image
from MedInpaintLib.volumes.write import write_image

MEGABYTES = 2500  # limit for one case; an ordinary case takes less than half


def write_small(folder: Path) -> None:
    """The shipped sample at 2 mm with its largest lesion, like the fixture `small` of the tests."""
    samples = resources_folder() / "SampleData"
    scan = sitk.BinShrink(sitk.Cast(read_image(samples / "MSPatient26_T1.nii.gz"), sitk.sitkFloat32), [2, 2, 2])
    lesions = sitk.BinShrink(read_image(samples / "MSPatient26_lesions.nii.gz") * 100, [2, 2, 2]) > 50
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(lesions), sortByObjectSize=True) == 1
    write_image(sitk.Cast(scan, sitk.sitkInt16), folder / "scan.nii.gz")
    write_image(largest, folder / "mask.nii.gz")


def run_in_child(work: Callable[[], str]) -> tuple[str, float]:
    """Do the work in a child process. Returns its text and the largest memory of the child in MB.

    So the work can neither hang nor crash this process. The text begins with "FAILED" if it did, or raised a Failure.
    """
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        try:
            text = work()
        except Failure as failure:
            text = f"FAILED: {failure}"
        except BaseException:
            text = f"FAILED to write the case: {traceback.format_exc()}"
        os.write(send, text.encode(errors="replace")[-60000:])
        os._exit(0)
    os.close(send)
    ready, _, _ = select.select([receive], [], [], 2 * SECONDS)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    with open(receive, "rb") as file:
        text = file.read().decode()
    return text or f"FAILED: ended by signal {status & 127}", usage.ru_maxrss / 1000


def main() -> int:
    """Returns 1 if any case failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="number of cases (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60, help="no case begins after these (default: %(default)g)")
    args = parser.parse_args()
    sentences, failures, tried = collections.Counter(), [], 0
    end = time.monotonic() + 60 * args.minutes

    with tempfile.TemporaryDirectory() as small:
        run_in_child(lambda: write_small(Path(small)) or "")

        @seed(args.seed)
        @settings(
            max_examples=args.count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(hostile())
        def count(case):
            nonlocal tried
            if time.monotonic() > end:
                return
            tried += 1
            started = time.monotonic()
            text, megabytes = run_in_child(lambda: check_case(case, Path(small)))
            if megabytes > MEGABYTES:
                text = f"FAILED: took {megabytes:.0f} MB of memory"
            if text.startswith("FAILED"):
                failures.append(case)
                print(f"{case}\n{text}\n", flush=True)
            sentences[re.sub(r"'[^']*'|\d[\d.e+]*", "#", text.strip().splitlines()[-1])] += 1
            if time.monotonic() - started > 20:
                print(f"slow, {time.monotonic() - started:.0f} s: {case}", flush=True)

        count()
    for text, times in sentences.most_common():
        print(f"{times:5}  {text}")
    filled = sentences[FILLED]
    print(f"{tried} tried, {filled} filled, {tried - filled - len(failures)} refused, {len(failures)} failed")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
