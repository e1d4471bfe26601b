"""The workers: on this computer, in a Dask cluster that runs already, or as jobs of Slurm."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ...errors import InputError

if TYPE_CHECKING:
    from distributed import Client

MEMORY_OF_WORKER = 1.5e9  # bytes; a fill of a head at 1 mm needs 1.2 GB
DEATHS = 1  # workers that a scan may lose before it is blamed: the first death may have had another cause
PATIENCE = 30  # seconds for an orderly end of the workers
MOST_JOBS = 100  # of Slurm, unless --workers says more
OF_WORKERS = {  # rules that each worker has to know
    "distributed.worker.memory.pause": False,  # a worker that waits for memory to be freed could wait for ever
    "distributed.worker.profile.enabled": False,  # takes a tenth of a core and 0.1 MB a second, for the dashboard alone
}
RULES = {
    "distributed.scheduler.allowed-failures": DEATHS,
    "distributed.scheduler.worker-saturation": 1.0,  # no queue at the workers: a death hits one scan
    **OF_WORKERS,
    "distributed.comm.timeouts.connect": "20s",
    "distributed.deploy.lost-worker-timeout": "10 minutes",  # on a busy computer a new process takes a minute
}


@dataclass(frozen=True)
class Plan:
    """Where the work is done.

    Attributes:
        workers: their number; None for as many as the computer has cores, memory and work for.
        scheduler: the address of a running Dask scheduler; None to start one.
        slurm: the Slurm partition for the workers; None for workers on this computer.
        memory, time: of each Slurm job, as Dask and Slurm write them: "3GB", "08:00:00".
        directives: further options of sbatch, such as "--gres=gpu:1".
        gpus: the number of GPUs that workers on this computer may use, one each; 0 for none.
    """

    workers: int | None = None
    scheduler: str | None = None
    slurm: str | None = None
    memory: str = "3GB"
    time: str = "08:00:00"
    directives: tuple[str, ...] = ()
    gpus: int = 0

    def __post_init__(self) -> None:
        if self.scheduler and self.slurm:
            raise InputError("Give --scheduler or --slurm, not both.")
        if self.scheduler and self.workers:
            raise InputError("A running scheduler has its own workers: drop --workers or --scheduler.")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"The number of workers must be 1 or more, not {self.workers}.")
        if self.gpus and self.workers and self.workers > self.gpus and not self.slurm:
            raise InputError(
                f"A GPU serves one worker and there are {self.gpus}: lower --workers, or use --device cpu."
            )


@contextmanager
def connect(plan: Plan, scans: int) -> Iterator[Client]:
    """A client of the workers for this number of scans. At the end, what was started here is stopped.

    Raises InputError if the cluster cannot be reached or started.
    """
    import dask
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # a killed worker is reported with its scan
    with dask.config.set(RULES):
        cluster = None if plan.scheduler else _start(plan, scans)
        try:
            try:
                client = Client(cluster or plan.scheduler)
            except (OSError, ValueError) as error:
                raise InputError(f"No Dask scheduler answers at '{plan.scheduler}': check its address.") from error
            try:
                if plan.scheduler and any(threads > 1 for threads in client.nthreads().values()):
                    raise InputError("A worker has several threads: start the workers with --nthreads 1.")
                if plan.gpus and not plan.scheduler and not plan.slurm:
                    client.register_plugin(_one_gpu_each(plan.gpus))
                yield client
            finally:
                with suppress(TimeoutError):
                    client.close(timeout=PATIENCE)
        finally:
            if cluster is not None:
                with suppress(TimeoutError):  # on a computer that is very busy; its processes end with this one
                    cluster.close(timeout=PATIENCE)


def local_workers(plan: Plan, scans: int) -> tuple[int, int, float]:
    """The number of workers on this computer, the threads of each, and the bytes of memory of each."""
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    most = plan.gpus or min(CPU_COUNT, max(1, int(MEMORY_LIMIT // MEMORY_OF_WORKER)))
    count = plan.workers or max(1, min(most, scans))
    return count, max(1, CPU_COUNT // count), MEMORY_LIMIT / count


def _start(plan: Plan, scans: int) -> Any:
    import dask

    if plan.slurm:
        return _start_slurm(plan, scans)
    from distributed import LocalCluster

    count, threads, memory = local_workers(plan, scans)
    names = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"
    with dask.config.set({"distributed.nanny.pre-spawn-environ": dict.fromkeys(names, threads)}):
        return LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            memory_limit=memory,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # any port: two runs on one computer do not warn of each other
            silence_logs=logging.CRITICAL,
        )


def _start_slurm(plan: Plan, scans: int) -> Any:
    if find_spec("dask_jobqueue") is None:
        raise InputError("Slurm needs dask-jobqueue: run `pip install dask-jobqueue`.")
    from dask_jobqueue.slurm import SLURMCluster

    try:
        cluster = SLURMCluster(
            queue=plan.slurm,
            cores=1,
            processes=1,
            memory=plan.memory,
            walltime=plan.time,
            job_extra_directives=list(plan.directives),
            job_script_prologue=[f"export {_as_variable(rule)}={value}" for rule, value in OF_WORKERS.items()],
        )
        jobs = plan.workers or min(scans, MOST_JOBS)
        cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)  # a job whose time is over is replaced
        return cluster
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"Slurm refused the workers ({' '.join(str(error).split())}): check the options.") from error


def _as_variable(rule: str) -> str:
    """The variable of the environment that sets a rule of Dask."""
    return "DASK_" + rule.upper().replace(".", "__")


def count_gpus(device: str) -> int:
    """The number of GPUs for a `Settings.device`. Raises InputError if it is "cuda" and there are none."""
    if device not in ("auto", "cuda"):
        return 0
    import torch

    gpus = torch.cuda.device_count()
    if device == "cuda" and not gpus:
        raise InputError("This computer has no cuda device that torch can use: choose --device cpu or auto.")
    return gpus


def has_dashboard() -> bool:
    """Whether the library is there that draws Dask's dashboard."""
    return find_spec("bokeh") is not None


def _one_gpu_each(gpus: int) -> Any:
    from distributed import WorkerPlugin

    class OneGPU(WorkerPlugin):
        """Shows each worker one GPU, before it loads torch."""

        def setup(self, worker: Any) -> None:
            os.environ["CUDA_VISIBLE_DEVICES"] = str(int(worker.name) % gpus)

    return OneGPU()
