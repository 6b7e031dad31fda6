"""Servers of objects that would keep a client forever, or fill its memory: real ones, on 127.0.0.1,
before the real clients. The bounds are those of ``transfer/test_answers.py``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from wmtp_assets.base import secrets
from wmtp_assets.base.errors import PublishError
from wmtp_assets.destinations import az_client, gs_client, s3_client
from wmtp_assets.destinations.az import Azure
from wmtp_assets.destinations.gs import GoogleStorage
from wmtp_assets.destinations.in_parts import InParts
from wmtp_assets.destinations.journal import Journal
from wmtp_assets.destinations.s3 import S3
from wmtp_assets.transfer import arrival, bounds, pools
from wmtp_assets.transfer.sessions import bounded_session
from wmtp_assets_tests.destinations.conftest import azure_account
from wmtp_assets_tests.loopback import Handler
from wmtp_assets_tests.transfer.test_answers import (
    SLOW,
    Write,
    endless,
    endless_error,
    gzip_bomb,
    server,
    trickle,
    trickling_head,
)

EMPTY_PAGES = {
    "s3": "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{}"
    "</NextContinuationToken></ListBucketResult>",
    "az": "<EnumerationResults><Blobs/><NextMarker>{}</NextMarker></EnumerationResults>",
}
EMPTY_PAGES["gs"] = EMPTY_PAGES["s3"]

DESCRIBED = {
    "ETag": '"e"',
    "x-goog-generation": "1",
    "Content-Range": "bytes 0-4/5",
    "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT",
    "x-ms-blob-type": "BlockBlob",
}


def good(handler: Handler) -> None:
    """An object."""
    handler.send_head(206, {"Content-Length": "5", **DESCRIBED})
    handler.wfile.write(b"bytes")


def chunked(handler: Handler) -> None:
    """The same in chunks."""
    handler.send_head(206, {"Transfer-Encoding": "chunked", **DESCRIBED})
    handler.wfile.write(b"2\r\nby\r\n3\r\ntes\r\n0\r\n\r\n")


def trickling_object(handler: Handler) -> None:
    """An object, a byte at a time."""
    handler.send_head(206, {"Content-Length": "100000", **DESCRIBED})
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def endless_object(handler: Handler) -> None:
    """More than the range that was asked for."""
    handler.send_head(206, DESCRIBED)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        handler.wfile.write(b"x" * 65536)


OpenAt = Callable[[str], InParts]


@pytest.fixture(params=["s3", "gs", "az"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Of a destination."""
    return request.param


@pytest.fixture
def open_at(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenAt:
    """Opens a destination whose client asks once."""
    for module in (s3_client, gs_client, az_client):
        monkeypatch.setattr(module, "ATTEMPTS", 1)
    monkeypatch.setattr(bounds, "MAX_SIZE", 1 << 20)
    journal, name = Journal(tmp_path / "journal.jsonl"), f"{scheme}://bucket/tree"

    def open_there(url: str) -> InParts:
        if scheme == "s3":
            session = boto3.Session("AKIAPLANTED000000000", "planted", region_name="us-east-1")
            return S3(s3_client.make_client(session, url), "bucket", "tree", name, journal)
        if scheme == "gs":
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
            return GoogleStorage(gs_client.make_client("bucket", None), "tree", name, journal)
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure_account(url))
        return Azure(az_client.make_client("bucket", None), "tree", name, journal)

    return open_there


def names(there: InParts) -> Iterable[object]:
    """List what is there."""
    return there.names()


def read(there: InParts) -> Iterator[bytes]:
    """Read a file."""
    return there.read("path")


@pytest.mark.parametrize(
    ("write", "ask"),
    [
        *((write, names) for write in (endless, endless_error, gzip_bomb, trickle, trickling_head)),
        *((write, read) for write in (endless_error, trickling_head)),
    ],
)
def test_answer_is_bounded(
    write: Write,
    ask: Callable[[InParts], object],
    scheme: str,
    open_at: OpenAt,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A list, an error and the head of an object are small, and whole in time."""
    if write is gzip_bomb and scheme == "s3":
        pytest.skip("its client unpacks nothing")
    monkeypatch.setattr(bounds, "SECONDS", 0.5)
    begin = time.monotonic()
    with (
        server(write) as url,
        pytest.raises(PublishError, match="does not answer as a server does"),
    ):
        list(ask(open_at(url)))  # type: ignore[call-overload]
    assert time.monotonic() - begin < 8


def test_pages_without_entries(
    scheme: str, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each names another one: no count of entries ever ends that."""
    monkeypatch.setattr(bounds, "MAX_PAGES", 20)
    asked = 0

    def write(handler: Handler) -> None:
        nonlocal asked
        asked += 1
        data = EMPTY_PAGES[scheme].format(f"token-{asked}").encode()
        headers = {"Content-Type": "application/xml", "Content-Length": str(len(data))}
        handler.send_head(200, {**headers, "Connection": "close"})
        handler.wfile.write(data)

    with server(write) as url, pytest.raises(PublishError, match="Unbounded"):
        open_at(url).names()
    assert asked == 21


def test_body_that_trickles_is_given_up(open_at: OpenAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes before the timeout. What arrived is handed out, and resumed there; a client
    that fetches chunks hands out whole ones."""
    monkeypatch.setattr(bounds, "WINDOW", 0.3)
    came = b""
    with server(trickling_object) as url:
        there = open_at(url)
        with pytest.raises(PublishError, match="does not answer") as raised:
            for block in there.read("path"):
                came += block
    assert SLOW not in str(raised.value), "what a server says is in no message"
    assert len(came) < 20
    assert came or isinstance(there, Azure)


@pytest.mark.parametrize("scheme", ["az"], indirect=True)
def test_chunk_that_does_not_end(open_at: OpenAt) -> None:
    """The client keeps what it gets of a chunk, whatever it asked for."""
    with server(endless_object) as url, pytest.raises(PublishError, match="Unbounded"):
        list(open_at(url).read("path"))


@pytest.mark.parametrize("write", [good, chunked])
def test_good_answers_are_as_before(write: Write, open_at: OpenAt) -> None:
    """However the body is sent."""
    with server(write) as url:
        assert b"".join(open_at(url).read("path")) == b"bytes"


def test_time_of_a_part_is_that_of_its_bytes(
    scheme: str, open_at: OpenAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a slow line a part takes longer than a small request may; the client of S3 reads it."""
    sizes: list[int] = []

    @contextmanager
    def noted(cut: object, size: int = 0) -> Iterator[float]:
        sizes.append(size)
        yield 0.0

    def take(handler: Handler) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.send_head(503, {"Content-Length": "0"})

    monkeypatch.setattr(pools, "deadline", noted)
    data = bytes(100_000)
    with server(take) as url, pytest.raises(PublishError):
        there = open_at(url)
        with there._asking():
            there._send("path", "upload", 1, data, hashlib.sha256(data).digest())
    assert sizes == [len(data)]


def test_what_is_asked_for_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients of Google and Azure ask other servers for these, through sessions like this one:
    no long rest, nothing without end, and what was sent is known as a secret."""
    monkeypatch.setattr(bounds, "MAX_SIZE", 1 << 20)
    waits = {"Retry-After": "100000", "x-ms-retry-after-ms": "1e9", "retry-after-ms": "7"}

    def write(handler: Handler) -> None:
        handler.send_head(429, {**waits, "Content-Length": "0"})

    with server(write) as url:
        headers = {"Authorization": "Bearer planted-by-nobody-else"}
        answer = bounded_session(1).get(url, headers=headers)
        dated = {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}
        waits |= dated
        later = bounded_session(1).get(url)
    longest = f"{arrival.LONGEST_WAIT:.0f}"
    assert answer.headers["Retry-After"] == later.headers["Retry-After"] == longest
    assert answer.headers["x-ms-retry-after-ms"] == f"{longest}000"
    assert answer.headers["retry-after-ms"] == "7"
    assert "planted-by-nobody-else" not in secrets.redact("it says planted-by-nobody-else")
    with server(endless) as url, pytest.raises(bounds.Unbounded):
        bounded_session(1).get(url)
