"""``make ui`` with real processes: what it says, what it refuses, and that all of it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from wmtp_assets_tests.components.test_runs import INSTANCES
from wmtp_assets_tests.pages import PROJECT, copy_project
from wmtp_assets_tests.quick import thinned
from wmtp_assets_tests.webserver import serving

COMMAND = "source activate.sh; exec python -m wmtp_assets.components.ui"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder like the checkout, whose storage root is empty."""
    folder = tmp_path / "project"
    copy_project(folder)
    (folder / "wmtp_assets").symlink_to(PROJECT / "wmtp_assets")
    (folder / ".venv").symlink_to(sys.prefix)
    for name in ("DAGSTER_HOME", "WMTP_SOURCE", "WMTP_UI_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(tmp_path / "storage"))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def started(project: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """The process of ``make ui``; it and what it started are gone afterwards."""
    process = subprocess.Popen(
        ["bash", "-c", f"{COMMAND} --port {port}"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=(project / "ui.log").open("w"),
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for pid in (process.pid, *below(process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def below(parent: int) -> list[int]:
    """Every process that a process started, and what those started."""
    said = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in said.splitlines()]
    found, new = list[int](), [parent]
    while new:
        new = [int(pid) for pid, of, state in rows if int(of) in new and state[0] != "Z"]
        found += new
    return found


def status(url: str, **headers: str) -> int:
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.long
@pytest.mark.parametrize("how", thinned([signal.SIGINT, signal.SIGTERM], [signal.SIGINT]), ids=str)
def test_all_of_it_ends(project: Path, how: signal.Signals) -> None:
    """Web server, daemon and code server too; the port can be used at once."""
    port = free_port()
    with started(project, port) as ui:
        assert ui.stdout is not None
        *said, log, last = [ui.stdout.readline() for _ in range(5)]
        assert re.fullmatch(r"  log \.dagster/sample/logs/ui-[0-9-]+\.log\n", log)
        assert [*said, last] == [
            f"Web UI: http://127.0.0.1:{port}\n",
            f"  source sample, storage root {project.parent / 'storage'}\n",
            f"  Dagster instance {project / '.dagster/sample'}\n",
            "  Ctrl-C stops it.\n",
        ]
        url = f"http://127.0.0.1:{port}/server_info"
        assert status(url) == 200
        assert status(url, Origin="http://evil.example") == 403
        others = below(ui.pid)
        assert len(others) >= 4  # dagster dev, code server, web server, daemon
        second = subprocess.run(
            ["bash", "-c", f"{COMMAND} --port {port}"],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 64
        assert f"port {port} of 127.0.0.1 cannot be used" in second.stderr
        assert second.stderr.endswith(f"make ui PORT={port + 1}\n")
        assert status(url) == 200

        ui.send_signal(how)
        assert ui.wait(300) == 0, (project / "ui.log").read_text()
        assert (project / "ui.log").read_text() == "", "nothing but the address is said"
        assert not [pid for pid in others if alive(pid)]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody waited for does not."""
    said = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return said.stdout.strip()[:1] not in ("", "Z")


@pytest.mark.long
def test_service_that_ends_by_itself(project: Path) -> None:
    """A web UI without its web server would look as if it ran."""
    port = free_port()
    with started(project, port) as ui:
        assert ui.stdout is not None and ui.stdout.readline().startswith("Web UI")
        others = below(ui.pid)
        said = subprocess.run(["ps", "-A", "-o", "pid=,args="], capture_output=True, text=True)
        (server,) = re.findall(rf"(?m)^ *(\d+) .*-m dagster_webserver --port {port} ", said.stdout)
        os.kill(int(server), signal.SIGKILL)
        assert ui.wait(300) == 1
        assert not [pid for pid in others if alive(pid)]
    assert "ended by itself" in (project / "ui.log").read_text()


@pytest.mark.long
def test_instance_without_the_guard_is_not_served(project: Path) -> None:
    """Somebody's own dagster.yaml: it says which lines are missing, and nothing is left running."""
    for name in INSTANCES:
        path = project / name
        text = re.sub(r"(?m)^instance_class:.*\n(  .*\n)+", "", path.read_text())
        path.write_text(text)
    with started(project, free_port()) as ui:
        assert ui.wait(300) == 1
        assert ui.stdout is not None and ui.stdout.read() == ""
        time.sleep(0.1)
        assert below(ui.pid) == []
    assert "instance_class" in (project / "ui.log").read_text()


@pytest.mark.long
@pytest.mark.parametrize("command", ["dagster dev", "dagster-webserver -w workspace.yaml"])
def test_documented_commands_are_guarded_too(project: Path, command: str) -> None:
    """The guard comes with the instance, and not with one way to start a web server."""
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    subprocess.run(
        ["bash", "-c", "source activate.sh; python -m wmtp_assets.components.instance"],
        cwd=project,
        check=True,
    )
    with serving(f"source activate.sh; exec {command}", project, environment) as url:
        assert status(f"{url}/server_info") == 200
        assert status(f"{url}/server_info", Host="evil.example") == 403
        assert status(f"{url}/graphql?query=mutation%20%7B%20__typename%20%7D") == 405


def test_make_takes_a_port() -> None:
    """As the help of make says."""
    said = subprocess.run(
        ["make", "-n", "ui", "PORT=3001"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert "python -m wmtp_assets.components.ui --port 3001" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--port", "0"], "--port"), (["--port", "x"], "--port"), (["3000"], "unexpected")],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    """Before anything is started."""
    done = subprocess.run(
        [sys.executable, "-m", "wmtp_assets.components.ui", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert said in done.stderr


def test_malformed_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said at once, and not by a web server that nobody reaches."""
    monkeypatch.setenv("WMTP_UI_HOSTS", "https://x")
    done = subprocess.run(
        [sys.executable, "-m", "wmtp_assets.components.ui"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr[:18]) == (64, "ui: WMTP_UI_HOSTS:")
