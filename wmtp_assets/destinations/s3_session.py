"""``botocore`` under the bounds of :mod:`wmtp_assets.transfer.bounds`.

It reads an answer to its end, whatever that is, and a body for as long as a byte comes now and
then. So its session is given connection pools that keep a deadline, and answers whose bytes are
counted.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from botocore.awsrequest import (
    AWSHTTPConnectionPool,
    AWSHTTPSConnectionPool,
    AWSPreparedRequest,
    AWSResponse,
)

from wmtp_assets.base.secrets import remember
from wmtp_assets.transfer import bounds
from wmtp_assets.transfer.bounds import Meter, deadline

_CHUNK = 1 << 16


class _Deadline:
    """A pool of connections over which a request and the head of its answer go in time."""

    def _make_request(self, conn: Any, *arguments: Any, **options: Any) -> Any:
        def cut() -> None:
            with suppress(OSError, AttributeError):  # it is not connected, or no longer
                conn.sock.shutdown(socket.SHUT_RDWR)

        body, ask = options.get("body"), super()
        size = len(body) if isinstance(body, bytes | bytearray) else 0
        with deadline(cut, size):
            return ask._make_request(conn, *arguments, **options)  # type: ignore[misc]


class _Pool(_Deadline, AWSHTTPConnectionPool):
    """Over http."""


class _SecurePool(_Deadline, AWSHTTPSConnectionPool):
    """Over https."""


class _Body:
    """The body of an answer, as ``botocore`` reads it."""

    def __init__(self, raw: Any) -> None:
        self._raw, self._pace = raw, Meter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def read(self, amount: int | None = None) -> bytes:
        """What is there, at most ``amount`` bytes: of a file, whose reader counts them."""
        if amount is None:
            return b"".join(self.stream())
        return self._pace.read(lambda: self._raw.read1(amount))

    def stream(self) -> Iterator[bytes]:
        """All of it: of a small answer, or an error."""
        meter = Meter(bounds.MAX_SIZE, time.monotonic() + bounds.SECONDS)
        return meter.pieces(iter(lambda: self._raw.read1(_CHUNK), b""))


def bound(client: Any) -> None:
    """Put a client of ``botocore`` under the bounds.

    It has no public way to be given a session; ``destinations/test_bounds.py`` fails where a
    version of it keeps its session elsewhere.
    """
    session = client._endpoint.http_session
    send, pools = session.send, {"http": _Pool, "https": _SecurePool}
    session._pool_classes_by_scheme = session._manager.pool_classes_by_scheme = pools

    def send_bounded(request: AWSPreparedRequest) -> AWSResponse:
        remember(request.headers)
        is_streamed, request.stream_output = request.stream_output, True
        try:
            answer = send(request)
        finally:
            request.stream_output = is_streamed
        answer.raw = _Body(answer.raw)
        if not is_streamed:
            _ = answer.content
        return answer

    session.send = send_bounded
