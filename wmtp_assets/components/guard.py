"""What a web page may not do to the web UI: an ASGI middleware in front of Dagster's web server.

Dagster's own server runs GraphQL mutations for whoever reaches it: by GET, from any origin, under
any name. So any page in a browser on this machine could launch runs. The guard lets pass

- requests whose ``Host`` is the address that is served, or a name in ``WMTP_UI_HOSTS``: a page
  cannot give its own name another address (DNS rebinding);
- requests without ``Origin`` (no page sent them), or with that of the web UI itself; browsers say
  ``Sec-Fetch-Site`` too, and from elsewhere only a link to a page of the UI is followed;
- mutations by POST only, with ``Content-Type: application/json``, which no form can send.

It is not authentication: a program that reaches the port can do what the web UI can.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.settings import HOSTS_VARIABLE

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine, as they are in ``Host``."""

_READS = ("GET", "HEAD", "OPTIONS")
_NAME = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*)(:[0-9]{1,5})?")
_DEFAULT_PORTS = (":80", ":443")


def read_hosts() -> frozenset[str]:
    """The names in ``WMTP_UI_HOSTS``.

    Raises:
        SpecError: for what is not a name.
    """
    names = [name.strip().lower() for name in HOSTS_VARIABLE.read().split(",")]
    for name in filter(None, names):
        if not _NAME.fullmatch(name):
            raise SpecError(
                f"{HOSTS_VARIABLE}: {name!r} is not a host name. Name hosts as the browser's "
                "address bar has them, with the port where it shows one, separated by commas: "
                "wmtp.example.org,localhost:8000"
            )
    return frozenset(_plain(name) for name in names if name)


def _plain(authority: str) -> str:
    """A host and port in lower case, without the port that a browser leaves out."""
    authority = authority.lower()
    for port in _DEFAULT_PORTS:
        if _NAME.fullmatch(authority):
            authority = authority.removesuffix(port)
    return authority


class Guard:
    """The middleware.

    Args:
        app: Dagster's web server.
        hosts: names that are served besides those of this machine, as :func:`read_hosts`.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with 403 (from elsewhere), 405 or 415 (no such mutation), or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif refusal := self._refuse(scope):
            if scope["type"] == "websocket":
                await WebSocketClose(reason=refusal[1][:120])(scope, receive, send)
            else:
                status, said, headers = refusal
                answer = PlainTextResponse(f"{said}\n", status, headers)
                await answer(scope, receive, send)
        else:
            await self._app(scope, receive, _unframed(send))

    def _refuse(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        """Status, text and headers of the answer to what may not pass; None: it may."""
        headers = Headers(scope=scope)
        foreign = self._from_elsewhere(scope, headers)
        if foreign:
            return 403, foreign, {}
        if scope["type"] == "websocket":
            return None
        if scope["method"] not in _READS:
            media = headers.getlist("content-type")
            if len(media) != 1 or media[0].partition(";")[0].strip().lower() != "application/json":
                return 415, "What changes something is sent as Content-Type: application/json.", {}
        elif _is_graphql(scope):
            queries = QueryParams(scope["query_string"]).getlist("query")
            if not all(map(_only_reads, queries)):
                return 405, "A mutation is sent by POST, as application/json.", {"Allow": "POST"}
        return None

    def _from_elsewhere(self, scope: Scope, headers: Headers) -> str:
        """Why a request is not one of the web UI itself; empty: it is."""
        port = (scope.get("server") or ("", None))[1]
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        host = _plain(hosts[0]) if len(hosts) == 1 else ""
        if host not in self._hosts and host not in {_plain(f"{name}:{port}") for name in LOOPBACK}:
            return (
                f"The web UI is served as 127.0.0.1:{port} and localhost:{port}, and not under "
                f"the name of this request. Name a proxy or tunnel in {HOSTS_VARIABLE}."
            )
        known = {f"{scheme}://{name}" for name in (host, *self._hosts) for scheme in _SCHEMES}
        if len(origins) > 1 or not known.issuperset(map(_plain_origin, origins)):
            return "This request comes from a page of another origin."
        site = headers.get("sec-fetch-site", "none")
        is_link = (
            scope["type"] == "http"
            and scope["method"] in ("GET", "HEAD")
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
            and not _is_graphql(scope)
        )
        if site not in ("same-origin", "none") and not is_link:
            return "This request comes from a page of another origin."
        return ""


_SCHEMES = ("http", "https")
"""Of the origin of the web UI: a proxy in front may speak TLS."""


def _plain_origin(origin: str) -> str:
    scheme, separator, authority = origin.lower().partition("://")
    return f"{scheme}{separator}{_plain(authority)}"


def _is_graphql(scope: Scope) -> bool:
    return scope["path"].rstrip("/").endswith("/graphql")


def _only_reads(query: str) -> bool:
    """Whether a GraphQL document can be parsed, and has queries only."""
    try:
        definitions = parse(query).definitions
    except (GraphQLError, RecursionError):
        return False
    return all(
        not isinstance(it, OperationDefinitionNode) or it.operation == OperationType.QUERY
        for it in definitions
    )


def _unframed(send: Send) -> Send:
    """Answers that no page of another origin shows in a frame, to lead clicks astray."""

    async def send_it(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Frame-Options"] = "SAMEORIGIN"
        await send(message)

    return send_it


def guard_web_servers() -> None:
    """Put the guard in front of every Dagster web server that this process makes from now on.

    Raises:
        SpecError: for a malformed ``WMTP_UI_HOSTS``.
    """
    from dagster_webserver.webserver import DagsterWebserver
    from starlette.middleware import Middleware

    hosts = read_hosts()
    build = DagsterWebserver.build_middleware
    if getattr(build, "is_guarded", False):
        return

    def build_middleware(self: DagsterWebserver) -> list[Middleware]:
        return [Middleware(Guard, hosts=hosts), *build(self)]

    build_middleware.is_guarded = True  # type: ignore[attr-defined]
    DagsterWebserver.build_middleware = build_middleware
