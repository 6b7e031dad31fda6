"""Answers of servers, in bounds of size and time: whoever answers may be hostile, or broken.

An answer that is not streamed is small: :data:`MAX_SIZE` bytes after it was unpacked, whole after
:data:`SECONDS`, however slowly it trickles. So are the body of a redirect and of an error. Of a
streamed answer the head is; whoever reads the body knows how many bytes it must have.

Import it inside functions only, as ``httpx2`` takes a while to load.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Timer
from typing import Any

from httpx2 import Client, HTTPError, InvalidURL, ReadTimeout, Request, Response

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.progress import human_bytes
from wmtp_assets.base.secrets import PROXIES
from wmtp_assets.transfer.arrival import LONGEST_WAIT

MAX_SIZE = 32 << 20
"""Bytes of a small answer; what the hub says of a repository of 10,000 files has 3 MB."""

SECONDS = 120.0
"""From the request to the last byte of a small answer, or to the body of a streamed one."""

SLOWEST = 50_000
"""Bytes a second in which what is sent must arrive at least."""

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


class Unbounded(HTTPError):
    """An answer that is too large, or packed in a way that nobody asked for."""


class BoundedClient(Client):
    """An ``httpx2.Client`` that keeps the bounds of this module.

    Args:
        cut: called in another thread when time is up; it closes the client, and with it the
            connection.
        seconds: for a small answer; None: :data:`SECONDS`.

    Raises:
        SpecError: as :func:`environment_explained`.
    """

    def __init__(
        self,
        *,
        cut: Callable[[], None] | None = None,
        seconds: float | None = None,
        **options: Any,
    ) -> None:
        with environment_explained():
            super().__init__(**options)
        self._cut = cut or self.close
        self._seconds = SECONDS if seconds is None else seconds
        self.headers["Accept-Encoding"] = "identity"
        self.event_hooks["response"].append(_check)

    def send(self, request: Request, *, stream: bool = False, **options: Any) -> Response:
        """As :meth:`httpx2.Client.send`.

        Raises:
            Unbounded: if the answer is too large, or packed otherwise than with gzip.
            ReadTimeout: if it is not whole in time.
        """
        seconds = self._seconds + _size_of(request) / SLOWEST
        end = time.monotonic() + seconds
        timer = Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            response = super().send(request, stream=True, **options)
            if not stream or response.is_error:
                read_whole(response, end)
            return response
        except (HTTPError, RuntimeError, OSError) as error:
            if time.monotonic() < end or isinstance(error, Unbounded | ReadTimeout):
                raise
            raise _late(request) from error
        finally:
            timer.cancel()


def read_whole(response: Response, end: float, size: int | None = None) -> bytes:
    """The body of an answer, which is kept as its content.

    Args:
        end: when it must be whole, as ``time.monotonic()`` counts.
        size: bytes at most, unpacked; None: :data:`MAX_SIZE`.

    Raises:
        Unbounded: if it is larger.
        ReadTimeout: if it takes longer.
    """
    if response.is_closed and hasattr(response, "_content"):
        return response.content
    size = MAX_SIZE if size is None else size
    data = bytearray()
    try:
        for piece in response.iter_bytes(_CHUNK):
            data += piece
            if len(data) > size:
                raise Unbounded(f"an answer of more than {human_bytes(size)}")
            if time.monotonic() > end:
                raise _late(response.request)
    finally:
        response.close()
    response._content = bytes(data)  # what response.read() would keep
    return response._content


def _size_of(request: Request) -> int:
    """Bytes of what is sent; the largest file is sent with its length."""
    said = request.headers.get("Content-Length", "0")
    return int(said) if said.isascii() and said.isdigit() else 0


def _late(request: Request) -> ReadTimeout:
    return ReadTimeout("its answer trickles: it is not whole in time", request=request)


def _check(response: Response) -> None:
    """Refuse what unpacks without bound, shorten waits, and read the body of a redirect."""
    encodings = response.headers.get("Content-Encoding", "").lower().split(",")
    if unknown := {item.strip() for item in encodings} - _ENCODINGS:
        response.close()
        raise Unbounded(f"an answer packed with {' and '.join(sorted(unknown))[:60]}")
    if len(encodings) > 1:
        response.close()
        raise Unbounded("an answer packed more than once")
    for name in _WAITS:
        if name in response.headers:
            response.headers[name] = _SECONDS.sub(_shortened, response.headers[name])
    if response.has_redirect_location:
        read_whole(response, time.monotonic() + SECONDS)


def _shortened(found: re.Match[str]) -> str:
    """A number of seconds, :data:`LONGEST_WAIT` at most."""
    said = found[0].strip().lstrip("0") or "0"
    return min(said, f"{LONGEST_WAIT:.0f}", key=lambda text: (len(text), text))
