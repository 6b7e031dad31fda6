"""``botocore`` under the bounds of :mod:`wmtp_assets.transfer.bounds`."""

from __future__ import annotations

from typing import Any

from botocore.awsrequest import (
    AWSHTTPConnectionPool,
    AWSHTTPSConnectionPool,
    AWSPreparedRequest,
    AWSResponse,
)

from wmtp_assets.base.secrets import remember
from wmtp_assets.storage.files import PART
from wmtp_assets.transfer.pools import Body, Deadline


class _Whole(Deadline):
    """A part is handed to the socket as a whole: the library cuts and copies it otherwise, and each
    piece waits for Python's lock."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "blocksize": PART})


class _Pool(_Whole, AWSHTTPConnectionPool):
    """Over http."""


class _SecurePool(_Whole, AWSHTTPSConnectionPool):
    """Over https."""


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
        is_small = not is_streamed or answer.status_code >= 300
        answer.raw = Body(answer.raw, is_small=is_small)
        if not is_streamed:
            _ = answer.content
        return answer

    session.send = send_bounded
