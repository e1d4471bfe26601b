"""Many made-up subjects through the workers of `medinpaint bids`, by hand: what Dask costs, and whether memory grows.

python Testing/cohort_load.py --subjects 200 --seconds 1 --workers 2

The subjects are the shipped patient, moved and rescaled. The engine is a stub that sleeps for some seconds, so that
what is measured is everything else: reading, checking, pictures, writing and Dask. A plain loop over a tenth of the
subjects, in one process for each worker, is the comparison; one half of it runs before Dask and one after it. Seconds
of the CPU tell more than those of the clock if the computer has other work.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "Python"))

import numpy as np
import psutil
import SimpleITK as sitk
from cohort_stub import QUICK, Listener, make_dataset, stub_fill, write
from MedInpaintLib.cohort.derivatives import start_dataset
from MedInpaintLib.cohort.fill import Job
from MedInpaintLib.cohort.find import Request, dataset_folders, find_scans
from MedInpaintLib.cohort.report.entries import read_entries
from MedInpaintLib.cohort.report.group import write_group
from MedInpaintLib.cohort.run import run_participants
from MedInpaintLib.cohort.workers.cluster import Plan
from MedInpaintLib.resources import resources_folder


def main() -> int:
    """Returns 1 if a result is lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", metavar="N", type=int, default=200)
    parser.add_argument("--seconds", metavar="X", type=float, default=1.0, help="of the stub of the engine")
    parser.add_argument("--workers", metavar="N", type=int, default=2)
    parser.add_argument("--shrink", metavar="N", type=int, default=2, help="1: scans of the full size")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="keep the dataset and the results here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        dataset = make_subjects(folder / "data", args.subjects, args.shrink)
        started = time.perf_counter()
        scans = find_scans(Request(dataset, folder / "out"))
        print(f"{len(scans)} scans found in {time.perf_counter() - started:.2f} s", flush=True)

        share = max(2 * args.workers, len(scans) // 20)
        first = loops(dataset, folder / "loop1", scans[:share], args)
        memory = Memory()
        started = time.perf_counter()
        work = partial(timed_fill, seconds=args.seconds)
        listener = Clocked(memory)
        counts = run_participants(
            Request(dataset, folder / "out"), QUICK, Plan(workers=args.workers), listener, work=work
        )
        seconds = time.perf_counter() - started
        memory.stop()
        second = loops(dataset, folder / "loop2", scans[-share:], args)
        clock, cpu = listener.steady(args.workers)
        for name, (loop_clock, loop_cpu) in {"before": first, "after": second}.items():
            print(f"plain loops {name}: a scan takes a process {loop_clock:.3f} s, {loop_cpu:.3f} s of the CPU")
        print(f"Dask: {dict(counts)} in {seconds:.1f} s; once all workers are at work, a scan takes a worker")
        print(f"{clock:.3f} s, {cpu:.3f} s of the CPU with scheduler, nanny and pages")
        for name, got, loop in (("clock", clock, 0), ("CPU", cpu, 1)):
            plain = (first[loop] + second[loop]) / 2
            print(f"overhead of Dask, {name}: {got - plain:.3f} s a scan, {100 * (got / plain - 1):.1f} %")
        print(f"memory of this process and of its largest worker, MB, after some scans: {json.dumps(listener.memory)}")
        started = time.perf_counter()
        write_group(folder / "out")
        print(f"group: {time.perf_counter() - started:.1f} s", flush=True)
        size = sum(path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file())
        files = sum(path.is_file() for path in (folder / "out").rglob("*"))
        print(f"results: {size / len(scans) / 1e6:.2f} MB and {files / len(scans):.1f} files a scan")
        lost = len(scans) - sum(entry.results is not None for entry in read_entries(folder / "out"))
        print(f"lost results: {lost}")
        return int(lost > 0)


def make_subjects(folder: Path, count: int, shrink: int) -> Path:
    """The shipped patient with other intensities and positions."""
    samples = resources_folder() / "SampleData"
    scan, mask = (sitk.ReadImage(str(samples / f"MSPatient26_{name}.nii.gz")) for name in ("T1", "lesions"))
    if shrink > 1:
        scan, mask = scan[::shrink, ::shrink, ::shrink], mask[::shrink, ::shrink, ::shrink]
    make_dataset(folder)
    random = np.random.default_rng(0)
    for number in range(count):
        moved = sitk.Cast(sitk.Cast(scan, sitk.sitkFloat32) * random.uniform(0.5, 1.5), sitk.sitkInt16)
        moved.SetOrigin((np.array(scan.GetOrigin()) + random.uniform(-20, 20, 3)).tolist())
        lesion = sitk.Image(mask)
        lesion.SetOrigin(moved.GetOrigin())
        name = f"sub-{number:05d}"
        write(moved, folder / name / "anat" / f"{name}_T1w.nii.gz")
        write(lesion, folder / "derivatives/manual" / name / "anat" / f"{name}_space-orig_label-lesion_mask.nii.gz")
    return folder


def timed_fill(job: Job, seconds: float):
    """As the stub; a name that the workers can import."""
    return stub_fill(job, seconds)


def loops(dataset: Path, output: Path, scans: list, args: argparse.Namespace) -> tuple[float, float]:
    """Seconds of the clock and of the CPU a scan, of plain loops in one process for each worker at the same time."""
    start_dataset(output, dataset_folders(Request(dataset, output)))
    jobs = [Job(scan, output, QUICK, "loop") for scan in scans]
    parts = [(jobs[first :: args.workers], args.seconds) for first in range(args.workers)]
    with get_context("spawn").Pool(args.workers) as pool:
        clock, cpu = np.mean(pool.starmap(loop, parts, chunksize=1), axis=0)
    return float(clock), float(cpu)


def loop(jobs: list[Job], seconds: float) -> tuple[float, float]:
    """Mean seconds a scan; the first one, which loads the libraries, does not count."""
    times = []
    for job in jobs:
        outcome = stub_fill(job, seconds)
        assert not outcome.problem, outcome
        times.append((time.perf_counter(), time.process_time()))
    return tuple((np.array(times[-1]) - times[0]) / (len(times) - 1))


class Clocked(Listener):
    """Remembers when each scan was done, what the CPU had done until then, and the memory after each 50 scans."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._times, self._sizes = [], memory
        self.memory = {}

    def event(self, event: str, **fields: object) -> None:
        super().event(event, **fields)
        if event == "scan":
            self._times.append((time.perf_counter(), cpu_of_all()))
            done = len(self._times)
            if done in (10, 25) or done % 50 == 0:
                self.memory[done] = self._sizes.now()
                print(f"{done} scans: {self.memory[done]} MB", flush=True)

    def steady(self, workers: int) -> tuple[float, float]:
        """Seconds a scan of a worker, without the start of the workers: from the second scan of each on."""
        times = np.array(self._times[2 * workers - 1 :])
        clock, cpu = (times[-1] - times[0]) / (len(times) - 1)
        return float(workers * clock), float(cpu)


def cpu_of_all() -> float:
    """Seconds of the CPU of this process and of its children that are alive."""
    me = psutil.Process()
    used = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(times.user + times.system for times in used)


class Memory(threading.Thread):
    """Measures the resident memory of this process and of its children each second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended, self._own, self._children = threading.Event(), [], []
        self.start()

    def run(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(1):
            self._own.append(me.memory_info().rss / 1e6)
            sizes = []
            for child in me.children(recursive=True):
                try:
                    sizes.append(child.memory_info().rss / 1e6)
                except psutil.NoSuchProcess:
                    continue
            self._children.append(max(sizes, default=0))

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def now(self) -> list[int]:
        """Of this process and of its largest child, MB: the medians of the last ten seconds."""
        return [round(float(np.median(sizes[-10:] or [0]))) for sizes in (self._own, self._children)]


if __name__ == "__main__":
    sys.exit(main())
