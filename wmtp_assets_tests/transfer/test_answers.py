"""Servers that would keep a client forever, or fill its memory: real ones, on 127.0.0.1."""

from __future__ import annotations

import gzip
import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from httpx2 import Timeout

from wmtp_assets.transfer import bounds
from wmtp_assets.transfer.answers import BoundedClient
from wmtp_assets.transfer.bounds import Meter, Unbounded, listed
from wmtp_assets_tests.loopback import Handler, listen

Write = Callable[[Handler], None]

SLOW = r"trickles"

BOMB = 64 << 20
"""Bytes of zeros in 64 kB."""


@contextmanager
def server(write: Write) -> Iterator[str]:
    """A server whose answers are what ``write`` sends; it ends when the client hangs up, and after
    ten seconds."""

    class Line(Handler):
        def do_GET(self) -> None:
            with suppress(OSError):
                write(self)
            self.close_connection = True

        do_POST = do_PUT = do_GET

    with listen(Line) as url:
        yield url


def endless(handler: Handler) -> None:
    """A body that does not end."""
    handler.send_head(200, {"Content-Type": "application/json"})
    end = time.monotonic() + 10
    while time.monotonic() < end:
        handler.wfile.write(b"[" * 65536)


def endless_error(handler: Handler) -> None:
    """An error whose text does not end."""
    handler.send_head(503, {})
    end = time.monotonic() + 10
    while time.monotonic() < end:
        handler.wfile.write(b"x" * 65536)


def endless_redirect(handler: Handler) -> None:
    """A redirect whose text does not end."""
    handler.send_head(302, {"Location": "/there"})
    end = time.monotonic() + 10
    while time.monotonic() < end:
        handler.wfile.write(b"x" * 65536)


def gzip_bomb(handler: Handler) -> None:
    """Little that unpacks to much."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
        file.write(bytes(BOMB))
    data = buffer.getvalue()
    handler.send_head(200, {"Content-Encoding": "gzip", "Content-Length": str(len(data))})
    handler.wfile.write(data)


def packed_twice(handler: Handler) -> None:
    """Each packing unpacks to a thousand times as much."""
    handler.send_head(200, {"Content-Encoding": "gzip, gzip", "Content-Length": "0"})


def packed_otherwise(handler: Handler) -> None:
    """A packing whose pieces may be of any size."""
    handler.send_head(200, {"Content-Encoding": "br", "Content-Length": "0"})


def trickle(handler: Handler) -> None:
    """A byte at a time, each well before a timeout."""
    handler.send_head(200, {"Content-Length": "100000"})
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def trickling_head(handler: Handler) -> None:
    """The same in the headers."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        handler.wfile.write(b"X: y\r\n")
        time.sleep(0.1)


HOSTILE = (
    (endless, "more than"),
    (endless_error, "more than"),
    (endless_redirect, "more than"),
    (gzip_bomb, "more than"),
    (packed_twice, "packed more than once"),
    (packed_otherwise, "packed with br"),
    (trickle, SLOW),
    (trickling_head, SLOW),
)


@pytest.mark.parametrize(("write", "error"), HOSTILE)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_answer_is_bounded(
    write: Write, error: str, is_streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before the server would end it. How long a streamed body is, its reader knows."""
    if is_streamed and write in (endless, gzip_bomb, trickle):
        pytest.skip("whoever reads it counts")
    monkeypatch.setattr(bounds, "SECONDS", 0.5 if error == SLOW else 60)
    monkeypatch.setattr(bounds, "MAX_SIZE", 1 << 20)
    with server(write) as url, BoundedClient(timeout=Timeout(5), follow_redirects=True) as client:
        request = client.build_request("GET", url)
        with pytest.raises(Unbounded, match=error):
            client.send(request, stream=is_streamed)


def test_body_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes before the timeout, and 25 GB would take 7,000 years."""
    monkeypatch.setattr(bounds, "WINDOW", 0.3)
    with (
        server(trickle) as url,
        BoundedClient(timeout=Timeout(5)) as client,
        client.stream("GET", url) as response,
        pytest.raises(
            Unbounded, match=r"it trickles: \d B came in 0 s, less than 4\.1 kB a second"
        ),
    ):
        b"".join(response.iter_bytes(65536))


def test_slow_disk_is_not_the_servers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the time counts in which we wait for the other side."""
    monkeypatch.setattr(bounds, "WINDOW", 0.05)
    pieces = 0
    for _ in Meter().pieces([b"x"] * 4):
        time.sleep(0.05)
        pieces += 1
    assert pieces == 4


def test_list_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that always name another one; a list that is just as long as it may be is read."""
    monkeypatch.setattr(bounds, "MAX_LISTED", 3)
    assert list(listed(iter("abc"))) == ["a", "b", "c"]
    with pytest.raises(Unbounded, match=r"^a list of more than 3 entries$"):
        list(listed(iter(lambda: "page", None)))


def test_pages_that_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of a hub whose pages name another one and have no entries: nobody sees them, so they
    are counted where they arrive."""
    monkeypatch.setattr(bounds, "MAX_PAGES", 5)
    asked = 0

    def write(handler: Handler) -> None:
        nonlocal asked
        asked += 1
        link = f'<http://{handler.headers["Host"]}/{asked}>; rel="next"'
        handler.send_head(200, {"Link": link, "Content-Length": "2"})
        handler.wfile.write(b"[]")

    with (
        server(write) as url,
        BoundedClient() as client,
        pytest.raises(Unbounded, match=r"^a list of more than 5 pages$"),
    ):
        while True:  # as huggingface_hub follows them
            url = client.get(url).links["next"]["url"]
    assert asked == 6


def test_good_answers_are_as_before() -> None:
    """Plain, packed, an error with a text, and one that is streamed."""

    def write(handler: Handler) -> None:
        data = b'{"a": 1}'
        headers = {"X-Asked": handler.headers["Accept-Encoding"]}
        if "packed" in handler.path:
            data = gzip.compress(data)
            headers["Content-Encoding"] = "gzip"
        status = 404 if "error" in handler.path else 200
        headers |= {"Content-Length": str(len(data)), "Connection": "close"}
        handler.send_head(status, headers)
        handler.wfile.write(data)

    with server(write) as url, BoundedClient() as client:
        assert client.get(f"{url}/plain").json() == {"a": 1}
        assert client.get(f"{url}/plain").headers["X-Asked"] == "identity"
        assert client.get(f"{url}/packed").json() == {"a": 1}
        assert client.get(f"{url}/error").text == '{"a": 1}'
        with client.stream("GET", f"{url}/packed") as response:
            assert response.read() == b'{"a": 1}'
        with client.stream("GET", f"{url}/error") as response:
            assert response.read() == b'{"a": 1}'


@pytest.mark.parametrize(
    ("header", "said", "kept"),
    [
        ("Retry-After", "100000", "30"),
        ("Retry-After", " 7 ", "7"),
        ("Retry-After", "0", "0"),
        ("Retry-After", "9" * 5000, "30"),
        ("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"),
        ("RateLimit", '"api";r=0;t=100000', '"api";r=0;t=30'),
        ("RateLimit", '"api";r=0;t=5', '"api";r=0;t=5'),
    ],
)
def test_wait_is_shortened(header: str, said: str, kept: str) -> None:
    """A server cannot have the client sleep for a day; where it asks for that, it is said."""
    lines: list[str] = []

    def write(handler: Handler) -> None:
        handler.send_head(429, {header: said, "Content-Length": "0"})

    with server(write) as url, BoundedClient(say=lines.append) as client:
        assert client.get(url).headers[header] == kept
    asks = f"127.0.0.1 answers 429 and asks for a rest ({header.lower()}: {said.strip()[:60]})"
    assert lines == ([f"{asks}; waiting 30 s"] if kept != said.strip() else [])


def test_wait_that_is_shortened_is_said_by_default(caplog: pytest.LogCaptureFixture) -> None:
    """Where a command has no progress to say it in; nothing in it is obeyed by a terminal."""

    def write(handler: Handler) -> None:
        handler.send_head(429, {"Retry-After": "100000", "Content-Length": "0"})

    with server(write) as url, BoundedClient() as client:
        client.get(url)
    assert "asks for a rest (retry-after: 100000); waiting 30 s" in caplog.text
