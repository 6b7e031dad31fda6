"""Work done ahead in other threads, and large files read in blocks past the page cache.

A checkpoint is read once and never again soon: through the page cache it would push out everything
else, and cost a copy of every byte. Linux reads it with ``O_DIRECT``, macOS with ``F_NOCACHE``;
where neither is there (tmpfs, for one), it is read as any file.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wmtp_assets.errors import InvalidInput

T = TypeVar("T")
Item = TypeVar("Item")

BLOCK = 8 << 20
"""Most bytes of one read."""

READS = 3
"""Reads in flight."""

AHEAD = 2
"""Items that :func:`ahead` asks for before they are wanted."""

_PAGE = 4096
_DIRECT: int = getattr(os, "O_DIRECT", 0)
_NO_CACHE: int | None = getattr(fcntl, "F_NOCACHE", None)


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The same items, each made in another thread while the one before is used.

    An item must stay valid until :data:`AHEAD` + 1 further ones were asked for.
    """

    def step() -> tuple[T] | None:
        for item in items:
            return (item,)
        return None

    with ThreadPoolExecutor(1) as worker:
        waiting = deque(worker.submit(step) for _ in range(AHEAD))
        while (made := waiting.popleft().result()) is not None:
            waiting.append(worker.submit(step))
            yield made[0]


def map_ahead(function: Callable[[Item], T], items: Iterable[Item], width: int) -> Iterator[T]:
    """``function`` of each item, in order, ``width`` of them computed side by side."""
    with ThreadPoolExecutor(width) as workers:
        waiting: deque[Future[T]] = deque()
        for item in items:
            waiting.append(workers.submit(function, item))
            if len(waiting) > width:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@dataclass(frozen=True)
class Extent:
    """``size`` bytes of the file ``path`` from ``begin``; ``what`` names them in an error."""

    path: Path
    begin: int
    size: int
    what: str

    def blocks(self) -> Iterator[Extent]:
        """The extent cut into pieces of :data:`BLOCK` bytes and a rest."""
        for offset in range(0, self.size, BLOCK):
            size = min(BLOCK, self.size - offset)
            yield Extent(self.path, self.begin + offset, size, self.what)


class _Reader:
    """Open files and reused buffers, aligned as direct reads need it."""

    def __init__(self, buffers: int) -> None:
        self._buffers = [memoryview(mmap.mmap(-1, BLOCK + 2 * _PAGE)) for _ in range(buffers)]
        self._files: dict[Path, int] = {}

    def read(self, numbered: tuple[int, Extent]) -> memoryview:
        number, extent = numbered
        buffer = self._buffers[number % len(self._buffers)]
        begin = extent.begin // _PAGE * _PAGE
        end = -(-(extent.begin + extent.size) // _PAGE) * _PAGE
        skipped = extent.begin - begin
        needed = skipped + extent.size
        filled = 0
        while filled < needed:
            try:
                count = self._read_once(extent.path, buffer[filled : end - begin], begin + filled)
            except OSError as error:
                problem = f"{error.strerror}, reading {extent.what}"
                raise OSError(error.errno, problem, str(extent.path)) from error
            if not count:
                raise InvalidInput(f"{extent.path}: the file ends inside {extent.what}")
            filled += count
        return buffer[skipped:needed]

    def _read_once(self, path: Path, buffer: memoryview, offset: int) -> int:
        try:
            return os.preadv(self._files[path], [buffer], offset)
        except OSError as error:
            if error.errno != errno.EINVAL or not _DIRECT:
                raise
        flags = fcntl.fcntl(self._files[path], fcntl.F_GETFL)
        fcntl.fcntl(self._files[path], fcntl.F_SETFL, flags & ~_DIRECT)
        return os.preadv(self._files[path], [buffer], offset)

    def open(self, path: Path) -> None:
        """Open a file, once, past the page cache where the filesystem can."""
        if path in self._files:
            return
        try:
            self._files[path] = os.open(path, os.O_RDONLY | _DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._files[path] = os.open(path, os.O_RDONLY)
        if _NO_CACHE is not None:
            fcntl.fcntl(self._files[path], _NO_CACHE, 1)

    def close(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)


def read_extents(extents: Iterable[Extent], kept: int = 1) -> Generator[memoryview, None, None]:
    """The bytes of each extent, in order, :data:`READS` reads ahead.

    Args:
        extents: of at most :data:`BLOCK` bytes each.
        kept: how many views, the newest included, are valid at a time.

    Raises:
        InvalidInput: if a file ends early.
        OSError: if it cannot be read.
    """
    reader = _Reader(READS + kept)

    def opened() -> Iterator[tuple[int, Extent]]:
        for number, extent in enumerate(extents):
            reader.open(extent.path)
            yield number, extent

    with closing(reader):
        yield from map_ahead(reader.read, opened(), READS)
