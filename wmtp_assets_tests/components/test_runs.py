"""What needs real processes: killed runs, what commands and daemon agree on, and automation."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import pytest
import yaml

from wmtp_assets.components.guarded import GuardedInstance
from wmtp_assets.components.instance import prepare_instance
from wmtp_assets.components.runs import HOST_TAG, PROCESS_TAG, LocalRunLauncher, process_of
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.pages import copy_project
from wmtp_assets_tests.quick import thinned
from wmtp_assets_tests.webserver import serving

PROJECT = Path(__file__).parents[2]
INSTANCES = ("dagster.yaml", ".dagster/sample/dagster.yaml", ".dagster/hub/dagster.yaml")
LAUNCH = """mutation { launchRun(executionParams: {
  selector: {jobName: "small", repositoryLocationName: "wmtp_assets",
             repositoryName: "__repository__", assetSelection: [{path: ["humaneval_small"]}]}
}) { __typename ... on PythonError { message } } }"""
SENSORS = """{ sensorsOrError(repositorySelector: {
  repositoryLocationName: "wmtp_assets", repositoryName: "__repository__"
}) { ... on Sensors { results { name sensorState { status } } } } }"""
SCHEDULES = """{ schedulesOrError(repositorySelector: {
  repositoryLocationName: "wmtp_assets", repositoryName: "__repository__"
}) { ... on Schedules { results { name scheduleState { status } } } } }"""
T = TypeVar("T")


def query(url: str, text: str) -> Any:
    """Ask the web server's GraphQL."""
    request = urllib.request.Request(
        f"{url}/graphql",
        data=json.dumps({"query": text}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]


def eventually(what: Callable[[], T | None], seconds: int = 120) -> T:
    """The first value of ``what`` that is true."""
    for _ in range(seconds * 5):
        if value := what():
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder like the checkout, whose run monitoring looks every second."""
    folder = tmp_path / "project"
    copy_project(folder)
    for name in INSTANCES:
        path = folder / name
        path.write_text(path.read_text().replace("interval_seconds: 20", "interval_seconds: 1"))
    (folder / "wmtp_assets").symlink_to(PROJECT / "wmtp_assets")
    (folder / ".venv").symlink_to(sys.prefix)
    for name in ("DAGSTER_HOME", "WMTP_SOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(root))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(folder)
    prepare_instance()
    return folder


@pytest.fixture
def history(project: Path) -> Iterator[dg.DagsterInstance]:
    """The instance that all commands of ``project`` share."""
    with dg.DagsterInstance.from_config(str(project)) as instance:
        yield instance


def start(line: str, project: Path) -> subprocess.Popen[bytes]:
    """Start a line of an activated shell, in a process group of its own."""
    with (project / "command.log").open("w") as log:
        return subprocess.Popen(
            ["bash", "-c", f"source activate.sh; exec {line}"],
            cwd=project,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def recorded(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """The only run, once it recorded its process."""
    return next((run for run in instance.get_runs() if PROCESS_TAG in run.tags), None)


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status.value


def why(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """What the log says of the end of a run."""
    logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    return " ".join(entry.user_message or entry.message for entry in logs)


def test_instances_are_the_same_but_for_their_folder() -> None:
    """What one source's runs are promised, the other's are too, with and without activation."""
    said = [yaml.safe_load((PROJECT / name).read_text()) for name in INSTANCES]
    for document in said:
        for place in ("storage", "compute_logs", "local_artifact_storage"):
            document.pop(place, None)
    assert said[0] == said[1] == said[2]
    assert said[0]["run_launcher"]["class"] == LocalRunLauncher.__name__
    assert said[0]["run_monitoring"]["enabled"]


def test_process_is_told_from_a_later_one_with_its_pid() -> None:
    """Pids are given again, after a restart of the machine even early."""
    sleeping = subprocess.Popen(["sleep", "60"])
    there = process_of(sleeping.pid)
    assert there.startswith(f"{sleeping.pid} ")
    assert process_of(sleeping.pid) == there
    assert process_of(os.getpid()).partition(" ")[2] != there.partition(" ")[2]
    sleeping.kill()
    time.sleep(0.5)
    assert process_of(sleeping.pid) == ""  # a zombie: nobody waited for it yet
    sleeping.wait()
    assert process_of(sleeping.pid) == ""


@pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps here")
def test_process_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has no /proc."""
    monkeypatch.setattr(Path, "exists", lambda path: False)
    sleeping = subprocess.Popen(["sleep", "60"])
    there = process_of(sleeping.pid)
    assert there.startswith(f"{sleeping.pid} ")
    assert there.split()[-1].isdecimal()  # the year
    sleeping.kill()
    sleeping.wait()
    assert process_of(sleeping.pid) == ""


@pytest.mark.parametrize(
    ("tags", "health"),
    [
        ({}, "RUNNING"),
        ({HOST_TAG: "elsewhere", PROCESS_TAG: "1 another boot"}, "RUNNING"),
        ({HOST_TAG: socket.gethostname(), PROCESS_TAG: process_of(os.getpid())}, "RUNNING"),
        ({HOST_TAG: socket.gethostname(), PROCESS_TAG: f"{os.getpid()} another boot"}, "FAILED"),
        ({HOST_TAG: socket.gethostname(), PROCESS_TAG: "4194999 any"}, "FAILED"),
    ],
)
def test_what_cannot_be_seen_is_not_ended(tags: dict[str, str], health: str) -> None:
    """A run of another host may be well."""
    run = dg.DagsterRun("small", tags=tags)
    assert LocalRunLauncher().check_run_worker_health(run).status.value == health


@pytest.mark.parametrize("host", [socket.gethostname(), "elsewhere"], ids=["here", "elsewhere"])
def test_cancelled_run_is_interrupted(host: str) -> None:
    """No server knows the process of a command, nor one that took a run over: nobody could end it.
    One of another host, and a later one with its pid, are let alone."""
    waiting = subprocess.Popen(["sleep", "60"])
    with dg.instance_for_test(
        overrides={
            "run_launcher": {
                "module": LocalRunLauncher.__module__,
                "class": LocalRunLauncher.__name__,
            }
        }
    ) as instance:
        tags = {HOST_TAG: host, PROCESS_TAG: process_of(waiting.pid)}
        run = dg.DagsterRun("small", tags=tags, status=dg.DagsterRunStatus.STARTED)
        later = dg.DagsterRun(
            "small",
            tags={**tags, PROCESS_TAG: f"{waiting.pid} another boot"},
            status=dg.DagsterRunStatus.STARTED,
        )
        for it in (later, run):
            instance.add_run(it)
        assert instance.run_launcher.terminate(later.run_id) is False
        assert waiting.poll() is None
        assert instance.run_launcher.terminate(run.run_id) is (host != "elsewhere")
        assert status(instance, run) == "CANCELING"
        if host == "elsewhere":
            assert waiting.poll() is None
            waiting.kill()
        assert waiting.wait(10) == (-signal.SIGKILL if host == "elsewhere" else -signal.SIGINT)
        assert instance.run_launcher.terminate("0" * 32) is False


class Resuming(LocalRunLauncher):
    """A launcher with which Dagster itself resumes runs, as that of Kubernetes is."""

    @property
    def supports_resume_run(self) -> bool:
        return True


@pytest.mark.parametrize(("state", "resumes"), [("STARTED", True), ("CANCELING", False)])
def test_cancelled_run_leaves_no_jobs_to_a_later_process(state: str, resumes: bool) -> None:
    """Where Dagster itself resumes runs, as its Helm chart is set here, a process that was told to
    end left its jobs running: another one was to find them, also of a run that was cancelled."""
    with dg.instance_for_test(
        overrides={
            "instance_class": {
                "module": GuardedInstance.__module__,
                "class": GuardedInstance.__name__,
            },
            "run_launcher": {
                "module": Resuming.__module__,
                "class": Resuming.__name__,
            },
            "run_monitoring": {"enabled": True, "max_resume_run_attempts": 3},
        }
    ) as instance:
        run = instance.add_run(dg.DagsterRun("small", status=dg.DagsterRunStatus(state)))
        assert instance.run_will_resume(run.run_id) is resumes


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    thinned(
        ["dagster asset materialize --select humaneval_small", "dagster job execute -j small"],
        ["dagster job execute -j small"],
    ),
)
def test_killed_run_of_the_command_line_fails(
    project: Path, store: Store, history: dg.DagsterInstance, command: str
) -> None:
    """No launcher started it, and it is monitored all the same; one that lives is let alone."""
    store.path(store.catalogue["humaneval_small"], "test_small.jsonl").unlink()  # so it is made,
    with store.lock("humaneval_small"):  # and both wait
        killed = start(command, project)
        run = eventually(lambda: recorded(history))
        assert run.tags[PROCESS_TAG] == process_of(killed.pid)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        assert status(history, run) == "STARTED"
        living = start("dagster asset materialize --select humaneval_small", project)
        daemon = start("dagster-daemon run -w workspace.yaml", project)
        try:
            eventually(lambda: status(history, run) == "FAILURE")
            assert f"its process, {killed.pid} on {run.tags[HOST_TAG]}, is gone" in why(
                history, run
            )
            (other,) = (it for it in history.get_runs() if it.run_id != run.run_id)
            eventually(lambda: PROCESS_TAG in history.get_runs(limit=1)[0].tags)
            time.sleep(5)
            assert status(history, other) == "STARTED"
        finally:
            for process in (daemon, living):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.mark.long
def test_run_of_the_web_ui_fails_after_everything_was_killed(
    project: Path, store: Store, history: dg.DagsterInstance
) -> None:
    """As after a power cut: web server, daemon, code server and run are all gone at once, and the
    daemon that is started next morning ends the run."""
    environment = dict(os.environ)
    dev = "source activate.sh; exec dagster dev"
    with store.lock("humaneval_small"):
        with serving(dev, project, environment) as url:
            (answer,) = query(url, LAUNCH).values()
            assert answer["__typename"] == "LaunchRunSuccess", answer
            run = eventually(lambda: recorded(history))
            pid = int(run.tags[PROCESS_TAG].split()[0])
            sessions = {os.getsid(pid)}
            for session in sessions:
                os.killpg(session, signal.SIGKILL)
            eventually(lambda: not process_of(pid))
        assert status(history, run) == "STARTED"
        with serving(dev, project, environment):
            eventually(lambda: status(history, run) == "FAILURE")
        assert f"its process, {pid} on " in why(history, run)


def ticks(instance: dg.DagsterInstance, sensor: str) -> int:
    """How often the daemon evaluated a sensor."""
    states = [it for it in instance.all_instigator_state() if it.instigator_name == sensor]
    found = [instance.get_ticks(it.instigator_origin_id, it.selector_id) for it in states]
    return sum(map(len, found))


@pytest.mark.long
def test_commands_and_daemon_mean_the_same(project: Path, history: dg.DagsterInstance) -> None:
    """With another name of the code location ``sensor start`` would say "started", and the daemon
    would never evaluate it."""
    names = ("automation", "failure_alerts")
    with serving("source activate.sh; exec dagster dev", project, dict(os.environ)) as url:
        for line in (
            f"dagster sensor start {names[0]}",
            f"dagster sensor start {names[1]}",
            "dagster schedule stop integrity_daily",
        ):
            done = start(line, project)
            assert done.wait() == 0, (project / "command.log").read_text()
        eventually(lambda: all(ticks(history, name) for name in names))
        found = query(url, SCHEDULES)["schedulesOrError"]["results"]
        (schedule,) = (it for it in found if it["name"] == "integrity_daily")
        assert schedule["scheduleState"]["status"] == "STOPPED"
        done = start("dagster sensor stop automation", project)
        assert done.wait() == 0
        states = {
            it["name"]: it["sensorState"]["status"]
            for it in query(url, SENSORS)["sensorsOrError"]["results"]
        }
        assert states["automation"] == "STOPPED"
        listed = subprocess.run(
            ["bash", "-c", "source activate.sh; cd /; dagster sensor list; dagster job list"],
            cwd=project,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "Sensor: automation [STOPPED]" in listed
        assert "Sensor: failure_alerts [RUNNING]" in listed
        assert "Job: everything" in listed
    origins = {
        state.origin.repository_origin.code_location_origin.location_name
        for state in history.all_instigator_state()
    }
    assert origins == {"wmtp_assets"}


@pytest.mark.long
def test_daemon_makes_what_is_stale_once(
    project: Path, history: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting was changed while nothing ran; its asset follows when the daemon is back, through
    a check that warns, and then there is peace."""
    (project / "wmtp_assets").unlink()
    shutil.copytree(PROJECT / "wmtp_assets", project / "wmtp_assets")
    monkeypatch.setenv("PYTHONPATH", str(project))
    made = start("dagster asset materialize --select mbpp_processed,mbpp_small", project)
    assert made.wait() == 0, (project / "command.log").read_text()
    spec = project / "wmtp_assets/defs/datasets/mbpp/defs.yaml"
    spec.write_text(spec.read_text().replace("  name:", "  small: {train: 9}\n  name:", 1))
    monkeypatch.setenv("WMTP_AUTOMATION", "1")

    with serving("source activate.sh; exec dagster dev", project, dict(os.environ)):
        eventually(lambda: [run.is_success for run in history.get_runs()] == [True, True], 180)
        seen = ticks(history, "automation")
        eventually(lambda: ticks(history, "automation") > seen + 1)
    first, second = sorted(history.get_run_records(), key=lambda record: record.create_timestamp)
    assert second.dagster_run.asset_selection == {dg.AssetKey("mbpp_small")}
    assert first.dagster_run.run_id != second.dagster_run.run_id
