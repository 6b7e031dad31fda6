"""``requests`` under the bounds of :mod:`wmtp_assets.transfer.bounds`: the clients of Google and of
Azure, and what they ask for tokens."""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

from wmtp_assets.base.secrets import remember
from wmtp_assets.transfer.arrival import LONGEST_WAIT, shortened_wait
from wmtp_assets.transfer.pools import Body, Deadline

_log = logging.getLogger(__name__)
_NUMBER = re.compile(r"\s*[0-9]{1,6}\s*")
_WAITS = {"retry-after": 1, "retry-after-ms": 1000, "x-ms-retry-after-ms": 1000}
"""Headers in which a server asks to be left alone, and how much of their unit is a second; a time
of day is as good as too long a wait."""


class _Pool(Deadline, HTTPConnectionPool):
    """Over http."""


class _SecurePool(Deadline, HTTPSConnectionPool):
    """Over https."""


class BoundedAdapter(HTTPAdapter):
    """Answers are bounded, waits that they ask for are shortened, and credentials that are sent are
    remembered.

    Args:
        connections: that are kept.
        largest: bytes of a body that is read piece by piece; None: whoever reads it counts.
    """

    def __init__(self, connections: int, largest: int | None = None) -> None:
        self._largest = largest
        super().__init__(pool_maxsize=connections)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        _bound(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return _bound(super().proxy_manager_for(proxy, **options))

    def send(
        self, request: PreparedRequest, stream: bool = False, *arguments: Any, **options: Any
    ) -> Response:
        remember(request.headers)
        answer = super().send(request, stream, *arguments, **options)
        is_small = not stream or not 200 <= answer.status_code < 300
        answer.raw = Body(answer.raw, is_small=is_small, size=self._largest)
        _shorten_waits(answer)
        return answer


def _shorten_waits(answer: Response) -> None:
    for name, each_second in _WAITS.items():
        said, longest = answer.headers.get(name), round(LONGEST_WAIT * each_second)
        if said is not None and not (_NUMBER.fullmatch(said) and int(said) <= longest):
            answer.headers[name] = str(longest)
            host = urlsplit(answer.url).hostname or ""
            _log.warning(shortened_wait(host, answer.status_code, name, said))


def _bound(manager: Any) -> Any:
    if not type(manager).__name__.startswith("SOCKS"):  # whose pools know how to reach it
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager


def bounded_session(connections: int, largest: int | None = None) -> Session:
    """A session of which every answer is bounded; arguments as of :class:`BoundedAdapter`."""
    return bound(Session(), connections, largest)


def bound(session: Any, connections: int, largest: int | None = None) -> Any:
    """Put a session of ``requests`` under the bounds."""
    for scheme in ("http://", "https://"):
        session.mount(scheme, BoundedAdapter(connections, largest))
    return session
