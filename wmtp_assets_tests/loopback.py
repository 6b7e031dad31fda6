"""A server on loopback that stands before another one: what proxies that play faults have in
common, whatever protocol over HTTP is spoken through them."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Handler(BaseHTTPRequestHandler):
    """One connection; who inherits answers the methods that it knows, as ``do_GET``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        """The status line and these headers, and no others."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def end_by_reset(self) -> None:
        """Let the connection end with RST, not FIN."""
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is not an error."""


@contextmanager
def listen(handler: type[Handler]) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1; the URL."""
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def ask(
    upstream: str, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body that the server behind answers with."""
    connection = http.client.HTTPConnection(urlsplit(upstream).netloc)
    connection.request(method, path, body=body, headers=dict(headers))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.getheaders(), content
