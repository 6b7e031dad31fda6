"""The guard of the web UI, request by request, before a server that says that it was reached."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.types import Message, Receive, Scope, Send

from wmtp_assets.base.errors import SpecError
from wmtp_assets.components.guard import Guard, read_hosts

PORT = 3000
HOST = f"127.0.0.1:{PORT}"
JSON = "application/json"
MUTATION = "mutation { launchRun(executionParams: {}) { __typename } }"
REACHED = 299


async def _server(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": REACHED, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def ask(
    method: str = "GET",
    path: str = "/",
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    hosts: frozenset[str] = frozenset(),
    host: str | None = HOST,
    **query: str,
) -> list[Message]:
    """What is sent back; ``method`` may be ``WS``, for a websocket."""
    sent: list[Message] = []
    pairs = list(headers.items() if isinstance(headers, dict) else headers or [])
    pairs += [] if host is None else [("Host", host)]
    is_websocket = method == "WS"
    scope: dict[str, Any] = {
        "type": "websocket" if is_websocket else "http",
        "path": path,
        "query_string": urlencode(query).encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in pairs],
        "server": ("127.0.0.1", PORT),
    }
    if not is_websocket:
        scope["method"] = method

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing of a refused request is read")

    asyncio.run(Guard(_server, hosts)(scope, receive, send))
    return sent


def status(*args: Any, **kwargs: Any) -> int:
    """The status of an answer."""
    return ask(*args, **kwargs)[0]["status"]


@pytest.mark.parametrize("host", [HOST, f"localhost:{PORT}", f"LOCALHOST:{PORT}", f"[::1]:{PORT}"])
def test_what_the_web_ui_itself_does(host: str) -> None:
    """Pages, GraphQL by POST, under each name of this machine; scripts send no origin."""
    own = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert status(host=host) == REACHED
    assert status("POST", "/graphql", {**own, "Content-Type": JSON}, host=host) == REACHED
    typed = {"Content-Type": "application/json; charset=utf-8"}
    assert status("POST", "/graphql", typed, host=host) == REACHED
    assert ask("WS", "/graphql", own, host=host)[0]["type"] == "websocket.accept"
    assert ask("WS", "/graphql", host=host)[0]["type"] == "websocket.accept"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "localhost",
        "localhost:3001",
        f"localhost.:{PORT}",
        f"localhost.evil.example:{PORT}",
        f"evil.example@127.0.0.1:{PORT}",
        f"127.0.0.2:{PORT}",
        f"0.0.0.0:{PORT}",
        f"127.1:{PORT}",
        "",
        None,
    ],
)
def test_name_that_is_not_served(host: str | None) -> None:
    """A page can give its own name our address (DNS rebinding), and then has our origin."""
    assert status(host=host) == 403
    assert status("POST", "/graphql", {"Content-Type": JSON}, host=host) == 403
    assert ask("WS", "/graphql", host=host)[0]["type"] == "websocket.close"


def test_two_names() -> None:
    """What one server takes for the name, another may not."""
    assert status(headers=[("Host", HOST)]) == 403
    assert status(headers=[("Origin", f"http://{HOST}"), ("Origin", "http://evil.example")]) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        f"http://evil.example:{PORT}",
        "http://127.0.0.1:3001",
        "http://127.0.0.1",
        f"http://localhost:{PORT}",
        f"http://{HOST}.evil.example",
        f"http://evil.example?http://{HOST}",
        f"chrome-extension://{HOST}",
        f"http://{HOST}/",
    ],
)
def test_page_of_another_origin(origin: str) -> None:
    """Whatever it sends, in whatever way, also to another name of this machine than it shows."""
    headers = {"Origin": origin}
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        assert status(method, "/graphql", {**headers, "Content-Type": JSON}) == 403
    assert ask("WS", "/graphql", headers)[0]["type"] == "websocket.close"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_what_browsers_send_without_origin(site: str) -> None:
    """Images, scripts and frames carry no Origin; browsers say where they come from."""
    for destination in ("image", "script", "iframe", "empty", "style"):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        assert status(headers={**headers, "Sec-Fetch-Dest": destination}) == 403
    frame = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert status(headers=frame) == 403


def test_link_to_a_page_is_followed() -> None:
    """In a chat or a document; not to GraphQL, and not with a form."""
    link = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert status(path="/assets/micro_mtp", headers=link) == REACHED
    assert status(path="/graphql", headers=link) == 403
    assert status("POST", "/", {**link, "Content-Type": JSON}) == 403
    assert ask("WS", "/graphql", link)[0]["type"] == "websocket.close"


@pytest.mark.parametrize(
    "query",
    [
        MUTATION,
        f"query Q {{ version }} {MUTATION}",
        f"# a comment\n{MUTATION}",
        f"{MUTATION} fragment F on Query {{ version }}",
        "subscription { runs { __typename } }",
        f"mutation {'{ a ' * 5000}{'}' * 5000}",
    ],
    ids=["plain", "second", "comment", "fragment", "subscription", "deep"],
)
def test_mutation_by_get(query: str) -> None:
    """An image in a page, or a link in a mail, would be enough to start a run."""
    assert status(path="/graphql", query=query) == 405
    assert status(path="/graphql", query=query, headers={"Sec-Fetch-Site": "none"}) == 405
    assert status(path="/prefix/graphql/", query=query) == 405
    assert status(path="/assets", query=query) == REACHED


def test_second_query_in_the_address() -> None:
    """Servers differ in which of two they read."""

    def of(*queries: str) -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/graphql",
            "query_string": urlencode([("query", query) for query in queries]).encode(),
            "headers": [(b"host", HOST.encode())],
            "server": ("127.0.0.1", PORT),
        }
        asyncio.run(Guard(_server, ())(scope, None, send))  # type: ignore[arg-type]
        return sent[0]["status"]

    assert of("{ version }", MUTATION) == of(MUTATION, "{ version }") == 405
    assert of("{ version }") == REACHED
    assert of("{ version") == 405


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "text/plain, application/json",
        "application/jsonx",
        "application/graphql",
    ],
)
@pytest.mark.parametrize("path", ["/graphql", "/report_asset_materialization/micro_mtp"])
def test_post_of_a_form(kind: str, path: str) -> None:
    """A page may send these types to any server, without asking it first; Dagster takes
    ``text/plain; application/json`` for JSON."""
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert status(method, path, {"Content-Type": kind} if kind else {}) == 415
    both = [("Content-Type", JSON), ("Content-Type", "text/plain")]
    assert status("POST", path, both) == 415


def test_no_frame_of_another_origin() -> None:
    """Nor may a page show ours in a frame, and lead clicks to it."""
    (start, _) = ask()
    assert (b"x-frame-options", b"SAMEORIGIN") in start["headers"]


def test_refusal_says_what_to_do() -> None:
    """Somebody with a tunnel sees it first; what was sent is not repeated."""
    start, body = ask(host="evil.example")
    assert b"WMTP_UI_HOSTS" in body["body"]
    assert b"evil" not in body["body"]
    assert (b"content-type", b"text/plain; charset=utf-8") in start["headers"]


def test_host_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """With TLS before it, with its own port, and where the proxy writes Host anew."""
    monkeypatch.setenv("WMTP_UI_HOSTS", " WMTP.example.org, localhost:8000,[::1]:8443 ,")
    hosts = read_hosts()
    assert hosts == {"wmtp.example.org", "localhost:8000", "[::1]:8443"}
    typed = {"Content-Type": JSON}
    for host in ("wmtp.example.org", "wmtp.example.org:443", "localhost:8000"):
        for scheme in ("http", "https"):
            own = {**typed, "Origin": f"{scheme}://{host.removesuffix(':443')}"}
            assert status("POST", "/graphql", own, hosts, host) == REACHED
    behind = {**typed, "Origin": "https://wmtp.example.org"}
    assert status("POST", "/graphql", behind, hosts, HOST) == REACHED
    assert status("POST", "/graphql", behind, frozenset(), HOST) == 403
    assert status(hosts=hosts, host="other.example.org") == 403


@pytest.mark.parametrize(
    "text", ["https://wmtp.example.org", "*.example.org", "*", "a b", "a/b", "host:", "host:port"]
)
def test_host_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A pattern would be taken for a name, and nothing would be reached."""
    monkeypatch.setenv("WMTP_UI_HOSTS", f"good.example,{text}")
    with pytest.raises(SpecError, match="is not a host name"):
        read_hosts()
