"""Work on files that may be hostile, in a child process that is used again and again.

A parser in C can end the interpreter (SIGSEGV, SIGBUS) or ask for all memory there is. In the child
that is an error of one call: :class:`ChildDied` names the signal and the file that was being read,
and the next call gets a new child. The child may use :data:`MEMORY` and some seconds of CPU a
call, gains no rights by what it executes (``no_new_privs``), has no secret in its environment, and
ends with its parent.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import mmap
import os
import pickle
import queue
import re
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
from math import ceil
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.base.progress import Say, human_bytes, human_seconds, silent

MEMORY = 4 << 30
"""Bytes of memory of its own that the child may have: a backstop, no rule or builder needs it."""

CPU = 600.0
"""Seconds of CPU of a call, all threads together, whatever it reads: most take less than one."""

CPU_PER_BYTE = 1e-5
"""Seconds more for each byte that is read: a hundred times what the slowest builder takes."""

_ALLOWED = re.compile(
    r"WMTP_(?!WEBHOOK_URL$|PUBLISH_URL$)\w+|SOURCE_DATE_EPOCH|HF_HUB_OFFLINE|HF_HOME"
    r"|PATH|HOME|USER|LOGNAME|SHELL|TERM|TZ|TMPDIR|TEMP|TMP|LANG|LANGUAGE|LC_\w+|XDG_\w+"
    r"|PYTHON\w*|VIRTUAL_ENV|LD_LIBRARY_PATH|DYLD_\w+|MALLOC_\w+|ARROW_\w+|COVERAGE_\w+"
    r"|\w+_NUM_THREADS|OMP_\w+|KMP_\w+|MKL_\w+|TORCH_\w+|TOKENIZERS_PARALLELISM"
)
"""Variables that the child gets: what decides about bytes, and what its libraries need to run."""

_PR_SET_NO_NEW_PRIVS = 38

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


def directly(
    function: Callable[..., Any], /, *args: Any, say: Say = silent, cpu: float = CPU
) -> Any:
    """``function(*args, say)`` in this process, which has no limit."""
    return function(*args, say)


def allowance(size: float) -> float:
    """Seconds of CPU of a call that reads ``size`` bytes."""
    return CPU + size * CPU_PER_BYTE


def _environment() -> dict[str, str]:
    """The variables of this process that the child gets: no token, no password, no address."""
    return {name: value for name, value in os.environ.items() if _ALLOWED.fullmatch(name)}


def reading(path: object) -> None:
    """Note which file is about to be parsed, should the process not survive it."""
    if _note is not None:
        _note[:] = os.fsencode(str(path))[:_NOTE].ljust(_NOTE, b"\0")


def _read_note(note: mmap.mmap) -> str:
    return os.fsdecode(note[:].rstrip(b"\0"))


def call(function: Callable[..., Any], /, *args: Any, say: Say = silent, cpu: float = CPU) -> Any:
    """``function(*args, say)`` in the child, with the folder of this process, and what of its
    environment is not a secret.

    Args:
        function: found by its module and name; it, arguments and result are pickled.
        say: gets the lines that the function says, and its bars where it has any.
        cpu: seconds of CPU that it may take; see :func:`allowance`.

    Raises:
        ChildDied: if the child did.
        BaseException: what the function raises.
    """
    global _child
    with _lock:
        _child = _child or _Child()
        try:
            return _child.call(function, args, say, cpu)
        except BaseException:
            if not _child.is_idle:  # it died, or the parent was interrupted
                stop()
            raise


class Other:
    """A child beside the one that :func:`call` uses; it is started by the first call.

    One thread at a time calls it. Behind a ``with`` it has ended.
    """

    def __init__(self) -> None:
        self._child: _Child | None = None

    def call(
        self, function: Callable[..., Any], /, *args: Any, say: Say = silent, cpu: float = CPU
    ) -> Any:
        """As :func:`call`."""
        child = self._child = self._child or _Child()
        try:
            return child.call(function, args, say, cpu)
        except BaseException:
            if not child.is_idle:
                self.stop()
            raise

    def stop(self) -> None:
        """End the child, if there is one; by any thread, also in the middle of a call."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def stop() -> None:
    """End the child, if there is one."""
    global _child
    if _child is not None:
        _child.end()
    _child = None


class _Child:
    """The parent's end."""

    def __init__(self) -> None:
        self.is_idle, self._cpu = True, CPU
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
                    env={**_environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )
            self._connection = Connection(ours.detach())

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], say: Say, cpu: float
    ) -> Any:
        self.is_idle, self._cpu = False, cpu
        self._note[:] = bytes(_NOTE)
        bar = getattr(say, "bar", None)
        bars: dict[int, Callable[[int, str], None]] = {}
        name = f"{function.__module__}:{function.__qualname__}"
        folder: Path | None = None
        with suppress(FileNotFoundError):  # somebody removed it
            folder = Path.cwd()
        request = name, args, bar is not None, _environment(), folder, cpu
        self._exchange(lambda: self._connection.send(request))
        while True:
            match self._exchange(self._connection.recv):
                case "line", line:
                    say(line)
                case "bar", number, label, total if bar is not None:
                    bars[number] = bar(label, total)
                case "done", number, done, pace:
                    bars[number](done, pace)
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
            if code == -signal.SIGXCPU:
                cause = f"more than {human_seconds(self._cpu)} of CPU"
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

    def bar(self, name: str, total: int) -> Callable[[int, str], None]:
        """As :meth:`wmtp_assets.base.progress.Terminal.bar`; told at most a hundred times."""
        number = self.bars = self.bars + 1
        self._connection.send(("bar", number, name, total))
        last = -1

        def update(done: int, pace: str) -> None:
            nonlocal last
            if (step := 100 * done // max(total, 1)) != last:
                last = step
                self._connection.send(("done", number, done, pace))

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
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    descriptor, shared = map(int, sys.argv[1:])
    connection, note = Connection(descriptor), mmap.mmap(shared, _NOTE)
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, requests), daemon=True).start()
    _note = note
    while True:
        name, args, has_bars, environment, folder, cpu = requests.get()
        os.environ.clear()
        os.environ.update(environment)
        say = (_SaidWithBars if has_bars else _Said)(connection)
        try:
            if folder is not None:
                os.chdir(folder)
            _limit_cpu(cpu)
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


def _limit_cpu(seconds: float) -> None:
    """Have the process end by SIGXCPU when it took so many seconds more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = ceil(used.ru_utime + used.ru_stime + seconds)
    with suppress(OSError, ValueError):
        resource.setrlimit(
            resource.RLIMIT_CPU,
            (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard),
        )


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
