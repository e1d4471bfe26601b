"""Give `medinpaint run` many hostile scans and masks, and count what becomes of them: by hand, for hours if wanted.

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
import torch  # noqa: F401  so that not every case need load it
from hostile import FILLED, SECONDS, Failure, hostile, judge
from MedInpaintLib.resources import resources_folder
from MedInpaintLib.volumes.read import read_image
from MedInpaintLib.volumes.write import write_image

MEGABYTES = 2500  # that a case may take; a plain one takes less than half


def write_small(folder: Path) -> None:
    """The shipped sample at 2 mm with its largest lesion, as the tests' fixture `small`."""
    samples = resources_folder() / "SampleData"
    scan = sitk.BinShrink(sitk.Cast(read_image(samples / "MSPatient26_T1.nii.gz"), sitk.sitkFloat32), [2, 2, 2])
    lesions = sitk.BinShrink(read_image(samples / "MSPatient26_lesions.nii.gz") * 100, [2, 2, 2]) > 50
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(lesions), sortByObjectSize=True) == 1
    write_image(sitk.Cast(scan, sitk.sitkInt16), folder / "scan.nii.gz")
    write_image(largest, folder / "mask.nii.gz")


def apart(work: Callable[[], str]) -> tuple[str, float]:
    """What a piece of work returns, done in a process of its own, and the most memory that this had, MB.

    So nothing can hang or crash for good. "FAILED" begins what is returned if it did, or raised a Failure.
    """
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        try:
            said = work()
        except Failure as failure:
            said = f"FAILED: {failure}"
        except BaseException:
            said = f"FAILED to write the case: {traceback.format_exc()}"
        os.write(send, said.encode(errors="replace")[-60000:])
        os._exit(0)
    os.close(send)
    ready, _, _ = select.select([receive], [], [], 2 * SECONDS)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    with open(receive, "rb") as file:
        said = file.read().decode()
    return said or f"FAILED: ended by signal {status & 127}", usage.ru_maxrss / 1000


def main() -> int:
    """Returns 1 if any case failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="cases (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the cases (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60, help="after which no case begins (default: %(default)g)")
    args = parser.parse_args()
    sentences, failures, tried = collections.Counter(), [], 0
    end = time.monotonic() + 60 * args.minutes

    with tempfile.TemporaryDirectory() as small:
        apart(lambda: write_small(Path(small)) or "")

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
            said, megabytes = apart(lambda: judge(case, Path(small)))
            if megabytes > MEGABYTES:
                said = f"FAILED: took {megabytes:.0f} MB of memory"
            if said.startswith("FAILED"):
                failures.append(case)
                print(f"{case}\n{said}\n", flush=True)
            sentences[re.sub(r"'[^']*'|\d[\d.e+]*", "#", said.strip().splitlines()[-1])] += 1
            if time.monotonic() - started > 20:
                print(f"slow, {time.monotonic() - started:.0f} s: {case}", flush=True)

        count()
    for said, times in sentences.most_common():
        print(f"{times:5}  {said}")
    filled = sentences[FILLED]
    print(f"{tried} tried, {filled} filled, {tried - filled - len(failures)} refused, {len(failures)} failed")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
