"""An S3 server that would keep a client forever, or fill its memory: a real one, on 127.0.0.1,
before the real client. The bounds are those of ``transfer/test_answers.py``."""

from __future__ import annotations

import time
from typing import Any

import boto3
import pytest

from wmtp_assets.base.errors import PublishError
from wmtp_assets.destinations import s3_client
from wmtp_assets.destinations.s3_client import explained, make_client
from wmtp_assets.transfer import bounds
from wmtp_assets_tests.loopback import Handler
from wmtp_assets_tests.transfer.test_answers import (
    SLOW,
    Write,
    endless,
    endless_error,
    server,
    trickle,
    trickling_head,
)


def good(handler: Handler) -> None:
    """An object."""
    handler.send_head(200, {"Content-Length": "5", "ETag": '"e"'})
    handler.wfile.write(b"bytes")


def chunked(handler: Handler) -> None:
    """The same in chunks."""
    handler.send_head(200, {"Transfer-Encoding": "chunked", "ETag": '"e"'})
    handler.wfile.write(b"2\r\nby\r\n3\r\ntes\r\n0\r\n\r\n")


@pytest.fixture
def client_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a client that asks once."""
    monkeypatch.setattr(s3_client, "ATTEMPTS", 1)
    monkeypatch.setattr(bounds, "MAX_SIZE", 1 << 20)
    session = boto3.Session("AKIAPLANTED000000000", "planted", region_name="us-east-1")
    return lambda url: make_client(session, url)


@pytest.mark.parametrize("write", [endless, endless_error, trickle, trickling_head])
@pytest.mark.parametrize("operation", ["list_objects_v2", "get_object"])
def test_answer_is_bounded(
    write: Write, operation: str, client_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list, an error and the head of an object are small, and whole in time."""
    if operation == "get_object" and write in (endless, trickle):
        pytest.skip("whoever reads it counts")
    monkeypatch.setattr(bounds, "SECONDS", 0.5)
    begin = time.monotonic()
    with (
        server(write) as url,
        pytest.raises(PublishError, match="does not answer as a server does"),
    ):
        client = client_at(url)
        with explained("s3://bucket", "bucket"):
            named = {"Key": "k"} if operation == "get_object" else {}
            getattr(client, operation)(Bucket="bucket", **named)
    assert time.monotonic() - begin < 8


def test_body_that_trickles_is_given_up(client_at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes before the timeout. What arrived is handed out, and resumed there."""
    monkeypatch.setattr(bounds, "WINDOW", 0.3)
    came = b""
    with server(trickle) as url, pytest.raises(PublishError, match="does not answer") as raised:
        client = client_at(url)
        with explained("s3://bucket", "bucket", "path"):
            body = client.get_object(Bucket="bucket", Key="k")["Body"]
            for block in body.iter_chunks(1 << 18):
                came += block
    assert SLOW not in str(raised.value), "what a server says is in no message"
    assert 0 < len(came) < 20


@pytest.mark.parametrize("write", [good, chunked])
def test_good_answers_are_as_before(write: Write, client_at: Any) -> None:
    """However the body is sent, and read."""
    with server(write) as url:
        client = client_at(url)
        assert client.get_object(Bucket="bucket", Key="k")["Body"].read() == b"bytes"
        body = client.get_object(Bucket="bucket", Key="k")["Body"]
        assert b"".join(body.iter_chunks(2)) == b"bytes"
