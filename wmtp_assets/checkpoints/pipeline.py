"""Where the bytes of tensors lie in upstream's files, and how they are read: in blocks, ahead.

A checkpoint is read once and never again soon: it is read past the page cache, where the system has
a call for that, so that it pushes out nothing else.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from math import prod
from pathlib import Path
from typing import TypeVar

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.storage.files import PageCache

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
            yield Extent(self.path, self.begin + offset, min(BLOCK, self.size - offset), self.what)


@dataclass(frozen=True)
class Record(Extent):
    """The data of a record of a zip archive; ``crc32`` is what the archive's directory says. None:
    the archive was written without checksums, and verified as a whole."""

    crc32: int | None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        path: the file.
        name: its key there, without the prefix that the spec strips.
        dtype: torch's name without the prefix, such as ``float32``.
        shape: in elements.
        stride: in elements; None: they are row-major, one beside the other.
        begin: its first byte in the file.
        item_size: bytes per element.
        record: the record it lies in; None: the format has no checksums.
    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None
    begin: int
    item_size: int
    record: Record | None = None

    @property
    def size(self) -> int:
        """Bytes of the tensor's elements."""
        return prod(self.shape) * self.item_size

    @property
    def extent(self) -> int:
        """Bytes from the first element to the end of the last one."""
        if self.stride is None:
            return self.size
        steps = zip(self.shape, self.stride, strict=True)
        return (1 + sum((size - 1) * step for size, step in steps)) * self.item_size

    @property
    def fills_record(self) -> bool:
        """Whether reading the tensor's elements in order reads its record from begin to end."""
        return (
            self.record is not None
            and self.stride is None
            and (self.begin, self.size) == (self.record.begin, self.record.size)
        )

    def is_at(self, other: StoredTensor) -> bool:
        """Whether both are the same bytes of one file, read alike."""
        return (self.path, self.begin, self.dtype, self.shape, self.stride) == (
            other.path,
            other.begin,
            other.dtype,
            other.shape,
            other.stride,
        )


@dataclass(frozen=True)
class Wanted:
    """Which tensors of a file are the model's.

    Attributes:
        select: the keys that lead to the state dict in a torch file; empty: the file is one.
        strip_prefix: what every name begins with in the file, and not in the model.
        is_buffer: whether nothing reads the tensor of this name, stripped. It may be anything.
    """

    select: tuple[str, ...] = ()
    strip_prefix: str = ""
    is_buffer: Callable[[str], object] = lambda name: False

    def name_of(self, key: str, path: Path) -> str:
        """The name of a tensor without the prefix.

        Raises:
            InvalidInput: naming the file (``path``) and the key, if it has another beginning.
        """
        if not key.startswith(self.strip_prefix) or key == self.strip_prefix:
            raise InvalidInput(
                f"{path}: {key!r} does not begin with {self.strip_prefix!r}, the "
                "checkpoint.strip_prefix of the spec"
            )
        return key.removeprefix(self.strip_prefix)


ALL = Wanted()
"""Every tensor of a file that is one state dict."""


@dataclass(frozen=True)
class Contents:
    """What a file of a checkpoint holds.

    Attributes:
        tensors: name → where it lies.
        dropped: names of buffers.
        left_out: what is beside the selected state dict → the number of tensors in it.
    """

    tensors: Mapping[str, StoredTensor]
    dropped: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


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
    cache = PageCache(is_passed=True)

    def opened() -> Iterator[tuple[int, memoryview, Extent]]:
        for buffer, extent in zip(cycle(buffers), extents, strict=False):
            if extent.path not in files:
                files[extent.path] = os.open(extent.path, os.O_RDONLY)
            yield files[extent.path], buffer[: extent.size], extent

    def read(opened: tuple[int, memoryview, Extent]) -> memoryview:
        descriptor, view, extent = opened
        filled = 0
        while filled < extent.size:
            try:
                count = cache.read(descriptor, view[filled:], extent.begin + filled)
            except OSError as error:
                problem = f"{error.strerror}, reading {extent.what}"
                raise OSError(error.errno, problem, str(extent.path)) from error
            if not count:
                raise InvalidInput(f"{extent.path}: the file ends inside {extent.what}")
            filled += count
        return view

    try:
        yield from map_ahead(read, opened(), READS)
    finally:
        for descriptor in files.values():
            os.close(descriptor)
