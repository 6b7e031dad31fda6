"""Ray with two nodes: the whole graph, and what happens when something dies: real processes,
really killed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from wmtp_assets.components.engines import NOT_AGAIN
from wmtp_assets.components.engines import ray as ray_engine
from wmtp_assets_tests.engines.conftest import KEY, SECOND, lose
from wmtp_assets_tests.engines.graph import files_with, run_everything
from wmtp_assets_tests.engines.outcomes import outcome
from wmtp_assets_tests.engines.programs import PASSWORD, Ray, descendants, eventually, ray
from wmtp_assets_tests.engines.site import Site

pytestmark = pytest.mark.engines

RETRY = dg.DagsterEventType.STEP_UP_FOR_RETRY
LOOK = {"poll_seconds": 2, "look_seconds": 120}


@pytest.fixture(scope="module")
def cluster(site: Site) -> Iterator[Ray]:
    """Ray, whose nodes have the variables of the site."""
    with ray(site.variables) as cluster:
        yield cluster


class Jobs:
    """The client of the jobs API, for one job."""

    def __init__(self) -> None:
        self.submitted: dict[str, Any] = {}
        self.status = ""
        self.error: Exception | None = None
        self.nodes: list[dict[str, Any]] = []

    def submit_job(self, **options: Any) -> str:
        self.submitted = options
        return options["submission_id"]

    def get_job_status(self, submission_id: str) -> Any:
        from ray.job_submission import JobStatus

        if self.error:
            raise self.error
        return JobStatus(self.status)

    def stop_job(self, submission_id: str) -> bool:
        if self.error:
            raise self.error
        return True

    def _do_request(self, method: str, endpoint: str) -> Any:
        body = {"data": {"summary": [{"raylet": node} for node in self.nodes]}}
        return SimpleNamespace(ok=endpoint == "/nodes?view=summary", json=lambda: body)


@pytest.fixture
def jobs() -> Jobs:
    """In place of a cluster."""
    pytest.importorskip("ray", reason="not installed: make test-engines")
    return Jobs()


@pytest.fixture
def handler(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The step handler of the engine."""
    import dagster_ray.core.executor as executor

    event = SimpleNamespace(step_worker_starting=lambda *_, **__: None)
    monkeypatch.setattr(executor, "DagsterEvent", event)
    none: dict[str, Any] = dict.fromkeys(("num_cpus", "num_gpus", "memory", "resources"))
    client: Any = jobs
    return ray_engine._watching(
        executor.RayStepHandler(client=client, env_vars=None, runtime_env=None, **none)
    )


def context_of(**tags: str) -> Any:
    """Of a step."""
    return SimpleNamespace(
        execute_step_args=SimpleNamespace(
            step_keys_to_execute=["a"],
            run_id="7f",
            known_state=None,
            get_command_args=lambda **_: ["dagster", "api", "execute_step"],
            get_command_env=list,
        ),
        dagster_run=SimpleNamespace(job_name="small", remote_job_origin=None),
        step_tags={"a": tags},
        get_step_context=lambda key: None,
    )


def test_job_of_a_step(handler: Any, jobs: Jobs) -> None:
    """It asks for a CPU, or Ray starts all of them on the head; one that looks asks for a node."""
    list(handler.launch_step(context_of()))
    assert shlex.split(jobs.submitted["entrypoint"])[0] == sys.executable
    assert jobs.submitted["entrypoint_num_cpus"] == 1
    assert "entrypoint_label_selector" not in jobs.submitted
    list(handler.launch_step(context_of(**{ray_engine.NODE_TAG: "1b"})))
    assert jobs.submitted["entrypoint_label_selector"] == {"ray.io/node-id": "1b"}
    list(handler.launch_step(context_of()))
    assert "entrypoint_label_selector" not in jobs.submitted


@pytest.mark.parametrize(
    ("status", "healthy"),
    [("PENDING", [True] * 2), ("RUNNING", [True] * 2), ("SUCCEEDED", [True, False])],
)
def test_health_of_a_job(handler: Any, jobs: Jobs, status: str, healthy: list[bool]) -> None:
    """One that ended, and whose step did not say so, is missed at the second poll."""
    jobs.status = status
    assert [handler.check_step_health(context_of()).is_healthy for _ in healthy] == healthy


def test_stopped_job_is_not_started_again(handler: Any, jobs: Jobs) -> None:
    """``ray job stop``: it was "running" forever."""
    jobs.status = "STOPPED"
    handler.check_step_health(context_of())
    assert NOT_AGAIN in (handler.check_step_health(context_of()).unhealthy_reason or "")


@pytest.mark.parametrize(
    ("error", "healthy"),
    [
        (RuntimeError("Request failed with status code 404: Job a does not exist."), False),
        (RuntimeError("Request failed with status code 500: no more file handles."), True),
        (ConnectionError("the head is being restarted"), True),
    ],
    ids=["gone", "500", "unreachable"],
)
def test_head_that_cannot_say(handler: Any, jobs: Jobs, error: Exception, healthy: bool) -> None:
    """An answer of 500 was a job that is gone: three jobs made one artifact at the same time."""
    jobs.error = error
    for _ in range(3):
        assert handler.check_step_health(context_of()).is_healthy is healthy


def test_job_that_cannot_be_stopped_keeps_no_other(
    handler: Any, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster asks for one step after another, and an error was the end of that."""
    said: list[str] = []
    event = SimpleNamespace(
        engine_event=lambda context, message, *_, **__: said.append(message),
    )
    monkeypatch.setattr("dagster_ray.core.executor.DagsterEvent", event)
    monkeypatch.setattr(ray_engine, "DagsterEvent", event)
    jobs.error = RuntimeError("Request failed with status code 500: no.")
    list(handler.terminate_step(context_of()))
    assert "ray job stop dagster-step-" in said[-1]


def test_look_is_from_another_host(handler: Any, jobs: Jobs) -> None:
    """Where there is one that is alive."""
    executor: Any = SimpleNamespace(_step_handler=handler)
    run: Any = None
    here = {"nodeId": "1a", "nodeManagerHostname": socket.gethostname(), "state": "ALIVE"}
    dead = {"nodeId": "1b", "nodeManagerHostname": "b", "state": "DEAD"}
    jobs.nodes = [here, dead]
    assert ray_engine._elsewhere(executor, run) == {}
    jobs.nodes = [here, dead, {**dead, "nodeId": "1c", "state": "ALIVE"}]
    assert ray_engine._elsewhere(executor, run) == {ray_engine.NODE_TAG: "1c"}


def test_graph(empty_site: Callable[..., Site], cluster: Ray) -> None:
    """Same bytes as in one process, both nodes work, and the jobs API, which asks nobody who they
    are, does not have the password of the database."""
    site = empty_site("ray")
    run_everything(site, "ray", RAY_ADDRESS=cluster.address)
    shown = cluster.shown_jobs()
    assert len({job["driver_node_id"] for job in shown}) == 2
    assert PASSWORD not in json.dumps(shown)
    assert not files_with(site.home, PASSWORD)


def steps_of(cluster: Ray, node: str) -> list[int]:
    """The processes of steps on a node."""
    found = []
    for pid in descendants(cluster.nodes[node].pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"execute_step" in words:
            found.append(pid)
    return found


@outcome(
    "A step is killed",
    "Ray; `kill -9` of its process",
    "SUCCESS",
    1,
    "missed at the next poll; a new job makes the artifact",
)
def test_killed_step(site: Site, cluster: Ray, request: pytest.FixtureRequest) -> None:
    """No memory, or an administrator: the step cannot say that it ended."""
    lose(site)
    before = site.runs()
    with site.store.lock(KEY):
        process = site.start(KEY, "ray", RAY_ADDRESS=cluster.address)
        (run,) = site.newest(before)
        site.step_is_running(run.run_id)
        for pid in [pid for node in cluster.nodes for pid in steps_of(cluster, node)]:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: site.events(run.run_id, RETRY), "the retry")
    site.finish(process)
    request.function.outcome.holds(site, run.run_id)


@outcome(
    "A node is killed",
    "Ray; `kill -9` of `raylet` and all its processes",
    "SUCCESS",
    1,
    "the step of the other node continues; the new job takes its turn there",
)
def test_killed_node(site: Site, cluster: Ray, request: pytest.FixtureRequest) -> None:
    """Power: the job is gone with its node."""
    lose(site)
    store = site.store
    store.path(store.catalogue[SECOND], "test_small.jsonl").unlink()
    before = site.runs()
    with store.lock(KEY), store.lock(SECOND):
        process = site.start(f"{KEY},{SECOND}", "ray", RAY_ADDRESS=cluster.address)
        (run,) = site.newest(before)
        site.step_is_running(run.run_id, count=2)
        eventually(lambda: steps_of(cluster, "second"), "a step on the second node")
        cluster.kill("second")
        (why,) = eventually(lambda: site.events(run.run_id, RETRY), "the retry")
        assert "Ray job" in why
    site.finish(process)
    request.function.outcome.holds(site, run.run_id)


@outcome(
    "No other host sees the storage root",
    "Ray; the second node in mount and host name namespaces, with an empty filesystem in its place",
    "FAILURE",
    0,
    "one error before the first step: a job on that node looks",
)
def test_root_that_is_not_shared(site: Site, cluster: Ray, request: pytest.FixtureRequest) -> None:
    """A folder of its own on every node."""
    if subprocess.run(["unshare", "-mu", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make namespaces: run as root, on Linux")
    if "second" in cluster.nodes:
        cluster.kill("second")
    eventually(lambda: cluster.nodes_alive() == 1, "the end of the second node")
    script = f'hostname second && mount -t tmpfs none {site.root} && exec "$0" "$@"'
    cluster.start_second(within=("unshare", "-mu", "sh", "-c", script))
    before = site.runs()
    assert site.finish(site.start(KEY, "ray", config=LOOK, RAY_ADDRESS=cluster.address)) == 1
    (run,) = site.newest(before)
    request.function.outcome.holds(site, run.run_id)
    (why,) = site.events(run.run_id, dg.DagsterEventType.RUN_FAILURE)
    assert f"the storage root {site.root} on second is not the one of " in why
    assert not site.events(run.run_id, dg.DagsterEventType.STEP_START)
