"""Work on files that may be hostile, in a child process that is used again and again.

A parser in C can end the interpreter (SIGSEGV, SIGBUS) or ask for all memory there is. In the child
that is an error of one call: :class:`ChildDied` names the signal and the file that was being read,
and the next call gets a new child. The child may use :data:`MEMORY`, and ends with its parent.
"""

from __future__ import annotations

import atexit
import importlib
import mmap
import os
import pickle
import queue
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.base.progress import Say, human_bytes, silent

MEMORY = 4 << 30
"""Bytes of memory of its own that the child may have: a backstop, no rule or builder needs it."""

_START = f"from {__name__} import main; main()"
_NOTE = 4096
_note: mmap.mmap | None = None
"""In the child: shared with the parent; holds the path of the file that is being read."""


class ChildDied(WmtpError):
    """The child process ended in the middle of a call.

    Attributes:
        reading: path of the file it read last; empty: none.
        cause: the signal, exit code or lack of memory.
    """

    def __init__(self, reading: str, cause: str) -> None:
        super().__init__(f"reading {reading or 'it'} ended with {cause}")
        self.reading, self.cause = reading, cause

    def __reduce__(self) -> tuple[type[ChildDied], tuple[str, str]]:
        return ChildDied, (self.reading, self.cause)


Run = Callable[..., Any]
"""How a function is called: here (:func:`directly`) or in the child (:func:`call`)."""


def directly(function: Callable[..., Any], /, *args: Any, say: Say = silent) -> Any:
    """``function(*args, say)`` in this process."""
    return function(*args, say)


def reading(path: object) -> None:
    """Note which file is about to be parsed, should the process not survive it."""
    if _note is not None:
        _note[:] = os.fsencode(str(path))[:_NOTE].ljust(_NOTE, b"\0")


def _read_note(note: mmap.mmap) -> str:
    return os.fsdecode(note[:].rstrip(b"\0"))


def call(function: Callable[..., Any], /, *args: Any, say: Say = silent) -> Any:
    """``function(*args, say)`` in the child, with the environment and folder of this process.

    Args:
        function: found by its module and name; it, arguments and result are pickled.
        say: gets the lines that the function says, and its bars where it has any.

    Raises:
        ChildDied: if the child did.
        BaseException: what the function raises.
    """
    global _child
    with _lock:
        _child = _child or _Child()
        try:
            return _child.call(function, args, say)
        except BaseException:
            if not _child.is_idle:  # it died, or the parent was interrupted
                stop()
            raise


def stop() -> None:
    """End the child, if there is one."""
    global _child
    if _child is not None:
        _child.end()
    _child = None


class _Child:
    """The parent's end."""

    def __init__(self) -> None:
        self.is_idle = True
        with tempfile.TemporaryFile() as file:
            file.truncate(_NOTE)
            self._note = mmap.mmap(file.fileno(), _NOTE)
            ours, theirs = socket.socketpair()
            with theirs:
                descriptors = theirs.fileno(), file.fileno()
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _START, *map(str, descriptors)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=descriptors,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )
            self._connection = Connection(ours.detach())

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], say: Say) -> Any:
        self.is_idle = False
        self._note[:] = bytes(_NOTE)
        bar = getattr(say, "bar", None)
        bars: dict[int, Callable[[int], None]] = {}
        name = f"{function.__module__}:{function.__qualname__}"
        folder: Path | None = None
        with suppress(FileNotFoundError):  # somebody removed it
            folder = Path.cwd()
        request = name, args, bar is not None, dict(os.environ), folder
        self._exchange(lambda: self._connection.send(request))
        while True:
            match self._exchange(self._connection.recv):
                case "line", line:
                    say(line)
                case "bar", number, label, total if bar is not None:
                    bars[number] = bar(label, total)
                case "done", number, done:
                    bars[number](done)
                case "result", result:
                    self.is_idle = True
                    return result
                case "error", error:
                    self.is_idle = True
                    raise error

    def _exchange(self, with_child: Callable[[], Any]) -> Any:
        try:
            return with_child()
        except (EOFError, ConnectionError) as error:
            code = self._process.wait()
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise ChildDied(_read_note(self._note), cause) from error

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()


_child: _Child | None = None
_lock = threading.Lock()
atexit.register(stop)


def _after_fork() -> None:
    """A forked process has a child of its own, and no thread that would give the lock back."""
    global _child, _lock
    _child, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


# -- in the child ----------------------------------------------------------------------------------


class _Said:
    """A :data:`Say` that sends what it is told to the parent."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, line: str) -> None:
        self._connection.send(("line", line))


class _SaidWithBars(_Said):
    """One whose parent has a terminal."""

    bars = 0

    def bar(self, name: str, total: int) -> Callable[[int], None]:
        """As :meth:`wmtp_assets.base.progress.Terminal.bar`; told at most a hundred times."""
        number = self.bars = self.bars + 1
        self._connection.send(("bar", number, name, total))
        last = -1

        def update(done: int) -> None:
            nonlocal last
            if (step := 100 * done // max(total, 1)) != last:
                last = step
                self._connection.send(("done", number, done))

        return update


def _receive(connection: Connection, requests: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            requests.put(connection.recv())
    except (EOFError, OSError):
        pass
    except Exception:  # a request that cannot be unpacked here; nobody else would end the process
        traceback.print_exc()
    os._exit(1)


def main() -> None:
    """Do what the parent asks for through the descriptors on the command line, until it ends."""
    global _note
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this one
    with suppress(OSError, ValueError):  # a backstop only: not every system has it
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    descriptor, shared = map(int, sys.argv[1:])
    connection, note = Connection(descriptor), mmap.mmap(shared, _NOTE)
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, requests), daemon=True).start()
    _note = note
    while True:
        name, args, has_bars, environment, folder = requests.get()
        os.environ.clear()
        os.environ.update(environment)
        say = (_SaidWithBars if has_bars else _Said)(connection)
        try:
            if folder is not None:
                os.chdir(folder)
            module, _, function = name.partition(":")
            answer = "result", getattr(importlib.import_module(module), function)(*args, say)
        except MemoryError:
            answer = "error", ChildDied(_read_note(note), f"more than {human_bytes(MEMORY)}")
        except BaseException as error:
            if not isinstance(error, WmtpError | OSError):
                error.add_note(f"in the child process:\n{traceback.format_exc()}")
            answer = "error", error
        try:
            connection.send_bytes(_packed(name, answer))
        except OSError:  # the parent ended
            os._exit(1)


def _packed(name: str, answer: tuple[str, Any]) -> bytes:
    """An answer as the parent unpacks it; one that cannot be unpacked again is an error."""
    try:
        data = pickle.dumps(answer)
        if answer[0] == "error":
            pickle.loads(data)
    except Exception as error:
        text = "".join(traceback.format_exception(answer[1])) if answer[0] == "error" else ""
        problem = TypeError(f"{name}: {answer[0]} of no use here: {error!r}\n{text}")
        data = pickle.dumps(("error", problem))
    return data
