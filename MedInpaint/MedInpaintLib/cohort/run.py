"""The level "participant": find the scans, fill what is missing, and write a page for each participant."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from ..errors import InputError
from ..models.registry import find_model
from ..settings import Settings
from .derivatives import start_dataset, write_json
from .fill import Job, Outcome, fill, remove_unfinished
from .find import Request, dataset_folders, find_scans
from .report.participant import page_of, write_page
from .resume import fingerprint, is_complete
from .scans import Results
from .workers.cluster import DEATHS, Plan, connect, has_dashboard
from .workers.distribute import SchedulerLost, distribute

KILLED = Outcome(
    f"Its worker was killed {DEATHS + 1} times, most likely for lack of memory: use fewer --workers, or Slurm jobs "
    "with more memory."
)
LOST = "The Dask scheduler or all of its workers are gone: run the same command again, it does what is missing."
PACKAGES = {  # module: what installs it
    "ancpbids": "ancpbids",
    "distributed": '"dask[distributed]"',
    "filelock": "filelock",
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
}
PATIENCE = 600.0  # seconds without any worker on this computer
VALIDATOR = "bids-validator-deno"


class Listener(Protocol):
    """What a run tells while it goes on: the command's console."""

    def progress(self, fraction: float, stage: str, message: str) -> None:
        """The fraction done, 0 to 1."""

    def warning(self, message: str) -> None:
        """A sentence about a scan that was not filled."""

    def event(self, event: str, **fields: object) -> None:
        """A machine-readable event."""


def run_participants(
    request: Request,
    settings: Settings,
    plan: Plan,
    listener: Listener,
    uncertainty: bool = False,
    work: Callable[[Job], Outcome] = fill,
) -> Counter[str]:
    """Fill all scans that were asked for. What is complete and has the same settings is not done again.

    Args:
        request: which scans.
        settings: of each fill.
        plan: the workers.
        listener: is told what happens.
        uncertainty: also write the standard deviation of each fill.
        work: done by a worker for each job.

    Returns the numbers of scans that were "filled", were "present" already, or "failed".

    Raises:
        InputError: nothing can be done: no dataset, wrong settings, no place for the results, no workers.
    """
    if uncertainty and not settings.residual:
        raise InputError("Without the residual the uncertainty is unknown: drop --uncertainty or --no-residual.")
    if request.also and settings.slicewise:
        raise InputError("Several contrasts need the contrast curve: drop --also, or --slicewise and the preset study.")
    model = find_model(settings.model)
    scans = find_scans(request)
    start_dataset(request.output, dataset_folders(request))
    run = _Run(request.output, len(scans), listener)
    jobs = []
    for scan in scans:
        results = Results(request.output, scan)
        try:
            if scan.problem:
                raise InputError(scan.problem)
            mark = fingerprint(scan, settings, model)
        except InputError as error:
            run.failed(results, Outcome(str(error)))
            continue
        if is_complete(results, mark, uncertainty):
            run.present(results)
        else:
            jobs.append(Job(scan, request.output.resolve(), settings, mark, uncertainty))
    if jobs:
        _fill_all(jobs, plan, run, work)
    return run.counts


def check_packages() -> None:
    """Raise InputError if a package is missing that cohorts need."""
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise InputError(f"Cohorts need more packages: run `pip install {' '.join(missing)}`.")


def check_dataset(folder: Path) -> bool:
    """Let the official validator look at the dataset. Returns whether it is installed.

    Raises InputError with the first error that it finds.
    """
    program = shutil.which(VALIDATOR)
    if program is None:
        return False
    arguments = [program, "--format", "json", "--ignoreWarnings", str(folder)]
    answer = subprocess.run(arguments, capture_output=True, text=True, encoding="utf-8", check=False)
    try:
        issues = json.loads(answer.stdout)["issues"]["issues"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("The BIDS validator did not work: use --skip-bids-validation to do without it.") from error
    errors = [issue for issue in issues if issue.get("severity") == "error"]
    if errors:
        raise InputError(
            f"'{folder.name}' is not valid BIDS ({len(errors)} errors, the first is {errors[0].get('code')} in "
            f"{errors[0].get('location')}): correct it, or use --skip-bids-validation."
        )
    return True


def _fill_all(jobs: list[Job], plan: Plan, run: _Run, work: Callable[[Job], Outcome]) -> None:
    unfinished = {job.scan.name: job for job in jobs}
    try:
        with connect(plan, len(jobs)) as client:
            if has_dashboard() and client.dashboard_link:
                run.listener.event("dashboard", address=client.dashboard_link)
                run.say(f"dashboard: {client.dashboard_link}")
            patience = math.inf if plan.scheduler or plan.slurm else PATIENCE
            waiting = partial(run.say, "waiting for workers")
            with closing(distribute(client, jobs, work, waiting, patience)) as outcomes:
                for job, outcome in outcomes:
                    del unfinished[job.scan.name]
                    outcome = outcome or KILLED
                    if outcome is KILLED:
                        remove_unfinished(job.results)
                    if outcome.problem:
                        run.failed(job.results, outcome)
                    else:
                        run.filled(job.results, outcome)
    except SchedulerLost:
        for job in unfinished.values():
            run.failed(job.results, Outcome(LOST))
    finally:
        for job in unfinished.values():
            remove_unfinished(job.results)


class _Run:
    """Counts what is done, remembers failures on disk, and tells the listener."""

    def __init__(self, output: Path, scans: int, listener: Listener) -> None:
        self.counts: Counter[str] = Counter(filled=0, present=0, failed=0)
        self.listener = listener
        self._output = output
        self._total = scans

    def filled(self, results: Results, outcome: Outcome) -> None:
        """A scan is filled."""
        self._forget_failure(results)
        self._write_page(results)
        self._count("filled", results, seconds=round(outcome.seconds, 2))

    def present(self, results: Results) -> None:
        """A scan was filled earlier."""
        if self._forget_failure(results) or not page_of(self._output, results.scan.participant).is_file():
            self._write_page(results)
        self._count("present", results)

    def failed(self, results: Results, outcome: Outcome) -> None:
        """A scan could not be filled."""
        scan = results.scan
        self.listener.warning(f"{scan.name}: {outcome.problem}")
        content = {
            "participant": scan.participant,
            "session": scan.session,
            "message": outcome.problem,
            "details": outcome.details,
        }
        try:
            for part in results.together:
                part.failure.parent.mkdir(parents=True, exist_ok=True)
                write_json(part.failure, content)
        except (InputError, OSError):  # the disk is full: the sentence on the screen has to do
            pass
        self._write_page(results)
        self._count("failed", results, problem=outcome.problem)

    def say(self, message: str) -> None:
        """Show the progress with a message."""
        done = sum(self.counts.values())
        self.listener.progress(done / max(self._total, 1), "filling", message)

    def _write_page(self, results: Results) -> None:
        """Write the page at once, which takes 2 ms: so it is not older than the results if the run is stopped."""
        participant = results.scan.participant
        try:
            write_page(self._output, participant)
        except Exception as error:  # a page can be made again: the other scans go on
            self.listener.warning(f"sub-{participant}: its page could not be written ({error}).")

    def _count(self, what: str, results: Results, **fields: object) -> None:
        self.counts[what] += 1
        self.listener.event("scan", scan=results.scan.name, status=what, **fields)
        failed = f", {self.counts['failed']} failed" if self.counts["failed"] else ""
        self.say(f"{sum(self.counts.values())} of {self._total} scans{failed}")

    def _forget_failure(self, results: Results) -> bool:
        there = [part.failure for part in results.together if part.failure.is_file()]
        for failure in there:
            failure.unlink(missing_ok=True)
        return bool(there)
