"""Faults where Python calls the system: for where strace cannot attach, and in little time.

The log has the form of strace's and faults are written as for strace, so that
:mod:`wmtp_assets_tests.faults.sweep` does the same with either.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import pytest

from wmtp_assets.storage import exchange
from wmtp_assets.storage.files import HashedFile

NAMES = ("mkdir", "rename", "replace", "link", "unlink", "rmdir")


def path_of(file: Any, folder: int | None = None) -> str:
    """The path that a call is given as a name, perhaps below an open folder, or as a descriptor."""
    if not isinstance(file, int):
        name = os.fspath(file)
        return name if folder is None else f"{path_of(folder)}/{name}"
    if sys.platform == "darwin":
        return fcntl.fcntl(file, fcntl.F_GETPATH, b"\0" * 1024).rstrip(b"\0").decode()
    return str(Path(f"/proc/self/fd/{file}").readlink())


class Calls:
    """Writes down the calls of this process, and does the faults that are asked for.

    Args:
        injected: faults, such as ``rename:error=EIO:when=3``; without ``when`` at every call.
    """

    def __init__(self, log: TextIO, injected: Sequence[str]) -> None:
        self._log = log
        self._counts: Counter[str] = Counter()
        self._faults: dict[tuple[str, int], str] = {}
        for fault in injected:
            name, what, *when = fault.split(":")
            number = int(when[0].removeprefix("when=")) if when else 0
            self._faults[name, number] = what

    def reach(self, name: str, *paths: str, flags: str = "") -> int | None:
        """Write a call down, and do the fault that is asked for at it.

        Returns:
            the ``errno`` that it fails with; 0: it does nothing; None: there is no fault.
        """
        self._counts[name] += 1
        fault = self._faults.get((name, self._counts[name])) or self._faults.get((name, 0), "")
        what, _, value = fault.partition("=")
        given = ", ".join(f'"{path}"' for path in paths)
        line = f"{os.getpid()} {name}({given}{flags})"
        if what == "signal":
            print(
                f"{line} = ?\n{os.getpid()} +++ killed by {value} +++", file=self._log, flush=True
            )
            os.kill(os.getpid(), signal.Signals[value])
        if what == "error":
            print(f"{line} = -1 {value} (INJECTED)", file=self._log, flush=True)
            return getattr(errno, value)
        print(f"{line} = 0", file=self._log, flush=True)
        return 0 if what == "retval" else None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of the functions that call the system."""

        def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                folder = options.get("dir_fd")
                paths = [path_of(arg, folder) for arg in args if isinstance(arg, str | os.PathLike)]
                self._fail(self.reach(name, *paths), paths[0])
                return real(*args, **options)

            return call

        def fsync(descriptor: int) -> None:
            path = path_of(descriptor)
            if (code := self.reach("fsync", path)) != 0:
                self._fail(code, path)
                real_fsync(descriptor)

        def open_descriptor(path: Any, flags: int, *args: Any, dir_fd: int | None = None) -> int:
            writes = flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
            self._open(path_of(path, dir_fd), bool(writes))
            return real_open(path, flags, *args, dir_fd=dir_fd)

        def open_file(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            self._open(path_of(file), bool({*"wax+"} & {*mode}))
            return real_file(file, mode, *args, **options)

        def write(file: HashedFile, data: Any) -> int:
            self._fail(self.reach("write", str(file._file.name)), str(file._file.name))
            return real_write(file, data)

        def native(first: Path, second: Path) -> int:
            code = self.reach("renameat2", str(first), str(second))
            return real_native(first, second) if code is None else code

        real_fsync, real_open, real_file = os.fsync, os.open, io.open
        real_write, real_native = HashedFile.write, exchange._native
        for name in NAMES:
            called = "rename" if name == "replace" else name
            monkeypatch.setattr(os, name, wrapped(called, getattr(os, name)))
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "open", open_descriptor)
        monkeypatch.setattr(io, "open", open_file)
        monkeypatch.setattr(HashedFile, "write", write)
        monkeypatch.setattr(exchange, "_native", native)

    def _open(self, path: str, writes: bool) -> None:
        flags = ", O_CREAT" if writes else ", O_RDONLY"
        self._fail(self.reach("openat", path, flags=flags), path)

    def _fail(self, code: int | None, path: str) -> None:
        if code:
            raise OSError(code, os.strerror(code), path)
