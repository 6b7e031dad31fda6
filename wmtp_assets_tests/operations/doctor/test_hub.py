"""Endpoints and tokens, against a hub on loopback that knows one account."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from wmtp_assets.base.settings import Settings, Source
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.doctor.examine import hub
from wmtp_assets.operations.doctor.machine import Condition
from wmtp_assets.storage.store import Store

TOKEN = "hf_PlantedTokenThatNobodyMaySee"


class Account(BaseHTTPRequestHandler):
    """Answers ``whoami``: the role that the server was told, or its status."""

    def do_GET(self) -> None:
        assert self.path == "/api/whoami-v2"
        server: Server = self.server  # type: ignore[assignment]
        server.asked.append(self.headers.get("authorization", ""))
        body = json.dumps({"name": "ada", "auth": {"accessToken": {"role": server.role}}}).encode()
        self.send_response(server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    role, status = "read", 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Account)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The hub, trusted and in use, and a token."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("WMTP_TRUSTED_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
        server.shutdown()


def conditions(tmp_path: Path, source: Source = "hub") -> dict[str, Condition]:
    store = Store(Settings(source, tmp_path), load_catalogue())
    found = {item.topic: item for item in hub(store)}
    assert TOKEN not in str(found)
    for item in found.values():
        assert (item.state == "ok") == (not item.remedy)
    return found


def test_sample_asks_nobody(tmp_path: Path, server: Server) -> None:
    """It is offline, whatever token lies around."""
    assert [item.state for item in conditions(tmp_path, "sample").values()] == ["ok"]
    assert server.asked == []


@pytest.mark.parametrize("role", ["read", "fineGrained"])
def test_token_and_its_scope(tmp_path: Path, server: Server, role: str) -> None:
    """That there is one, from where, and what it may do; not what it is."""
    server.role = role
    found = conditions(tmp_path)
    assert found["endpoint"].says == f"{server.url}, a mirror that may be sent the token"
    assert (found["token"].state, found["token"].says) == (
        "ok",
        f"a token, from HF_TOKEN, scope {role}",
    )
    assert server.asked == [f"Bearer {TOKEN}"]


def test_token_that_may_write_is_told(tmp_path: Path, server: Server) -> None:
    """Whoever steals it can change the account's models."""
    server.role = "write"
    token = conditions(tmp_path)["token"]
    assert token.state == "warning"
    assert "may write" in token.says


def test_token_that_is_refused_does_not_work(tmp_path: Path, server: Server) -> None:
    """Found here, not after an hour."""
    server.status = 401
    token = conditions(tmp_path)["token"]
    assert token.state == "error"
    assert "refuses a token, from HF_TOKEN (401)" in token.says


@pytest.mark.parametrize("status", [500, 0])
def test_hub_that_says_nothing(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """It may be the network: no reason to call the token bad."""
    server.status = status or 200
    if not status:
        url = "http://127.0.0.1:9"
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("WMTP_TRUSTED_ENDPOINT", url)
    token = conditions(tmp_path)["token"]
    assert token.state == "warning"
    assert "could not be asked" in token.says


def test_no_token(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gated repositories are named, with where to accept their licence."""
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    token = conditions(tmp_path)["token"]
    assert token.state == "warning"
    assert "https://huggingface.co/facebook/multi-token-prediction" in token.says
    assert server.asked == []


def test_untrusted_mirror_gets_no_token(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is said how to trust it."""
    monkeypatch.delenv("WMTP_TRUSTED_ENDPOINT")
    found = conditions(tmp_path)
    assert found["endpoint"].state == found["token"].state == "warning"
    assert found["endpoint"].remedy.endswith(f"export WMTP_TRUSTED_ENDPOINT={server.url}")
    assert server.asked == []


def test_endpoint_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http beyond loopback: every download would fail."""
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example")
    (found,) = conditions(tmp_path).values()
    assert (found.topic, found.state) == ("endpoint", "error")
    assert "plain http is only for loopback" in found.says


def test_offline(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE=1 means that nobody is asked, this command included."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    token = conditions(tmp_path)["token"]
    assert (token.state, token.remedy) == ("warning", "to download: unset HF_HUB_OFFLINE")
    assert server.asked == []


def test_official_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any setting; not asked here."""
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    endpoint = conditions(tmp_path)["endpoint"]
    assert (endpoint.state, endpoint.says) == ("ok", "https://huggingface.co")
