"""What happens when something dies, on Ray with two nodes: real processes, really killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from wmtp_assets_tests.engines.conftest import KEY, lose
from wmtp_assets_tests.engines.outcomes import outcome
from wmtp_assets_tests.engines.programs import Ray, descendants, eventually, ray
from wmtp_assets_tests.engines.site import Site

pytestmark = pytest.mark.engines

SECOND = "mbpp_small"
"""Made beside :data:`KEY`; Ray's nodes have one CPU each, so that each gets one of the two."""

RETRY = dg.DagsterEventType.STEP_UP_FOR_RETRY


@pytest.fixture(scope="module")
def cluster(site: Site) -> Iterator[Ray]:
    """Ray, whose nodes have the variables of the site."""
    with ray(site.variables) as cluster:
        yield cluster


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
