"""Ray with two nodes: the whole graph, and what happens when something dies: real processes,
really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

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
    "the step of the other node goes on; the new job takes its turn there",
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
