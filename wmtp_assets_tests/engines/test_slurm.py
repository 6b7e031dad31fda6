"""Slurm with two nodes: the whole graph, and what happens when something dies: real processes,
really killed.

A test holds the lock of the artifact that the step is to make. So the step waits, for as long as
the test wants, where nothing is made yet.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import pytest

from wmtp_assets.components.engines import NOT_AGAIN
from wmtp_assets.components.hosts import commit
from wmtp_assets.components.runs import PROCESS_TAG, process_of
from wmtp_assets_tests.engines.conftest import KEY, lose
from wmtp_assets_tests.engines.graph import files_with, run_everything
from wmtp_assets_tests.engines.outcomes import Outcome, outcome
from wmtp_assets_tests.engines.programs import (
    PASSWORD,
    Postgres,
    Slurm,
    descendants,
    eventually,
)
from wmtp_assets_tests.engines.site import PROJECT, Site

pytestmark = pytest.mark.engines

KINDS = dg.DagsterEventType


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Outcome:
    """What the table says of the test."""
    return request.function.outcome


def test_graph(empty_site: Callable[..., Site], cluster: Slurm, database: Postgres) -> None:
    """Same bytes as in one process, both nodes work, and nobody is shown the password of the
    database: not in the history, in logs, in files, nor by Slurm."""
    site = empty_site("slurm", **cluster.environment)
    run = run_everything(site, "slurm")
    shown = cluster.run("scontrol", "show", "job", "--details")
    assert "NodeList=a\n" in shown and "NodeList=b\n" in shown
    assert PASSWORD not in shown
    assert PASSWORD not in cluster.run("squeue", "--states=all", "--format=%all")
    assert PASSWORD not in site.log.read_text()
    assert not files_with(site.home, PASSWORD)
    assert PASSWORD not in site.dump()
    assert site.status(run) == "SUCCESS"


@contextmanager
def waiting(site: Site, engine: str = "slurm") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A run whose step waits for a lock until the end of the block; then the run ends."""
    before = site.runs()
    with site.store.lock(KEY):
        process = site.start(KEY, engine)
        (run,) = site.newest(before)
        site.step_is_running(run.run_id)
        yield run.run_id, process
    site.finish(process)


def jobs(cluster: Slurm, states: str = "running") -> list[list[str]]:
    """Number, node and name of the jobs in some states."""
    said = cluster.run("squeue", "-h", f"--states={states}", "--format=%A|%N|%j")
    return [line.split("|") for line in said.splitlines()]


def steps_of(cluster: Slurm) -> list[int]:
    """The processes of steps that run on a node."""
    stepds = [pid for node in "ab" for pid in cluster.pids(node)]
    return [pid for stepd in stepds for pid in descendants(stepd) if is_step(pid)]


def is_step(pid: int) -> bool:
    try:
        return b"execute_step" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@outcome(
    "A step is killed",
    "Slurm; `kill -9` of its process",
    "SUCCESS",
    1,
    "missed at the next poll; a new job makes the artifact",
)
def test_killed_step(slurm_site: Site, cluster: Slurm, row: Outcome) -> None:
    """No memory, or an administrator: the step cannot say that it ended."""
    with waiting(slurm_site) as (run, _):
        (pid, *_) = eventually(lambda: steps_of(cluster), "the process of the step")
        os.kill(pid, signal.SIGKILL)
        retried = KINDS.STEP_UP_FOR_RETRY
        (why,) = eventually(lambda: slurm_site.events(run, retried), "the retry")
        assert "as FAILED, by signal 9" in why or "as FAILED, exit code 137" in why
    row.holds(slurm_site, run)


@outcome(
    "A step is killed",
    "multiprocess; `kill -9` of its process",
    "SUCCESS",
    1,
    "missed at once; a new process makes the artifact",
)
def test_killed_step_of_multiprocess(site: Site, row: Outcome) -> None:
    """One step that asked for all memory must not end the others."""
    lose(site)
    with waiting(site, "multiprocess") as (run, _):
        (entry,) = site.history.all_logs(run, of_type=KINDS.STEP_WORKER_STARTED)
        assert entry.dagster_event is not None
        pid = entry.dagster_event.engine_event_data.metadata["pid"].value
        os.kill(int(str(pid)), signal.SIGKILL)
        eventually(lambda: site.events(run, KINDS.STEP_UP_FOR_RETRY), "the retry")
    row.holds(site, run)


@outcome(
    "A node is killed",
    "Slurm; `kill -9` of `slurmd` and all its processes",
    "SUCCESS",
    1,
    "Slurm says NODE_FAIL after `SlurmdTimeout`; the new job runs on the other node",
)
def test_killed_node(slurm_site: Site, cluster: Slurm, row: Outcome) -> None:
    """Power: the job is gone with its node."""
    with waiting(slurm_site) as (run, _):
        ((_, node, _),) = jobs(cluster)
        cluster.configure(slurmd_timeout=15)
        cluster.kill(node)
        retried = KINDS.STEP_UP_FOR_RETRY
        (why,) = eventually(lambda: slurm_site.events(run, retried), "the retry")
        assert f"on {node} as NODE_FAIL" in why
        cluster.configure()
        ((_, other, _),) = eventually(lambda: jobs(cluster), "the new job")
        assert other != node
    cluster.start_node(node)
    row.holds(slurm_site, run)


@outcome(
    "A step fails",
    "Slurm; a file it reads is damaged",
    "FAILURE",
    0,
    "its own error, in the words of `wmtp`",
)
def test_step_that_fails(slurm_site: Site, row: Outcome) -> None:
    """It would fail again: a retry is for what died."""
    store = slurm_site.store
    path = store.path(store.catalogue["humaneval_processed"], "processed/test.jsonl")
    kept = path.read_bytes()
    path.unlink()
    path.write_bytes(kept[:-2] + b" \n")
    before = slurm_site.runs()
    assert slurm_site.finish(slurm_site.start(KEY, "slurm")) == 1
    path.write_bytes(kept)
    (run,) = slurm_site.newest(before)
    row.holds(slurm_site, run.run_id)
    (why,) = slurm_site.events(run.run_id, KINDS.STEP_FAILURE)
    assert "test.jsonl" in why and "wmtp repair" in why


@outcome(
    "A job is cancelled by a person",
    "Slurm; `scancel`",
    "FAILURE",
    0,
    "so is one that ran out of time or memory: it would again",
)
def test_cancelled_job(slurm_site: Site, cluster: Slurm, row: Outcome) -> None:
    """Whoever cancels a job does not want it started again."""
    with waiting(slurm_site) as (run, _):
        ((number, _, _),) = jobs(cluster)
        cluster.run("scancel", number)
        failed = KINDS.STEP_FAILURE
        (why, *_) = eventually(lambda: slurm_site.events(run, failed), "the failure")
        # Slurm sends SIGTERM, upon which a step says so itself, and after KillWait SIGKILL
        assert "Interrupted" in why or ("as CANCELLED" in why and NOT_AGAIN in why)
    row.holds(slurm_site, run)


@outcome(
    "The database is gone for twenty seconds",
    "Slurm; PostgreSQL stopped at once and started again while the run and a step use it",
    "SUCCESS",
    0,
    "both ask again until it answers",
)
def test_database_is_lost_for_seconds(slurm_site: Site, database: Postgres, row: Outcome) -> None:
    """A restart or a failover of it is not a reason to lose a run of days. Dagster itself gives up
    after eleven seconds."""
    with waiting(slurm_site) as (run, process):
        database.stop()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        database.start()
    row.holds(slurm_site, run)


@outcome(
    "Slurm's controller is restarted",
    "Slurm; `kill -9` of `slurmctld`, five seconds without it",
    "SUCCESS",
    0,
    "the job continues, and so does the run",
)
def test_controller_of_slurm_is_restarted(slurm_site: Site, cluster: Slurm, row: Outcome) -> None:
    """A question that is not answered says nothing about the job."""
    with waiting(slurm_site) as (run, process):
        cluster.kill("slurmctld")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        cluster.start_controller()
        eventually(lambda: "UP" in cluster.run("scontrol", "ping"), "slurmctld")
    row.holds(slurm_site, run)


@pytest.fixture
def as_daemon(slurm_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is what a daemon is that was started for another engine."""
    for name, value in slurm_site.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WMTP_ENGINE", "in_process")
    monkeypatch.chdir(PROJECT)


def taken_over(site: Site, run: str, process: subprocess.Popen[bytes]) -> dg.DagsterRun:
    """The run, whose process was killed, once another one waits for its steps: started by what the
    daemon asks at each poll of its run monitoring."""
    process.kill()
    process.wait()
    instance = site.history
    record = instance.get_run_by_id(run)
    assert record is not None
    instance.run_launcher.check_run_worker_health(record)
    record = instance.get_run_by_id(run)
    assert record is not None
    pid = int(record.tags[PROCESS_TAG].split()[0])
    assert process_of(pid) == record.tags[PROCESS_TAG] and pid != process.pid
    health = instance.run_launcher.check_run_worker_health(record)
    assert health.status.value == "RUNNING"
    said = "Checking on status of in-progress step"
    found = KINDS.ENGINE_EVENT
    eventually(lambda: any(said in text for text in site.events(run, found)), "the new process")
    return record


@outcome(
    "The process of the run is killed",
    "Slurm; `kill -9`; then what the daemon asks at each poll of its run monitoring",
    "SUCCESS",
    0,
    "the job continues; a new process finds it by its name and waits for it",
)
@pytest.mark.usefixtures("as_daemon")
def test_process_of_the_run_is_killed(slurm_site: Site, cluster: Slurm, row: Outcome) -> None:
    """The node with the controller was restarted: steps on other nodes do not care. With the
    settings of the daemon, the run made everything again in one process, beside its jobs."""
    with waiting(slurm_site) as (run, process):
        before = jobs(cluster)
        taken_over(slurm_site, run, process)
        assert jobs(cluster) == before
    eventually(lambda: slurm_site.status(run) != "STARTED", "the end of the run")
    row.holds(slurm_site, run)
    started = slurm_site.events(run, KINDS.STEP_START)
    assert len(started) == 1  # the artifact with its checks


@outcome(
    "A run that another process took over is cancelled",
    "Slurm; as above; then what the web UI asks when a run is terminated",
    "CANCELED",
    0,
    "its jobs are cancelled too",
)
@pytest.mark.usefixtures("as_daemon")
def test_cancelled_run_that_was_taken_over(slurm_site: Site, cluster: Slurm, row: Outcome) -> None:
    """Nobody has a terminal with that process, and no server started it."""
    with waiting(slurm_site) as (run, process):
        taken_over(slurm_site, run, process)
        assert slurm_site.history.run_launcher.terminate(run)
        eventually(lambda: slurm_site.status(run) == "CANCELED", "the end of the run")
        eventually(lambda: not jobs(cluster), "the end of the job")
    row.holds(slurm_site, run)


def node_within(cluster: Slurm, name: str, mount: str) -> None:
    """Start a node again in a mount namespace of its own, where something else is mounted."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a mount namespace: run as root, on Linux")
    cluster.kill(name)
    script = f'{mount} && exec "$0" "$@"'
    cluster.start_node(name, within=("unshare", "-m", "sh", "-c", script))


@contextmanager
def only(cluster: Slurm, name: str, mount: str) -> Iterator[None]:
    """Jobs run on that node only, in which something else is mounted."""
    other = {"a": "b", "b": "a"}[name]
    node_within(cluster, name, mount)
    cluster.run("scontrol", "update", f"nodename={other}", "state=drain", "reason=test")
    try:
        yield
    finally:
        cluster.run("scontrol", "update", f"nodename={other}", "state=resume")
        cluster.kill(name)
        cluster.start_node(name)


@outcome(
    "A worker has another commit",
    "Slurm; a node in a mount namespace with a changed file of the package",
    "FAILURE",
    0,
    "refused before the step does anything; the error names both commits",
)
def test_worker_with_another_commit(
    slurm_site: Site, cluster: Slurm, row: Outcome, tmp_path: Path
) -> None:
    """Parts of one artifact that two versions made would fit, and be wrong."""
    package = shutil.copytree(
        PROJECT / "wmtp_assets",
        tmp_path / "wmtp_assets",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    with (package / "datasets/views.py").open("a") as file:
        file.write("\n# changed\n")
    mount = f"mount --bind {package} {PROJECT / 'wmtp_assets'}"
    before = slurm_site.runs()
    with only(cluster, "b", mount):
        assert slurm_site.finish(slurm_site.start(KEY, "slurm")) == 1
    (run,) = slurm_site.newest(before)
    row.holds(slurm_site, run.run_id)
    (why,) = slurm_site.events(run.run_id, KINDS.STEP_FAILURE)
    assert f"started with commit {commit()}, and the worker on {socket.gethostname()} has " in why
    assert why.count("(sources ") == 2


@outcome(
    "No other host sees the storage root",
    "Slurm; a node in a mount namespace with an empty filesystem in its place",
    "FAILURE",
    0,
    "one error before the first step: a job on another node looks",
)
def test_root_that_is_not_shared(slurm_site: Site, cluster: Slurm, row: Outcome) -> None:
    """A folder of its own on every node: each artifact would be missing on the next. A step that
    comes to such a host, when the one that looked was another, is refused too."""
    look = {"poll_seconds": 2, "look_seconds": 120}
    said = f"the storage root {slurm_site.root} on {socket.gethostname()} is not the one of "
    with only(cluster, "b", f"mount -t tmpfs none {slurm_site.root}"):
        for config, kind in ((look, KINDS.RUN_FAILURE), (None, KINDS.STEP_FAILURE)):
            before = slurm_site.runs()
            assert slurm_site.finish(slurm_site.start(KEY, "slurm", config=config)) == 1
            (run,) = slurm_site.newest(before)
            row.holds(slurm_site, run.run_id)
            (why,) = slurm_site.events(run.run_id, kind)
            assert said in why and "Mount the same shared folder on every host" in why
            assert bool(slurm_site.events(run.run_id, KINDS.STEP_START)) is (config is None)


@outcome(
    "Two hosts make the same artifact",
    "in-process; two network, mount and host name namespaces, one kernel and filesystem",
    "SUCCESS",
    0,
    "the second waits for the lock of the first, and leaves what is there as it is",
)
def test_same_asset_from_two_hosts(site: Site, database: Postgres, row: Outcome) -> None:
    """Two people press the button, on two head nodes."""
    within = ["unshare", "--net", "--mount", "--uts", "sh", "-c"]
    if subprocess.run([*within, "hostname one"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make namespaces: run as root, on Linux")
    lose(site)
    before = site.runs()
    url = database.url_by_socket()
    with ExitStack() as stack:
        stack.enter_context(site.store.lock(KEY))
        processes = [
            site.start(
                KEY,
                "in_process",
                within=(*within, f'hostname {name} && exec "$0" "$@"'),
                WMTP_DATABASE_URL=url,
            )
            for name in ("one", "two")
        ]
        runs = site.newest(before, count=2)
        for run in runs:
            site.step_is_running(run.run_id)
    assert [site.finish(process) for process in processes] == [0, 0]
    made = []
    for run in runs:
        row.holds(site, run.run_id)
        (entry,) = site.history.all_logs(run.run_id, of_type=KINDS.ASSET_MATERIALIZATION)
        assert entry.asset_materialization is not None
        made.append(entry.asset_materialization.metadata["made"].value)
    assert sorted(map(str, made)) == ["made", "unchanged"]
