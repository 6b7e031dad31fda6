"""``wmtp`` in a process of its own, forked from one that has imported it already.

A start of the interpreter takes half a second, and there are hundreds of commands. That the
installed script starts is seen where pages are typed, where TAB completes, and where libraries are
missing. A forked process has its own arguments, variables, memory, output and exit code.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import SimpleNamespace

_SERVE = f"from {__name__} import serve; serve(int(__import__('sys').argv[1]))"

AT_ONCE = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
"""The module ``time``, in which nobody rests: the client asks five times more of its own."""


def run_wmtp(
    arguments: tuple[str, ...], environment: Mapping[str, str], *, waits: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run ``wmtp``.

    Args:
        waits: whether it waits before it asks a hub again.
    """
    if waits and _of_python(environment) != _of_python(os.environ):
        script = [Path(sys.executable).with_name("wmtp"), *arguments]
        return subprocess.run(script, capture_output=True, text=True, env=environment, check=False)
    with tempfile.TemporaryDirectory() as name:
        out, err = Path(name, "out"), Path(name, "err")
        server = _server()
        server.send((arguments, dict(environment), Path.cwd(), out, err, waits))
        code = server.recv()
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def _of_python(environment: Mapping[str, str]) -> dict[str, str]:
    """What is read when an interpreter starts, and never again."""
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


@cache
def _server() -> Connection:
    """The process that others are forked from; it ends with this one."""
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(descriptor: int) -> None:
    """Fork for every request, and answer with the exit code."""
    from wmtp_assets.cli.main import main
    from wmtp_assets.transfer import arrival

    connection = Connection(descriptor)
    while True:
        try:
            arguments, environment, folder, out, err, waits = connection.recv()
        except EOFError:
            return
        if pid := os.fork():
            connection.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            continue
        connection.close()
        for number, path in ((1, out), (2, err)):
            file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(file, number)
            os.close(file)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [str(Path(sys.executable).with_name("wmtp")), *arguments]
        if not waits:
            from huggingface_hub import file_download
            from huggingface_hub.utils import _http

            arrival.FIRST_WAIT = 0.0
            vars(_http)["time"] = vars(file_download)["time"] = AT_ONCE
        main()
