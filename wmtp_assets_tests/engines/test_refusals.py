"""What is out of reach is one error before the first step, however a run is started."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from wmtp_assets_tests.engines.conftest import KEY
from wmtp_assets_tests.engines.programs import (
    SLURM_CONF,
    answers,
    eventually,
    free_ports,
    program,
)
from wmtp_assets_tests.engines.site import PROJECT, Site

pytestmark = pytest.mark.engines

LAUNCH = """
mutation Launch($job: String!) {
  launchRun(executionParams: {
    selector: {
      repositoryLocationName: "wmtp_assets", repositoryName: "__repository__", pipelineName: $job
    }
  }) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""

LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries {
  name
  loadStatus
  locationOrLoadError { __typename ... on PythonError { message } }
} } } }
"""


@pytest.fixture
def no_controller(tmp_path: Path) -> dict[str, str]:
    """Variables of a Slurm whose controller is not there."""
    for name in ("squeue", "sbatch"):
        program(name)
    file = tmp_path / "slurm.conf"
    values = {"folder": tmp_path, "host": "localhost", "user": "root", "slurmd_timeout": 9}
    text = SLURM_CONF.format(ports=free_ports(3), **values).replace("auth/munge", "auth/none")
    file.write_text(text.replace("MessageTimeout=60", "MessageTimeout=2"))
    return {"SLURM_CONF": str(file)}


def refused(site: Site, before: set[str]) -> str:
    """The error of the run that was started since; it had no step."""
    (run,) = site.newest(before)
    eventually(lambda: site.status(run.run_id) == "FAILURE", "the end of the run")
    assert not site.events(run.run_id, dg.DagsterEventType.STEP_START)
    assert not site.events(run.run_id, dg.DagsterEventType.STEP_FAILURE)
    (why,) = site.events(run.run_id, dg.DagsterEventType.RUN_FAILURE)
    return why


def test_controller_out_of_reach(site: Site, no_controller: dict[str, str]) -> None:
    """A run of the command line says which, and what to ask."""
    before = site.runs()
    assert site.finish(site.start(KEY, "slurm", **no_controller)) == 1
    why = refused(site, before)
    assert "the controller of Slurm does not answer (" in why and "scontrol ping" in why


def test_ray_out_of_reach(site: Site) -> None:
    """The address is that of a port on which nobody listens."""
    pytest.importorskip("ray", reason="not installed: make test-engines")
    (port,) = free_ports(1)
    before = site.runs()
    address = f"http://127.0.0.1:{port}"
    assert site.finish(site.start(KEY, "ray", RAY_ADDRESS=address)) == 1
    assert "the Ray cluster cannot be used: " in refused(site, before)


def test_database_out_of_reach(site: Site, tmp_path: Path) -> None:
    """``make install``, ``make materialize`` and ``make ui`` prepare the instance first."""
    (port,) = free_ports(1)
    variables = {"WMTP_DATABASE_URL": f"postgresql://u:very-secret@127.0.0.1:{port}/x"}
    done = subprocess.run(
        [sys.executable, "-m", "wmtp_assets.components.instance"],
        env={**site.variables, **variables},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "very-secret" not in done.stderr + done.stdout
    assert done.stderr.splitlines()[-1].startswith("Error: the database of the Dagster instance, ")
    assert "Traceback" not in done.stderr


@contextmanager
def web_ui(site: Site, **variables: str) -> Iterator[str]:
    """The web UI with its daemon, as ``make ui`` starts it; the address of its GraphQL."""
    (port,) = free_ports(1)
    with site.log.open("ab") as log:
        services = subprocess.Popen(
            [sys.executable, "-m", "wmtp_assets.components.ui", "--port", str(port)],
            env={**site.variables, **variables},
            cwd=PROJECT,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: answers(port) or services.poll() is not None, "the web UI")
        yield f"http://127.0.0.1:{port}/graphql"
    finally:
        services.terminate()
        services.wait()


def ask(address: str, query: str, **variables: str) -> Any:
    """What the web UI asks."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, body, headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["data"]


def loaded(address: str) -> dict[str, Any]:
    """The code location, when it is loaded or was not."""

    def found() -> dict[str, Any] | None:
        (entry,) = ask(address, LOCATIONS)["workspaceOrError"]["locationEntries"]
        return entry if entry["loadStatus"] == "LOADED" else None

    return eventually(found, "the code location")


def test_run_of_the_web_ui(site: Site, no_controller: dict[str, str]) -> None:
    """It fails as one of the command line does, and is not "starting" forever."""
    before = site.runs()
    with web_ui(site, WMTP_ENGINE="slurm", **no_controller) as address:
        assert loaded(address)["locationOrLoadError"]["__typename"] == "RepositoryLocation"
        launched = ask(address, LAUNCH, job="small")["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        assert "the controller of Slurm does not answer (" in refused(site, before)


def test_unknown_engine_in_the_web_ui(site: Site) -> None:
    """The page of the code location says so; nothing can be started."""
    with web_ui(site, WMTP_ENGINE="slrum") as address:
        error = loaded(address)["locationOrLoadError"]
        assert error["__typename"] == "PythonError"
        assert "WMTP_ENGINE='slrum' is not an engine; use one of " in error["message"]
        assert ask(address, LAUNCH, job="small")["launchRun"]["__typename"] != "LaunchRunSuccess"
