"""A run with real workers: some die, some fail, the scheduler goes, the user stops it. The others are filled."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import dask
import pytest
from cohort_stub import (
    QUICK,
    Listener,
    add_mask,
    add_scan,
    add_subject,
    files_under,
    harmful_fill,
    make_dataset,
    stub_fill,
)
from MedInpaintLib.cohort.derivatives import start_dataset
from MedInpaintLib.cohort.find import Request
from MedInpaintLib.cohort.report.entries import read_entries
from MedInpaintLib.cohort.report.group import write_group
from MedInpaintLib.cohort.run import KILLED, LOST, run_participants
from MedInpaintLib.cohort.workers import cluster
from MedInpaintLib.cohort.workers.cluster import Plan
from MedInpaintLib.command.main import main
from MedInpaintLib.errors import InputError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and limits")
HERE = Path(__file__).parents[1]
GOOD = ["sub-01", "sub-02", "sub-03", "sub-04", "sub-Jörg Müller"]
TWO = Plan(workers=2)
# What a terminal would run: the arguments are the dataset, the output, a log of the engine's calls, and seconds a scan.
COMMAND = """
import sys
from functools import partial
from pathlib import Path
from cohort_stub import QUICK, counted_fill
from MedInpaintLib.cohort.find import Request
from MedInpaintLib.cohort import run
from MedInpaintLib.command import bids, main

real = run.run_participants
work = partial(counted_fill, log=sys.argv[3], seconds=float(sys.argv[4]))
run.run_participants = lambda *arguments: real(*arguments, work=work)
if __name__ == "__main__":
    options = ["--workers", "2", "--device", "cpu", "--no-residual", "--skip-bids-validation", "--progress", "json"]
    sys.exit(main.main(["bids", sys.argv[1], sys.argv[2], "participant", *options]))
"""


def fill_all(dataset, output, work=stub_fill, plan=TWO, **options):
    listener = Listener()
    counts = run_participants(Request(dataset, output, **options), QUICK, plan, listener, work=work)
    return dict(counts), listener


def nothing_is_half_done(output):
    """No temporary files, and for each filled scan all of its files."""
    assert not list(output.glob("logs/unfinished/*"))
    assert not [path for path in output.rglob("*") if path.name.startswith(".medinpaint")]
    for entry in read_entries(output):
        if entry.results:
            assert all(p.is_file() for p in (entry.results.image, entry.results.mask, entry.results.section))


@pytest.fixture(scope="module")
def harm(tmp_path_factory):
    """One run over subjects who do all kinds of harm; the dataset's and the results' folders have hard names."""
    folder = tmp_path_factory.mktemp("große Studie")
    dataset, output = make_dataset(folder / "data ä"), folder / "results ü"
    for stem in (*GOOD, "sub-killer", "sub-hungry", "sub-raising", "sub-diskfull", "sub-readonly", "sub-damaged"):
        add_subject(dataset, stem)
    add_scan(dataset, "sub-noscan", "FLAIR")
    add_scan(dataset, "sub-nomask")
    damaged = dataset / "sub-damaged" / "anat" / "sub-damaged_T1w.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    output.mkdir()
    (output / "sub-readonly").write_text("in the way", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "local_workers", lambda plan, scans: (2, 1, 7e8))
        counts, listener = fill_all(dataset, output, harmful_fill)
    return dataset, output, counts, listener


def problems(output):
    return {entry.name.removeprefix("sub-").removesuffix("_T1w"): entry.problem for entry in read_entries(output)}


def test_the_others_are_filled(harm):
    _, output, counts, _ = harm
    assert counts == {"filled": len(GOOD), "present": 0, "failed": 8}
    assert {entry.name for entry in read_entries(output) if entry.results} == {f"{stem}_T1w" for stem in GOOD}
    nothing_is_half_done(output)


@pytest.mark.parametrize(
    ("who", "problem"),
    [
        ("killer", KILLED.problem),
        ("hungry", KILLED.problem),
        ("raising", "An unexpected error ended the fill (ZeroDivisionError: nothing to divide by)."),
        ("diskfull", "The results cannot be written ("),
        ("readonly", "The results cannot be written ("),
        ("damaged", "'sub-damaged_T1w.nii.gz' cannot be read as an image: it is damaged"),
        ("noscan", "There is no T1w scan"),
        ("nomask", "There is no mask"),
    ],
)
def test_each_failure_costs_its_scan_alone_and_is_one_sentence(harm, who, problem):
    _, output, _, listener = harm
    assert problems(output)[who].startswith(problem)
    assert any(warning.startswith(f"sub-{who}_T1w: {problem}") for warning in listener.warnings)


def test_a_scan_that_kills_its_worker_is_blamed_after_the_second_one(harm):
    _, output, _, _ = harm
    assert len((output / "logs" / "deaths").read_text(encoding="utf-8").split()) == 2


def test_links_lead_to_files_whose_names_have_blanks_and_umlauts(harm):
    dataset, output, _, _ = harm
    write_group(output)
    targets = re.findall(r'(?:src|href)="([^"]+)"', (output / "group_report.html").read_text(encoding="utf-8"))
    files = [target for target in targets if not target.startswith("data:")]
    assert "sub-J%C3%B6rg%20M%C3%BCller.html" in files
    assert all((output / unquote(target)).is_file() for target in files)
    links = json.loads((output / "dataset_description.json").read_text(encoding="utf-8"))["DatasetLinks"]
    assert links["raw"] == "../data%20%C3%A4"
    assert (output / unquote(links["raw"])).samefile(dataset)


def test_the_table_says_which_scans_failed_and_why(harm):
    _, output, _, _ = harm
    assert write_group(output) == 8
    with (output / "group_lesions.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    failed = {row["participant_id"]: row["problem"] for row in rows if row["status"] == "failed"}
    assert {f"sub-{who}" for who in problems(output) if problems(output)[who]} == set(failed)
    assert failed["sub-killer"] == KILLED.problem
    assert {row["participant_id"] for row in rows if row["status"] == "filled"} == set(GOOD)


def test_the_command_ends_with_1_if_a_scan_failed_and_with_0_if_none_did(harm, capsys):
    dataset, output, _, _ = harm
    quick = ["--device", "cpu", "--no-residual", "--progress", "none", "--skip-bids-validation"]
    command = ["bids", str(dataset), str(output), "participant", *quick, "--participant-label"]
    assert main([*command, "01", "02"]) == 0
    assert main([*command, "01", "nomask"]) == 1
    assert main(["bids", str(dataset), str(output), "group", "--progress", "none"]) == 1
    assert "sub-nomask_T1w: There is no mask" in capsys.readouterr().err


def test_a_second_run_does_what_is_missing_and_forgets_old_failures(harm):
    dataset, output, _, _ = harm
    (output / "sub-readonly").unlink(missing_ok=True)
    who = ["01", "killer", "diskfull", "readonly"]
    counts, _ = fill_all(dataset, output, participants=who)
    assert counts == {"filled": 3, "present": 1, "failed": 0}
    assert not any(problems(output)[name] for name in who)
    nothing_is_half_done(output)


def test_an_output_that_cannot_be_made_is_refused_before_the_work(tmp_path):
    dataset = make_dataset(tmp_path / "data")
    add_subject(dataset, "sub-01")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be made or read: choose another"):
        fill_all(dataset, tmp_path / "file" / "out")


@contextmanager
def without_rights_of_root():
    """Root may write to a folder that is read-only: be somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_an_output_that_is_read_only_is_refused_before_the_work():
    with tempfile.TemporaryDirectory() as temporary:  # a place that others can read, too, unlike that of pytest
        folder = Path(temporary)
        folder.chmod(0o755)
        dataset, output = make_dataset(folder / "data"), folder / "out"
        output.mkdir(mode=0o555)
        with without_rights_of_root(), pytest.raises(InputError, match="could not be written: free disk space"):
            start_dataset(output, {"raw": dataset})  # what a run does first
        assert not list(output.iterdir())


@pytest.fixture
def six(tmp_path):
    dataset = make_dataset(tmp_path / "data")
    for number in range(6):
        add_subject(dataset, f"sub-{number}", seed=number)
    return dataset


def start(dataset, output, log, seconds):
    script = log.with_suffix(".py")
    script.write_text(COMMAND, encoding="utf-8")
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, script, dataset, output, log, str(seconds)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_two_runs_on_one_output_share_the_work(six, tmp_path):
    output, log = tmp_path / "out", tmp_path / "calls"
    runs = [start(six, output, log, 0.3) for _ in range(2)]
    for run in runs:
        _, errors = run.communicate(timeout=240)
        assert (run.returncode, errors) == (0, "")
    assert sorted(log.read_text(encoding="utf-8").split()) == [f"sub-{n}_T1w" for n in range(6)]
    nothing_is_half_done(output)


def test_ctrl_c_leaves_complete_files_only_and_the_next_run_does_the_rest(six, tmp_path):
    output, log = tmp_path / "out", tmp_path / "calls"
    run = start(six, output, log, 2)
    for line in run.stdout:
        if json.loads(line).get("status") == "filled":
            break
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the workers get it, too
    run.communicate(timeout=60)
    assert run.returncode == 130
    nothing_is_half_done(output)
    done = len(read_entries(output))
    pages = len(list(output.glob("sub-*.html")))  # a scan that is done at this very moment has none yet
    assert 1 <= pages <= done < 6
    counts, _ = fill_all(six, output)
    assert counts == {"filled": 6 - done, "present": done, "failed": 0}
    assert len(list(output.glob("sub-*.html"))) == 6


def test_the_loss_of_the_scheduler_ends_the_run_and_the_next_run_does_the_rest(six, tmp_path):
    address = tmp_path / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    code = "from dask.__main__ import main; main()"
    dask = [sys.executable, "-c", code]
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", address],
        **quiet,
    )
    worker = subprocess.Popen(
        [*dask, "worker", "--scheduler-file", address, "--nthreads", "1", "--no-dashboard", "--death-timeout", "60"],
        **quiet,
    )
    try:
        while not address.exists():
            time.sleep(0.1)
        plan = Plan(scheduler=json.loads(address.read_text(encoding="utf-8"))["address"])

        class Killer(Listener):
            def event(self, event, **fields):
                super().event(event, **fields)
                if fields.get("status") == "filled":
                    scheduler.kill()

        listener = Killer()
        work = partial(stub_fill, seconds=1.0)
        counts = run_participants(Request(six, tmp_path / "out"), QUICK, plan, listener, work=work)
        assert counts["filled"] >= 1
        assert counts["failed"] == 6 - counts["filled"] >= 1
        assert all(warning.endswith(LOST) for warning in listener.warnings)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    time.sleep(1.5)  # the worker's process may be about to end
    counts, _ = fill_all(six, tmp_path / "out")
    assert counts["failed"] == 0
    nothing_is_half_done(tmp_path / "out")


def test_a_scheduler_that_is_not_there_is_one_sentence(six, tmp_path, monkeypatch):
    monkeypatch.setitem(cluster.RULES, "distributed.comm.timeouts.connect", "1s")
    with pytest.raises(InputError, match=r"No Dask scheduler answers at 'tcp://127\.0\.0\.1:9'"):
        fill_all(six, tmp_path / "out", plan=Plan(scheduler="tcp://127.0.0.1:9"))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with stand-ins for Slurm's sbatch and scancel. They copy a job's script there and run `run` in it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    sbatch = (
        f'#!/bin/bash\ncp "$1" {tools}/script\n[ -f {tools}/run ] && . {tools}/run\necho "Submitted batch job $!1"\n'
    )
    for name, text in {"sbatch": sbatch, "scancel": "#!/bin/bash\nkill -- -${1%1}\n"}.items():
        (tools / name).write_text(text, encoding="utf-8")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    return tools


SLURM = Plan(workers=2, slurm="brains", memory="2GB", time="00:30:00", directives=("--gres=gpu:1",))


def test_slurm_runs_the_workers_as_jobs(six, tmp_path, slurm):
    (slurm / "run").write_text(f'setsid bash "$1" >>{slurm}/log 2>&1 &\n', encoding="utf-8")
    counts, _ = fill_all(six, tmp_path / "out", plan=SLURM)
    assert counts == {"filled": 6, "present": 0, "failed": 0}


def test_the_script_of_a_slurm_job_has_the_queue_the_limits_and_the_rules_of_the_workers(slurm):
    with cluster.connect(SLURM, scans=6):
        ended = time.monotonic() + 60
        while not (slurm / "script").exists() and time.monotonic() < ended:
            time.sleep(0.1)
    script = (slurm / "script").read_text(encoding="utf-8")
    for line in ("-p brains", "-t 00:30:00", "--mem=2G", "--cpus-per-task=1", "-n 1", "--gres=gpu:1"):
        assert f"#SBATCH {line}\n" in script
    start = next(line for line in script.splitlines() if "--nthreads" in line)
    assert "--nthreads 1 --memory-limit 1.86GiB " in start  # 2 GB: the worker ends before Slurm ends the job
    lines = script.splitlines()
    variables = dict(line.removeprefix("export ").split("=") for line in lines if line.startswith("export DASK_"))
    assert max(n for n, line in enumerate(lines) if line.startswith("export DASK_")) < lines.index(start)
    understood = dask.config.collect([], env=variables)  # as Dask reads them in the job
    for rule, value in cluster.OF_WORKERS.items():
        assert dask.config.get(rule, config=understood) is value


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"scheduler": "tcp://x:1", "slurm": "q"}, "not both"),
        ({"scheduler": "tcp://x:1", "workers": 2}, "has its own workers"),
        ({"workers": 0}, "must be 1 or more"),
        ({"workers": 3, "gpus": 2}, "A GPU serves one worker and there are 2"),
    ],
)
def test_plans_that_make_no_sense_are_refused(options, problem):
    with pytest.raises(InputError, match=problem):
        Plan(**options)


def test_workers_follow_from_cores_memory_and_work(monkeypatch):
    monkeypatch.setattr("dask.system.CPU_COUNT", 8)
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 6e9)
    assert cluster.local_workers(Plan(), 100) == (4, 2, 1.5e9)  # memory for four
    assert cluster.local_workers(Plan(), 2) == (2, 4, 3e9)  # two scans
    assert cluster.local_workers(Plan(workers=1), 100) == (1, 8, 6e9)
    assert cluster.local_workers(Plan(gpus=1), 100)[0] == 1


def test_masks_of_all_sessions_and_files_beside_each_other_come_through_the_workers(tmp_path):
    dataset = make_dataset(tmp_path / "data")
    for session in ("1", "2"):
        add_scan(dataset, f"sub-01_ses-{session}")
    add_mask(dataset, "sub-01_ses-1")
    counts, _ = fill_all(dataset, tmp_path / "out", one_mask=True)
    assert counts["filled"] == 2
    page = (tmp_path / "out" / "sub-01.html").read_text(encoding="utf-8")
    assert page.count('<section class="scan"') == 2
    assert "sub-01.html" in files_under(tmp_path / "out")
