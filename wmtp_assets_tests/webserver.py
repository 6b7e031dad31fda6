"""Dagster's web server as a process on a free port of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(command: str, project: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Start a web server in the project folder, yield its URL when it answers, and stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = project / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"{command} -h 127.0.0.1 -p {port}"],
            cwd=project,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield _answering(f"http://127.0.0.1:{port}", process, log)
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answering(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=5):
                return url
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    raise AssertionError(f"no answer from {url}: {log.read_text()}")
