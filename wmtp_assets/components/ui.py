"""``make ui``: web UI, daemon and code server of this project, until they are told to stop.

``python -m wmtp_assets.components.ui --port 3001`` starts ``dagster dev``, says where it is
served and what it shows, and ends with everything that it started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import FrameType

import click

from wmtp_assets.base.errors import SpecError, StoreError, WmtpError
from wmtp_assets.base.settings import HOME_VARIABLE, project_folder, read_settings
from wmtp_assets.base.text import printable
from wmtp_assets.components.guard import read_hosts
from wmtp_assets.components.instance import end_of, new_log, prepare_instance, typed

HOST = "127.0.0.1"

PATIENCE = 90
"""Seconds for which services may finish what they do before they are killed; Dagster's own limit
for each is 60."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
def main(port: int) -> None:
    """Serve the web UI on 127.0.0.1, with its daemon; Ctrl-C stops all of it.

    Exit codes: 0 stopped, 1 a service ended by itself or could not be started, 64 wrong usage or
    setting, or the port is in use.
    """
    try:
        sys.exit(serve(port))
    except WmtpError as error:
        click.echo(f"ui: {error}", err=True)
        sys.exit(64 if isinstance(error, SpecError) else 1)


def serve(port: int) -> int:
    """Start the services, and wait for a signal or for their end; the exit code.

    Raises:
        SpecError: if a setting is malformed, or the port is in use.
        StoreError: if the instance is that of another source, or its web server has no guard.
    """
    read_hosts()
    settings = read_settings()
    _is_free(port)
    instance = Path(prepare_instance()).parent
    stopping, log = _Stopping(), new_log(instance, "ui")
    with log.open("wb") as out:
        services = subprocess.Popen(
            [
                *(sys.executable, "-m", "dagster", "dev", "--host", HOST, "--port", str(port)),
                *("--workspace", str(project_folder() / "workspace.yaml")),
            ],
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process only, which then stops the others
        )
    try:
        while services.poll() is None and not stopping.is_asked:
            if _is_guarded(port):
                click.echo(
                    f"Web UI: http://{HOST}:{port}\n"
                    f"  source {settings.source}, storage root {settings.root}\n"
                    f"  Dagster instance {instance}\n"
                    f"  log {typed(log)}\n"
                    "  Ctrl-C stops it."
                )
                break
            time.sleep(0.2)
        while services.poll() is None and not stopping.is_asked:
            time.sleep(0.2)
        if not stopping.is_asked:
            click.echo("ui: a service ended by itself. The log ends:", err=True)
            for line in end_of(log):
                click.echo(f"  {printable(line)}", err=True)
            click.echo(f"Log {typed(log)}", err=True)
        return 0 if stopping.is_asked else 1
    finally:
        _stop(services, stopping)


class _Stopping:
    """Whether this process was told to stop, and how often."""

    def __init__(self) -> None:
        self.times = 0
        for number in _SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.times += 1

    @property
    def is_asked(self) -> bool:
        return self.times > 0


def _is_free(port: int) -> None:
    """Raise a SpecError if something listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SpecError(
                f"port {port} of {HOST} cannot be used ({error.strerror}); another web UI may run "
                f"there. Stop it, or choose another port: make ui PORT={port + 1}"
            ) from None


def _is_guarded(port: int) -> bool:
    """Whether the web server answers, and refuses a request under a foreign name.

    Raises:
        StoreError: if it answers one.
    """
    try:
        connection = HTTPConnection(HOST, port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/server_info", headers={"Host": "another.invalid"})
            status = connection.getresponse().status
    except (OSError, HTTPException):
        return False
    if status == 403:
        return True
    raise StoreError(
        "the web server has no guard against pages of other origins: its dagster.yaml (in "
        f"{HOME_VARIABLE.read() or Path.cwd()}) does not name our class of instance. Add the lines "
        f"under instance_class in {project_folder() / '.dagster/sample/dagster.yaml'}"
    )


def _stop(services: subprocess.Popen[bytes], stopping: _Stopping) -> None:
    """End ``dagster dev`` as Ctrl-C does, and whatever of its session is left after that."""
    asked = stopping.times
    if services.poll() is None:
        services.send_signal(signal.SIGINT)
    end = time.monotonic() + PATIENCE
    while services.poll() is None and time.monotonic() < end and stopping.times <= max(asked, 1):
        time.sleep(0.1)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(services.pid, number)
            for _ in range(100):
                os.killpg(services.pid, 0)
                services.poll()
                time.sleep(0.1)
    services.wait()


if __name__ == "__main__":
    main()
