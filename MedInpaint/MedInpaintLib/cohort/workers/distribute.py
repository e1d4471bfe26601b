"""Give jobs to the workers of a Dask cluster, no more at a time than there are workers."""

from __future__ import annotations

import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from ..fill import Job, Outcome

if TYPE_CHECKING:
    from distributed import Client, Future

TICK = 1.0  # seconds between two looks at the number of workers


class SchedulerLost(Exception):
    """The scheduler does not answer any more, or its workers do not come back."""


def distribute(
    client: Client,
    jobs: Iterable[Job],
    work: Callable[[Job], Outcome],
    waiting_for_workers: Callable[[], None] = lambda: None,
    patience: float = math.inf,
) -> Generator[tuple[Job, Outcome | None], None, None]:
    """Yield each job with its outcome, as they end; None if the job killed its workers.

    As each worker has one job and no queue, the death of a worker is the fault of one job. Jobs are given out late, so
    that the memory of scheduler and client does not grow with their number, and new workers get some at once.

    Raises SchedulerLost if the scheduler is gone, or if there is no worker for longer than the patience (seconds).
    """
    left = deque(jobs)
    running: dict[object, tuple[Job, Future]] = {}
    ended: SimpleQueue[Future] = SimpleQueue()
    workers, looked, seen = 0, -TICK, time.monotonic()
    while left or running:
        if time.monotonic() - looked >= TICK:
            workers, looked = _count_workers(client), time.monotonic()
            if workers:
                seen = looked
            elif looked - seen > patience:
                raise SchedulerLost
            else:
                waiting_for_workers()
        while left and len(running) < workers:
            job = left.popleft()
            future = client.submit(work, job, key=f"fill-{uuid.uuid4().hex}", pure=False)
            running[future.key] = job, future
            future.add_done_callback(ended.put)
        try:
            future = ended.get(timeout=TICK)
        except Empty:
            continue
        job, _ = running.pop(future.key)
        if future.status not in ("finished", "error"):
            raise SchedulerLost
        yield job, _outcome(future)


def _outcome(future: Future) -> Outcome | None:
    from distributed.scheduler import KilledWorker

    if future.status == "finished":
        return future.result()
    error = future.exception()
    if isinstance(error, KilledWorker):
        return None
    # `fill` answers with an outcome whatever happens: the worker could not even start it.
    return Outcome(f"The worker could not start the fill ({type(error).__name__}: {error}): install MedInpaint there.")


def _count_workers(client: Client) -> int:
    """The number of workers that are there now."""
    try:
        return len(client.nthreads()) if client.status == "running" else _lost()
    except (OSError, TimeoutError):
        return _lost()


def _lost() -> int:
    raise SchedulerLost
