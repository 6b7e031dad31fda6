"""As much of the hub's write side as its client speaks, on loopback, and stricter than the hub: a
commit must say which one it follows, and name only what was sent.

The shapes of requests and answers are those of ``huggingface_hub`` 2.4 (``_commit_api.py``,
``lfs.py``, ``hf_api.py``).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from wmtp_assets_tests.destinations import xet
from wmtp_assets_tests.destinations.xet import Xet, is_whole
from wmtp_assets_tests.loopback import Handler, listen

USER, TOKEN = "acme", "hf_" + "PlantedToken" * 3
"""An account, and its token, which may write to what is its own."""

READ_TOKEN = "hf_" + "ReadOnly" * 4
"""A token of the same account that may only read."""

LARGE = 10_000
"""Bytes from which on a file lies in LFS."""

_API = re.compile(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/([a-z-]+)(?:/(.+))?)?")
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_BATCH = re.compile(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")


class Refusal(Exception):
    """An answer that refuses."""

    def __init__(self, status: int, message: str = "", code: str = "") -> None:
        self.status, self.message, self.code = status, message, code


Tree = dict[str, bytes]


@dataclass
class Repository:
    """What the hub keeps of one.

    Attributes:
        branches: name → commit.
        commits: commit → path → content; the order is that of their making.
    """

    is_private: bool = True
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Tree] = field(default_factory=dict)

    def add(self, branch: str, tree: Tree) -> str:
        """Commit a tree."""
        seed = f"{branch} {len(self.commits)} {sorted(tree)}"
        commit = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[commit], self.branches[branch] = tree, commit
        return commit

    def at(self, revision: str) -> str:
        """The commit that a revision names."""
        revision = unquote(revision)
        commit = self.branches.get(revision, revision)
        if commit not in self.commits:
            raise Refusal(404, "Invalid rev id", "RevisionNotFound")
        return commit

    @property
    def main(self) -> Tree:
        """What is at the head of main."""
        return self.commits[self.branches["main"]]


@dataclass
class Hub:
    """The server's state, and what it was asked.

    Attributes:
        url: of the endpoint.
        objects: SHA-256 → what was sent to LFS.
        asked: every request as ``METHOD path``.
        fault: asked before a request is answered; may raise :class:`Refusal` or change the state.
        page: in place of every answer; empty: none.
        part_size: bytes of the parts in which large files are asked for; 0: they come whole.
        spared: of how many parts the URLs are left out.
        parts: SHA-256 → number → bytes of what came in parts and is not put together.
        xet: the store beside LFS.
        received: bytes that came to LFS since :meth:`soundly`.
        lost: of which requests the answer is lost, by the beginning of ``METHOD path``.
        cut: which requests end in the middle of their body, in the same way.
    """

    url: str = ""
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    fault: Callable[[str, bytes], None] = lambda request, body: None
    part_size: int = 0
    spared: int = 0
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    xet: Xet = field(default_factory=Xet)
    lost: str = ""
    cut: str = ""
    page: bytes = b""
    received: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def make(self, kind: str, name: str, *, is_private: bool = True) -> Repository:
        """A repository as the web page makes it."""
        repository = self.repositories[kind, name] = Repository(is_private)
        repository.add("main", {".gitattributes": b"*.pth filter=lfs\n"})
        return repository

    def soundly(self) -> None:
        """Without a fault from now on."""
        self.fault, self.lost, self.cut = lambda request, body: None, "", ""
        self.page, self.received, self.spared = b"", 0, 0

    def sent(self) -> int:
        """How many files were sent to LFS."""
        return sum(request.startswith("PUT /lfs/") for request in self.asked)

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, bytes]:
        """Status and body."""
        url = urlsplit(path)
        place, query = url.path, parse_qs(url.query)
        request = f"{method} {place}"
        self.asked.append(request)
        self.fault(request, body)
        if self.page:
            return 200, self.page
        if place == "/api/whoami-v2":
            if token not in (TOKEN, READ_TOKEN):
                raise Refusal(401, "Invalid credentials in Authorization header")
            return 200, _json({"type": "user", "name": USER, "orgs": []})
        if place == "/api/validate-yaml":
            return 200, _json({"errors": [], "warnings": []})
        if place == "/api/repos/create":
            return self._create(json.loads(body), token)
        if match := re.fullmatch(r"/lfs/([0-9a-f]{64})", place):
            return self._put(match[1], body)
        if match := re.fullmatch(r"/lfs/([0-9a-f]{64})/(\d+|all)", place):
            assert not token, "the URL is signed, and not the hub's"
            if match[2] == "all":
                return self._put_together(match[1], json.loads(body))
            self.parts.setdefault(match[1], {})[int(match[2])] = body
            self.received += len(body)
            return 200, b""
        if place.startswith(("/v1/", "/v2/")):
            return self._to_xet(method, place, token, body)
        if match := _BATCH.fullmatch(place):
            self._find("dataset" if match[1] else "model", match[2], token)
            _require_writer(match[2], token)
            return self._batch(json.loads(body))
        if match := _RESOLVE.fullmatch(place):
            repository = self._find("dataset" if match[1] else "model", match[2], token)
            tree = repository.commits[repository.at(match[3])]
            if (name := unquote(match[4])) not in tree:
                raise Refusal(404, "Entry not found", "EntryNotFound")
            return 200, tree[name]
        match = _API.fullmatch(place)
        if match is None:
            raise Refusal(404, "No such page")
        kind, name, action, rest = match.groups()
        repository = self._find(kind, name, token)
        match action, rest:
            case (None, _) | ("revision", _):
                commit = repository.at(rest or "main")
                info = {"id": name, "sha": commit, "private": repository.is_private}
                return 200, _json({**info, "tags": [], "siblings": []})
            case "tree", revision:
                tree = repository.commits[repository.at(revision)]
                assert query["recursive"] == ["true"] or query["recursive"] == ["True"], query
                return 200, _json([_entry(path, tree[path]) for path in sorted(tree)])
            case "auth-check", _:
                if rest == "write":
                    _require_writer(name, token)
                return 200, _json({})
            case "xet-write-token", revision:
                _require_writer(name, token)
                repository.at(revision)
                soon = int(time.time()) + 3600
                return 200, _json({"casUrl": self.url, "accessToken": xet.TOKEN, "exp": soon})
            case "branch", branch:
                _require_writer(name, token)
                repository.branches.setdefault(unquote(branch), repository.branches["main"])
                return 200, _json({})
            case "preupload", revision:
                _require_writer(name, token)
                tree = repository.commits[repository.at(revision)]
                said = json.loads(body)
                ignored = said.get("gitIgnore", tree.get(".gitignore", b"").decode()).split()
                files = [_mode(file, tree) for file in said["files"]]
                for file in files:
                    name = file["path"].rpartition("/")[2]
                    file["shouldIgnore"] = any(fnmatchcase(name, line) for line in ignored)
                return 200, _json({"files": files})
            case "commit", revision:
                _require_writer(name, token)
                return self._commit(kind, name, repository, unquote(revision), body)
            case _:
                raise Refusal(404, "No such page")

    def _find(self, kind: str, name: str, token: str) -> Repository:
        repository = self.repositories.get((kind, unquote(name)))
        if repository is None or (repository.is_private and token not in (TOKEN, READ_TOKEN)):
            raise Refusal(404, "Repository not found", "RepoNotFound")
        return repository

    def _create(self, said: dict[str, Any], token: str) -> tuple[int, bytes]:
        name = f"{said['organization'] or USER}/{said['name']}"
        _require_writer(name, token)
        if (said["type"], name) in self.repositories:
            return 409, _json(
                {"error": "You already created this repo", "url": f"{self.url}/{name}"}
            )
        self.make(said["type"], name, is_private=said["visibility"] == "private")
        return 200, _json({"url": f"{self.url}/{name}"})

    def _batch(self, said: dict[str, Any]) -> tuple[int, bytes]:
        assert said["operation"] == "upload"
        assert said["hash_algo"] == "sha256"
        objects: list[dict[str, Any]] = []
        for item in said["objects"]:
            href = f"{self.url}/lfs/{item['oid']}"
            upload: dict[str, Any] = {"href": href}
            if self.part_size:
                assert "multipart" in said["transfers"], said
                count = -(-item["size"] // self.part_size) - self.spared
                urls = {f"{number:05d}": f"{href}/{number}" for number in range(1, count + 1)}
                header = {"chunk_size": str(self.part_size), **urls}
                upload = {"href": f"{href}/all", "header": header}
                self.parts[item["oid"]] = {}
            missing = item["oid"] not in self.objects
            objects.append({**item, **({"actions": {"upload": upload}} if missing else {})})
        transfer = "multipart" if self.part_size else "basic"
        return 200, _json({"transfer": transfer, "objects": objects})

    def _put(self, oid: str, body: bytes) -> tuple[int, bytes]:
        self._keep(oid, body)
        self.received += len(body)
        return 200, b""

    def _to_xet(self, method: str, place: str, token: str, body: bytes) -> tuple[int, bytes]:
        assert token == xet.TOKEN, "the hub's token is not for the store"
        if match := re.fullmatch(r"/v1/xorbs/default/([0-9a-f]{64})", place):
            self.xet.keep(match[1], body)
            return 200, _json({"was_inserted": True})
        if place == "/v1/shards":
            for oid, content in self.xet.files(body):
                self._keep(oid, content)
            return 200, _json({"result": 1})
        raise Refusal(404, "Not known")  # chunks of others, and newer ways, which it then leaves

    def _keep(self, oid: str, body: bytes) -> None:
        if not is_whole(oid, body):
            raise Refusal(400, "The SHA-256 does not match")
        self.objects[oid] = body

    def _put_together(self, oid: str, said: dict[str, Any]) -> tuple[int, bytes]:
        """Once: whether the hub itself lets an upload be completed again is not known."""
        parts = self.parts.pop(oid, None)
        if parts is None:
            raise Refusal(404, "There is no such upload")
        assert said["oid"] == oid, said
        named = [(part["partNumber"], part["etag"]) for part in said["parts"]]
        if named != [(number, etag(str(number))) for number in sorted(parts)]:
            raise Refusal(400, "The parts are not those that were sent")
        self._keep(oid, b"".join(parts[number] for number in sorted(parts)))
        return 200, _json({})

    def _commit(
        self, kind: str, name: str, repository: Repository, branch: str, body: bytes
    ) -> tuple[int, bytes]:
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines.pop(0)
        assert header["key"] == "header", header
        self.messages.append(header["value"])
        with self.lock:
            if branch not in repository.branches:
                raise Refusal(404, "Invalid rev id", "RevisionNotFound")
            if header["value"]["parentCommit"] != repository.branches[branch]:
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            tree = dict(repository.commits[repository.branches[branch]])
            for line in lines:
                value = line["value"]
                match line["key"]:
                    case "file":
                        tree[value["path"]] = base64.b64decode(value["content"], validate=True)
                    case "lfsFile":
                        if value["oid"] not in self.objects:
                            raise Refusal(400, "Your push was rejected: an LFS object is missing")
                        tree[value["path"]] = self.objects[value["oid"]]
                    case "deletedFile":
                        if value["path"] not in tree:
                            raise Refusal(404, "A file with this name doesn't exist")
                        del tree[value["path"]]
                    case key:
                        raise AssertionError(key)
            commit = repository.add(branch, tree)
        page = f"{self.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        return 200, _json({"commitUrl": f"{page}/commit/{commit}", "commitOid": commit})


def _require_writer(name: str, token: str) -> None:
    if token != TOKEN or name.split("/")[0] not in (USER, "team"):
        raise Refusal(403, "You don't have the rights to write to this repository")


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def etag(part: str) -> str:
    """Of a part, as the store behind the hub says it: no hash, as in an encrypted bucket."""
    return f'"{part} of an upload"'


def blob_id(data: bytes) -> str:
    """Git's SHA-1 of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
    if len(data) >= LARGE:
        oid = hashlib.sha256(data).hexdigest()
        entry |= {"oid": blob_id(oid.encode())}
        entry |= {"lfs": {"oid": oid, "size": len(data), "pointerSize": 130}}
    return entry


def _mode(file: dict[str, Any], tree: Tree) -> dict[str, Any]:
    there = tree.get(file["path"])
    is_large = file["size"] >= LARGE
    oid = None
    if there is not None:
        oid = hashlib.sha256(there).hexdigest() if len(there) >= LARGE else blob_id(there)
    mode = "lfs" if is_large else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A hub without a repository."""
    hub = Hub()

    class Connection(Handler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if hub.cut and f"{self.command} {self.path}".startswith(hub.cut):
                self.rfile.read(length // 2)
                self.end_by_reset()
                return
            body = self.rfile.read(length) if length else self._chunks()
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            headers = {"ETag": etag(self.path.rpartition("/")[2])} if self.command == "PUT" else {}
            try:
                status, data = hub.answer(self.command, self.path, token, body)
            except Refusal as refusal:
                status, data = refusal.status, _json({"error": refusal.message})
                headers = {"X-Error-Message": refusal.message}
                headers |= {"X-Error-Code": refusal.code} if refusal.code else {}
            if hub.lost and f"{self.command} {self.path}".startswith(hub.lost):
                hub.lost = ""
                self.end_by_reset()
                return
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if wanted and status == 200:
                begin, whole = int(wanted[1]), len(data)
                data = data[begin : int(wanted[2]) + 1 if wanted[2] else None]
                headers["Content-Range"] = f"bytes {begin}-{begin + len(data) - 1}/{whole}"
                status = 206
            self.send_head(status, {**headers, "Content-Length": str(len(data))})
            if self.command != "HEAD":
                self.wfile.write(data)

        def _chunks(self) -> bytes:
            """A body that is sent in chunks, as a file of unknown length is."""
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return b""
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        do_GET = do_HEAD = do_POST = do_PUT = _answer

    with listen(Connection) as url:
        hub.url = url
        yield hub
