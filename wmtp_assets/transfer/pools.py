"""``urllib3`` under the bounds of :mod:`wmtp_assets.transfer.bounds`.

It reads an answer to its end, whatever that is, and a body for as long as a byte comes now and
then. So clients that are built on it are given connection pools that keep a deadline, and answers
whose bytes are counted: ``destinations/s3_session.py`` does it for ``botocore``, ``sessions.py``
for ``requests``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from wmtp_assets.transfer import bounds
from wmtp_assets.transfer.bounds import Meter, deadline

_CHUNK = 1 << 16


class Deadline:
    """A pool of connections over which a request and the head of its answer go in time; to be
    inherited before a pool of ``urllib3``."""

    def _make_request(self, conn: Any, *arguments: Any, **options: Any) -> Any:
        def cut() -> None:
            with suppress(OSError, AttributeError):  # it is not connected, or no longer
                conn.sock.shutdown(socket.SHUT_RDWR)

        ask, headers = super(), options.get("headers") or {}
        size = int(headers.get("Content-Length") or 0)  # the body may be one that is read
        with deadline(cut, size):
            return ask._make_request(conn, *arguments, **options)  # type: ignore[misc]


class Body:
    """The body of an answer, as clients of ``urllib3`` read it.

    Args:
        raw: ``urllib3.HTTPResponse``.
        is_small: it has the size and the time of a small answer.
        size: bytes of any other at most; None: whoever reads them counts.
    """

    def __init__(self, raw: Any, *, is_small: bool, size: int | None = None) -> None:
        self._raw = raw
        self._meter = _small() if is_small else Meter(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def read(self, amount: int | None = None, decode_content: bool | None = None) -> bytes:
        """What is there, at most ``amount`` bytes; None: all of a small answer."""
        if amount is None:
            self._meter = _small()
            return b"".join(self.stream(decode_content=decode_content))
        return self._meter.read(lambda: self._raw.read1(amount, decode_content) or b"")

    def stream(self, amount: int = _CHUNK, decode_content: bool | None = None) -> Iterator[bytes]:
        """All of it, at most ``amount`` bytes at a time."""
        return iter(lambda: self.read(amount, decode_content), b"")


def _small() -> Meter:
    return Meter(bounds.MAX_SIZE, time.monotonic() + bounds.SECONDS)
