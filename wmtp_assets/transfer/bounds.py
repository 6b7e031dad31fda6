"""Bounds on what comes from outside: whoever answers may be hostile, or broken.

Every byte of a hub, a store of objects, a webhook or a program that asks one passes a
:class:`Meter`.
What is small is whole after :data:`SECONDS` and has :data:`MAX_SIZE` bytes at most; what is large
comes at :data:`SLOWEST` bytes a second at least, and whoever reads it knows how many it must have.
What was cut off is resumed by :mod:`wmtp_assets.transfer.arrival`.

``answers.py`` puts ``httpx2`` under these bounds, ``pools.py`` what is built on ``urllib3``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from threading import Timer
from typing import TypeVar

from wmtp_assets.base.progress import human_bytes

T = TypeVar("T")

MAX_SIZE = 32 << 20
"""Bytes of a small answer; what the hub says of a repository of 10,000 files has 3 MB."""

SECONDS = 120.0
"""From the request to the last byte of a small answer, or to the body of a large one."""

SLOWEST = 4096
"""Bytes a second in which what is sent and what comes must arrive at least: half of what a modem
did. A file of 25 GB keeps us 70 days at most, and not until its sender has enough."""

WINDOW = 60.0
"""Seconds of waiting after which that is judged."""

MAX_LISTED = 1_000_000
"""Entries of a list that comes in pages; a release has some hundred."""

MAX_PAGES = 10_000
"""Pages of a list; those of stores of objects have 1,000 entries, and may be empty."""

LATE = "its answer trickles: it is not whole in time"


class Unbounded(ConnectionError):
    """An answer that is too large, too slow, or packed in a way that nobody asked for."""


@dataclass
class Meter:
    """Counts one answer while it is read.

    Only the time counts in which we wait for the other side: not that of our disk.

    Attributes:
        size: bytes at most; None: whoever reads them counts.
        end: when it must be whole, as ``time.monotonic()`` counts; None: no later than its pace
            allows.
    """

    size: int | None = None
    end: float | None = None
    _read: int = 0
    _came: int = 0
    _waited: float = 0.0

    def read(self, ask: Callable[[], bytes]) -> bytes:
        """What ``ask`` returns, which waits for what is there and no longer; empty: the end.

        Raises:
            Unbounded: if all of it is too large, or comes too slowly.
        """
        begin = time.monotonic()
        data = ask()
        now = time.monotonic()
        self._read += len(data)
        self._came += len(data)
        self._waited += now - begin
        if self.size is not None and self._read > self.size:
            raise Unbounded(f"an answer of more than {human_bytes(self.size)}")
        if self.end is not None and now > self.end:
            raise Unbounded(LATE)
        if data and self._waited >= WINDOW:
            if self._came < SLOWEST * self._waited:
                raise Unbounded(
                    f"it trickles: {human_bytes(self._came)} came in {self._waited:.0f} s, less "
                    f"than {human_bytes(SLOWEST)} a second"
                )
            self._came, self._waited = 0, 0.0
        return data

    def pieces(self, source: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces of a body.

        Raises:
            Unbounded: as :meth:`read`.
        """
        rest = filter(None, source)
        while data := self.read(lambda: next(rest, b"")):
            yield data


@contextmanager
def deadline(
    cut: Callable[[], object], size: int = 0, seconds: float | None = None
) -> Iterator[float]:
    """Call ``cut`` in another thread where the block takes too long; it ends what the block waits
    for. The block is given the time when it will be called, as ``time.monotonic()`` counts.

    Args:
        size: bytes that are sent in that time.
        seconds: for the answer; None: :data:`SECONDS`.

    Raises:
        Unbounded: in the place of what the block raises then, and where it takes what was cut off
            for the end.
    """
    seconds = (SECONDS if seconds is None else seconds) + size / SLOWEST
    end = time.monotonic() + seconds
    timer = Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield end
    except Exception as error:
        if time.monotonic() < end or isinstance(error, Unbounded):
            raise
        raise Unbounded(LATE) from error
    finally:
        timer.cancel()
    if time.monotonic() >= end:
        raise Unbounded(LATE)


def listed(items: Iterable[T]) -> Iterator[T]:
    """The entries of a list that another side sends page by page.

    Raises:
        Unbounded: if it does not end.
    """
    return _first(items, MAX_LISTED, "entries")


def paged(pages: Iterable[T]) -> Iterator[T]:
    """The pages of a list: they may be empty, so that its entries say nothing.

    Raises:
        Unbounded: if they do not end.
    """
    return _first(pages, MAX_PAGES, "pages")


def _first(items: Iterable[T], most: int, what: str) -> Iterator[T]:
    rest = iter(items)
    yield from islice(rest, most)
    if next(rest, None) is not None:
        raise Unbounded(f"a list of more than {most:,} {what}")
