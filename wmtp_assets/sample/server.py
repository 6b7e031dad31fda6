"""The loopback server: as much of the Hugging Face Hub's HTTP API as its clients need to read.

Served are ``/api/{models,datasets}/<id>`` with ``/revision``, ``/tree``, ``/paths-info`` and
``/auth-check``, and the files under ``[/datasets]/<id>/resolve/<revision>/<path>``. Requests are
answered from the index of each repository: a path that it does not list does not exist. The shapes
of the answers are those that ``huggingface_hub`` parses (``hf_api.py``, ``file_download.py``).
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, unquote, urlsplit

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.sample.index import (
    IndexedFile,
    RepositoryIndex,
    index_repository,
    lfs_pointer,
    read_index,
    tree_id,
)
from wmtp_assets.sample.repositories import RepoType, index_path, lock_repositories

_ID = r"(?P<id>[^/]+/[^/]+)"
_API = re.compile(
    rf"/api/(?P<type>model|dataset)s/{_ID}"
    r"(/(?P<action>revision|tree|paths-info|auth-check)(/(?P<revision>[^/]+)(/(?P<path>.+))?)?)?"
)
_RESOLVE = re.compile(rf"/(?P<type>datasets/)?{_ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class _Repository:
    repo_type: RepoType
    repo_id: str
    folder: Path
    index: RepositoryIndex
    tokens: Collection[str] | None
    """Accepted ones; ``None``: not gated."""


class _Refusal(Exception):
    """An error answer; ``code`` is what ``huggingface_hub`` derives its exceptions from."""

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **(headers or {})}
        if code:
            self.headers["X-Error-Code"] = code


@contextmanager
def serve(folder: Path, gated: Mapping[str, Collection[str]] | None = None) -> Iterator[str]:
    """Serve the repositories below ``folder`` on a free port of 127.0.0.1 while the context lasts.

    Repositories without an index (see :mod:`~wmtp_assets.sample.repositories`), such as those
    that a test writes by hand, are hashed first; if any is being built, that is waited for. What
    changes on disk later is not noticed.

    Args:
        folder: holds ``models/<owner>/<name>/`` and ``datasets/<owner>/<name>/``.
        gated: repository id → the tokens that may read its files. All others are open. What a
            gated repository holds can be listed by everyone, as on the real hub.

    Yields:
        the endpoint, for ``HF_ENDPOINT`` or ``HfApi(endpoint=...)``: ``http://127.0.0.1:<port>``.

    Raises:
        CorruptArtifact: if a file is missing or has another size than its index says.
        ValueError: if ``gated`` names a repository that is not there.
    """
    with lock_repositories(folder):
        repositories = _find_repositories(folder, gated or {})
    with _Server(repositories) as server:
        # Looks every 50 ms whether to stop.
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.disconnect()


def _find_repositories(
    folder: Path, gated: Mapping[str, Collection[str]]
) -> dict[tuple[str, str], _Repository]:
    found: dict[tuple[str, str], _Repository] = {}
    for repo_type in get_args(RepoType):
        for path in sorted((folder / f"{repo_type}s").glob("[!.]*/[!.]*/")):
            repo_id = f"{path.parent.name}/{path.name}"
            index = _load_index(path)
            found[repo_type, repo_id] = _Repository(
                repo_type, repo_id, path, index, gated.get(repo_id)
            )
    if unknown := gated.keys() - {repo_id for _, repo_id in found}:
        raise ValueError(f"gated, but not below {folder}: {', '.join(sorted(unknown))}")
    return found


def _load_index(repository: Path) -> RepositoryIndex:
    stored = read_index(index_path(repository))
    if stored is None:
        return index_repository(repository)
    index, _ = stored
    if mismatch := index.find_mismatch(repository):
        raise CorruptArtifact(
            f"{repository / mismatch} is not as its index says; delete {repository}, and what "
            "needed it makes it again"
        )
    return index


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, repositories: Mapping[tuple[str, str], _Repository]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self._connections: set[Any] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def disconnect(self) -> None:
        """Hang up on clients that keep their connection, so that their threads end."""
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # the client was faster
                    connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server  # type: ignore[assignment]

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client hung up
            super().handle()

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def _answer(self) -> None:
        # The body is read even if nobody wants it: the next request follows it on the connection.
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        try:
            if match := _API.fullmatch(url.path):
                self._answer_api(match, parse_qs(url.query), body)
            elif match := _RESOLVE.fullmatch(url.path):
                self._answer_file(match)
            else:
                raise _Refusal(HTTPStatus.NOT_FOUND, "No such page")
        except _Refusal as refusal:
            self._send_json({"error": str(refusal)}, refusal.status, refusal.headers)

    def _answer_api(self, match: re.Match[str], query: dict[str, list[str]], body: bytes) -> None:
        repository = self._find(match["type"], match["id"])
        action = match["action"]
        if (self.command == "POST") != (action == "paths-info"):
            raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Wrong method")
        if action == "auth-check":
            self._check_access(repository)
            return self._send_json({})
        _check_revision(repository, match["revision"] or "main")
        files = repository.index.files
        if action == "tree":
            recursive = query.get("recursive", [""])[0].lower() in ("true", "1")
            return self._send_json(_list_tree(files, unquote(match["path"] or ""), recursive))
        if action == "paths-info":
            paths = parse_qs(body.decode()).get("paths", [])
            entries = {entry["path"]: entry for entry in _list_tree(files, "", recursive=True)}
            return self._send_json([entries[path] for path in paths if path in entries])
        blobs = query.get("blobs", [""])[0].lower() in ("true", "1")
        return self._send_json(_describe(repository, blobs))

    def _answer_file(self, match: re.Match[str]) -> None:
        repository = self._find("dataset" if match["type"] else "model", match["id"])
        self._check_access(repository)
        _check_revision(repository, match["revision"])
        commit = repository.index.commit
        path = unquote(match["path"])
        file = next((file for file in repository.index.files if file.path == path), None)
        if file is None:
            raise _Refusal(
                HTTPStatus.NOT_FOUND, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit}
            )
        start, stop = 0, file.size
        wanted = self.headers.get("Range") if self.command == "GET" else None
        if part := wanted and _parse_range(wanted, file.size):
            start, stop = part
            self.send_response(HTTPStatus.PARTIAL_CONTENT)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{file.size}")
        else:
            self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{file.etag}"')
        self.send_header("X-Repo-Commit", commit)
        if file.sha256:
            self.send_header("X-Linked-Etag", f'"{file.sha256}"')
            self.send_header("X-Linked-Size", str(file.size))
        self.end_headers()
        if self.command == "GET" and stop > start:
            with (repository.folder / file.path).open("rb") as content:
                sent = self.connection.sendfile(content, start, stop - start)
            # Fewer, if the file was cut off meanwhile: the client must not wait for the rest.
            self.close_connection |= sent < stop - start

    def _find(self, repo_type: str, repo_id: str) -> _Repository:
        repository = self.server.repositories.get((repo_type, unquote(repo_id)))
        if repository is None:
            raise _Refusal(HTTPStatus.NOT_FOUND, "Repository not found", "RepoNotFound")
        return repository

    def _check_access(self, repository: _Repository) -> None:
        if repository.tokens is None:
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            raise _Refusal(
                HTTPStatus.UNAUTHORIZED, "Access is restricted: log in to have it", "GatedRepo"
            )
        if token not in repository.tokens:
            raise _Refusal(
                HTTPStatus.FORBIDDEN, "Access is restricted: ask its authors for it", "GatedRepo"
            )

    def _send_json(
        self,
        document: Any,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _check_revision(repository: _Repository, revision: str) -> None:
    if unquote(revision) not in ("main", repository.index.commit):
        raise _Refusal(HTTPStatus.NOT_FOUND, "Invalid rev id", "RevisionNotFound")


def _describe(repository: _Repository, blobs: bool) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = []
    for file in repository.index.files:
        sibling: dict[str, Any] = {"rfilename": file.path}
        if blobs:
            sibling |= {"size": file.size, "blobId": file.blob_id}
            if lfs := _lfs_info(file, "sha256"):
                sibling["lfs"] = lfs
        siblings.append(sibling)
    return {
        "id": repository.repo_id,
        "author": repository.repo_id.split("/")[0],
        "sha": repository.index.commit,
        "private": False,
        "gated": False if repository.tokens is None else "manual",
        "disabled": False,
        "tags": [],
        "siblings": siblings,
    }


def _list_tree(files: Collection[IndexedFile], path: str, recursive: bool) -> list[dict[str, Any]]:
    """The files and folders below the folder ``path``, in path order; ``""`` is the top."""
    prefix = f"{path}/" if path else ""
    inside = [file for file in files if file.path.startswith(prefix)]
    if path and not inside:
        raise _Refusal(HTTPStatus.NOT_FOUND, "Entry not found", "EntryNotFound")
    entries: dict[str, dict[str, Any]] = {}
    for file in inside:
        entry = {"type": "file", "oid": file.blob_id, "size": file.size, "path": file.path}
        if lfs := _lfs_info(file, "oid"):
            entry["lfs"] = lfs
        entries[file.path] = entry
        parts = file.path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts)):
            folder = prefix + "/".join(parts[:depth])
            below = (file for file in inside if file.path.startswith(f"{folder}/"))
            entries.setdefault(
                folder, {"type": "directory", "oid": tree_id(below), "size": 0, "path": folder}
            )
    return [
        entries[name]
        for name in sorted(entries)
        if recursive or "/" not in name.removeprefix(prefix)
    ]


def _lfs_info(file: IndexedFile, hash_name: str) -> dict[str, Any] | None:
    if file.sha256 is None:
        return None
    pointer_size = len(lfs_pointer(file.sha256, file.size))
    return {hash_name: file.sha256, "size": file.size, "pointerSize": pointer_size}


def _parse_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the byte after the last of a ``Range``; ``None`` for what is not one range.

    RFC 9110, section 14: whatever cannot be parsed is ignored, and the whole file is sent.
    """
    match = _RANGE.fullmatch(header)
    if match is None or header == "bytes=-":
        return None
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if first and last and int(last) < start:
        return None
    if start >= size:
        raise _Refusal(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "Range not satisfiable",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, stop
