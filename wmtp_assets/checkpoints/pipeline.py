"""Work done ahead in other threads, and large files read in blocks, ahead of their use.

A checkpoint is read once and never again soon: what was read is taken out of the page cache, where
the system has a call for that, so that it pushes out nothing else.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wmtp_assets.base.errors import InvalidInput

T = TypeVar("T")
Item = TypeVar("Item")

BLOCK = 2 << 20
"""Most bytes of one read: what is done with a block finds it in the processor's cache."""

READS = 2
"""Reads in flight."""

AHEAD = 2
"""Items that :func:`ahead` asks for before they are wanted."""


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


def read_extents(extents: Iterable[Extent], kept: int = 1) -> Generator[memoryview, None, None]:
    """The bytes of each extent, in order, :data:`READS` reads ahead.

    Args:
        extents: of at most :data:`BLOCK` bytes each.
        kept: how many views, the newest included, are valid at a time.

    Raises:
        InvalidInput: if a file ends early.
        OSError: if it cannot be read.
    """
    buffers = [memoryview(bytearray(BLOCK)) for _ in range(READS + kept)]
    files: dict[Path, int] = {}

    def opened() -> Iterator[tuple[int, Extent]]:
        for number, extent in enumerate(extents):
            if extent.path not in files:
                files[extent.path] = os.open(extent.path, os.O_RDONLY)
            yield number, extent

    def read(numbered: tuple[int, Extent]) -> memoryview:
        number, extent = numbered
        view = buffers[number % len(buffers)][: extent.size]
        descriptor = files[extent.path]
        filled = 0
        while filled < extent.size:
            try:
                count = os.preadv(descriptor, [view[filled:]], extent.begin + filled)
            except OSError as error:
                problem = f"{error.strerror}, reading {extent.what}"
                raise OSError(error.errno, problem, str(extent.path)) from error
            if not count:
                raise InvalidInput(f"{extent.path}: the file ends inside {extent.what}")
            filled += count
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, extent.begin, extent.size, os.POSIX_FADV_DONTNEED)
        return view

    try:
        yield from map_ahead(read, opened(), READS)
    finally:
        for descriptor in files.values():
            os.close(descriptor)
