"""``httpx2`` under the bounds of :mod:`wmtp_assets.transfer.bounds`: the hub's client and webhooks.

An answer that is not streamed is small, and so are the body of a redirect and of an error. Of a
streamed answer the head is; its body keeps the pace.

Import it inside functions only, as ``httpx2`` takes a while to load.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from httpx2 import Client, InvalidURL, Request, Response, SyncByteStream

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.progress import Say
from wmtp_assets.base.secrets import PROXIES, remember
from wmtp_assets.transfer import bounds
from wmtp_assets.transfer.arrival import LONGEST_WAIT, shortened_wait
from wmtp_assets.transfer.bounds import Meter, Unbounded, deadline

_log = logging.getLogger(__name__)
_CHUNK = 1 << 16
_ENCODINGS = {"", "identity", "gzip", "deflate"}
"""What a piece of is at most a thousand times as large when it is unpacked."""

_WAITS = ("retry-after", "ratelimit")
"""Headers in which a server asks to be left alone."""

_SECONDS = re.compile(r"(?<=\bt=)\d+|^\s*\d+\s*$", re.ASCII)
"""Where they say for how long."""


_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@contextmanager
def environment_explained(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """A client that is made inside reads proxies and certificates from the environment.

    Raises:
        SpecError: naming the variable that it cannot use; the value may hold a password.
    """
    try:
        yield
    except (ImportError, ValueError, InvalidURL) as error:
        values = {n: environment.get(n) or environment.get(n.lower(), "") for n in PROXIES}
        socks = [name for name, value in values.items() if value.lower().startswith("socks")]
        if isinstance(error, ImportError) and socks:
            raise SpecError(
                f"{' and '.join(socks)} names a SOCKS proxy, which needs the library socksio: "
                "pip install socksio. An HTTP proxy needs nothing more"
            ) from error
        named = [name for name, value in values.items() if value]
        if isinstance(error, ImportError) or not named:
            raise
        raise SpecError(
            f"{' or '.join(named)} is not the address of a proxy that can be used; write it as "
            "http://HOST:PORT, or socks5://HOST:PORT"
        ) from error
    except OSError as error:
        named = [name for name in _CERTIFICATES if environment.get(name)]
        if not named:
            raise
        raise SpecError(
            f"{' or '.join(named)}: certificates cannot be read there: "
            f"{error.strerror or type(error).__name__}. It names a file (or folder) of "
            "certificates in PEM"
        ) from error


class BoundedClient(Client):
    """An ``httpx2.Client`` whose answers are bounded.

    Args:
        cut: called in another thread when time is up; it closes the client, and with it the
            connection.
        seconds: for a small answer; None: those of :mod:`wmtp_assets.transfer.bounds`.
        say: told where a server asks for a longer rest than it gets; None: Python's log.

    Raises:
        SpecError: as :func:`environment_explained`.
    """

    def __init__(
        self,
        *,
        cut: Callable[[], None] | None = None,
        seconds: float | None = None,
        say: Say | None = None,
        **options: Any,
    ) -> None:
        with environment_explained():
            super().__init__(**options)
        self._pages = 0  # in a row that name another one; nobody else sees empty ones
        self._cut, self._seconds, self._say = cut or self.close, seconds, say or _log.warning
        self.headers["Accept-Encoding"] = "identity"
        self.event_hooks["response"].append(self._check)

    def send(self, request: Request, *, stream: bool = False, **options: Any) -> Response:
        """As :meth:`httpx2.Client.send`.

        Raises:
            Unbounded: if the answer is too large, is not here in time, or is packed otherwise than
                with gzip.
        """
        remember(request.headers)
        with deadline(self._cut, _size_of(request), self._seconds) as end:
            response = super().send(request, stream=True, **options)
            if not stream or response.is_error:
                read_whole(response, end)
            elif isinstance(response.stream, SyncByteStream):
                response.stream = _Paced(response.stream)
            return response

    def _check(self, response: Response) -> None:
        """Refuse what unpacks without bound and a list without end, shorten waits, and read the
        body of a redirect."""
        encodings = response.headers.get("Content-Encoding", "").lower().split(",")
        if unknown := {item.strip() for item in encodings} - _ENCODINGS:
            response.close()
            raise Unbounded(f"an answer packed with {' and '.join(sorted(unknown))[:60]}")
        if len(encodings) > 1:
            response.close()
            raise Unbounded("an answer packed more than once")
        for name in _WAITS:
            if name in response.headers:
                said = response.headers[name]
                response.headers[name] = shorter = _SECONDS.sub(_shortened, said)
                if shorter.strip() != said.strip():
                    self._say(shortened_wait(response.url.host, response.status_code, name, said))
        self._pages = self._pages + 1 if "next" in response.links else 0
        if self._pages > bounds.MAX_PAGES:
            response.close()
            raise Unbounded(f"a list of more than {bounds.MAX_PAGES:,} pages")
        if response.has_redirect_location:
            read_whole(response, time.monotonic() + bounds.SECONDS)


class _Paced(SyncByteStream):
    """The body of a streamed answer, which must not come too slowly."""

    def __init__(self, stream: SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return Meter().pieces(self._stream)

    def close(self) -> None:
        self._stream.close()


def read_whole(response: Response, end: float, size: int | None = None) -> bytes:
    """The body of an answer, which is kept as its content.

    Args:
        end: when it must be whole, as ``time.monotonic()`` counts.
        size: bytes at most, unpacked; None: those of a small answer.

    Raises:
        Unbounded: if it is larger, or takes longer.
    """
    if response.is_closed and hasattr(response, "_content"):
        return response.content
    meter = Meter(bounds.MAX_SIZE if size is None else size, end)
    try:
        data = b"".join(meter.pieces(response.iter_bytes(_CHUNK)))
    finally:
        response.close()
    response._content = data  # what response.read() would keep
    return data


def _size_of(request: Request) -> int:
    """Bytes of what is sent; the largest file is sent with its length."""
    said = request.headers.get("Content-Length", "0")
    return int(said) if said.isascii() and said.isdigit() else 0


def _shortened(found: re.Match[str]) -> str:
    """A number of seconds, :data:`LONGEST_WAIT` at most."""
    said = found[0].strip().lstrip("0") or "0"
    return min(said, f"{LONGEST_WAIT:.0f}", key=lambda text: (len(text), text))
