"""A hub with faults, and the list of them: what each does, and what comes of it.

The hub is a proxy on loopback in front of the sample's server. ``python -m
wmtp_assets_tests.hub.faults`` prints the list as the table in ``docs/downloads.md``; test_faults.py
plays each fault with the real client, and compares what it measures with what stands here.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, load_specs
from wmtp_assets_tests.hub.conftest import write_files
from wmtp_assets_tests.loopback import Handler, ask, listen

SIZE = 3_000_000
CONTENT = random.Random(5).randbytes(SIZE)
"""The one large file of every fault."""

OTHER = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
"""As long, and one bit else."""

CHUNK = 65_536
"""As the client is told to write."""

TOKEN = "hf_planted_token_0123456789"
ANSWER_SECONDS = 0.5
"""How long the client is told to wait for a byte."""

AUTHORIZATION = "Authorization"

SPECS = {s.name: s for s in load_specs() if isinstance(s, ModelSpec | DatasetSpec)}
OPEN, GATED = SPECS["humaneval"].repository, SPECS["meta_llama_mtp"].repository
PARQUET = "openai_humaneval/test-00000-of-00001.parquet"
PTH = "7B_1T_4/consolidated.pth"


def write_hub(folder: Path, content: bytes) -> Path:
    """A hub with both repositories, whose large file is ``content``."""
    write_files(folder / "datasets" / OPEN.id, {PARQUET: content, "README.md": b"x"})
    small = {"7B_1T_4/params.json": b"{}", "tokenizer.model": b"pieces"}
    write_files(folder / "models" / GATED.id, {PTH: content, **small})
    return folder


@dataclass
class Request:
    """What the client asked."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def is_file(self) -> bool:
        return "/resolve/" in self.path

    @property
    def is_content(self) -> bool:
        """Whether the bytes of a file are asked for."""
        return self.is_file and self.method == "GET"

    @property
    def start(self) -> int:
        """The first byte that is asked for."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match else 0


@dataclass
class Answer:
    """What the client is told.

    Attributes:
        stop: bytes of the body after which the connection ends, or rests; None: all are sent.
        rests: the connection stays open and silent there.
        is_reset: the connection ends with RST, not FIN.
        pause: seconds before each 64 KiB.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    stop: int | None = None
    rests: bool = False
    is_reset: bool = False
    pause: float = 0.0

    def refuse(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        """Become an error answer, as the hub words it."""
        self.status, self.body = status, b""
        said = {"X-Error-Code": code, "X-Error-Message": message, "Content-Length": "0"}
        self.headers = {name: value for name, value in said.items() if value}
        self.headers |= {name.replace("_", "-"): value for name, value in headers.items()}

    def replace(self, body: bytes) -> None:
        """Have another body, and say its length."""
        self.body = body
        self.headers["Content-Length"] = str(len(body))


Change = Callable[[Request, Answer], None]
"""Turns a good answer into what the faulty hub answers."""


def soundly(request: Request, answer: Answer) -> None:
    """No fault."""


@dataclass
class FaultyHub:
    """The proxy: change what it answers, and read what it was asked."""

    url: str
    change: Change = soundly
    requests: list[Request] = field(default_factory=list)
    payload: int = 0
    """Bytes of files that were sent."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)
    """Set: connections that rest come to their end."""


@contextmanager
def faulty_hub(upstream: str) -> Iterator[FaultyHub]:
    """Serve what ``upstream`` serves, on another port of 127.0.0.1, with faults."""

    class Line(Handler):
        def do_GET(self) -> None:
            request = Request(
                self.command, self.path, {k.title(): v for k, v in self.headers.items()}
            )
            with hub.lock:
                hub.requests.append(request)
            answer = _ask(upstream, request)
            hub.change(request, answer)
            self._send(request, answer)

        do_HEAD = do_CONNECT = do_GET

        def _send(self, request: Request, answer: Answer) -> None:
            self.send_head(answer.status, answer.headers)
            body = answer.body[: answer.stop] if request.method == "GET" else b""
            for begin in range(0, len(body), CHUNK):
                piece = body[begin : begin + CHUNK]
                time.sleep(answer.pause)
                if request.is_content and answer.status in (200, 206):
                    with hub.lock:
                        hub.payload += len(piece)
                self.wfile.write(piece)
            if answer.rests:
                hub.released.wait(60)
            if answer.is_reset:
                self.end_by_reset()
            self.close_connection |= answer.stop is not None or answer.rests

    with listen(Line) as url:
        hub = FaultyHub(url)
        try:
            yield hub
        finally:
            hub.released.set()


def _ask(upstream: str, request: Request) -> Answer:
    """The good answer."""
    if request.method == "CONNECT" or not request.path.startswith("/"):
        return Answer(200, {"Content-Length": "0"})
    passed = {k: v for k, v in request.headers.items() if k in ("Range", "Accept")}
    status, answered, body = ask(upstream, request.method, request.path, passed)
    dropped = ("date", "server", "connection")
    headers = {name: value for name, value in answered if name.lower() not in dropped}
    return Answer(status, headers, body)


# -- what a hub can do wrong -----------------------------------------------------------------------


def times(count: int, change: Change) -> Callable[[], Change]:
    """The first ``count`` files that are asked for are answered with a fault."""

    def make() -> Change:
        left = [count]

        def limited(request: Request, answer: Answer) -> None:
            if request.is_content and left[0]:
                left[0] -= 1
                change(request, answer)

        return limited

    return make


def files(change: Change) -> Callable[[], Change]:
    """Every file is answered with the fault."""
    return times(-1, change)


def queries(change: Change, count: int = -1) -> Callable[[], Change]:
    """The first ``count`` questions about repositories, or all, are answered with a fault."""

    def make() -> Change:
        left = [count]

        def limited(request: Request, answer: Answer) -> None:
            if not request.is_file and left[0]:
                left[0] -= 1
                change(request, answer)

        return limited

    return make


def cut(after: int, *, is_reset: bool = False) -> Change:
    """The body ends early, although Content-Length says more."""

    def change(request: Request, answer: Answer) -> None:
        if after < len(answer.body):
            answer.stop, answer.is_reset = after, is_reset

    return change


def end_at(position: int) -> Change:
    """No byte behind ``position`` of the file comes, whatever is announced or asked."""

    def change(request: Request, answer: Answer) -> None:
        answer.stop = max(position - request.start, 0)

    return change


def rest(after: int) -> Change:
    """The line goes silent."""

    def change(request: Request, answer: Answer) -> None:
        answer.stop, answer.rests = after, True

    return change


def refuse(status: int, code: str = "", message: str = "", **headers: str) -> Change:
    """An error answer."""
    return lambda request, answer: answer.refuse(status, code, message, **headers)


def ignore_range(request: Request, answer: Answer) -> None:
    """200 and the whole file, whatever part is asked for."""
    if answer.status == 206:
        answer.status = 200
        answer.headers.pop("Content-Range")
        answer.replace(CONTENT)


def cut_then_ignore_range() -> Change:
    first = times(1, cut(1_000_000))()

    def change(request: Request, answer: Answer) -> None:
        if request.is_content:
            ignore_range(request, answer)
            first(request, answer)

    return change


def serve_other(content: bytes) -> Change:
    """Another file is served than was announced, in whole or in part."""

    def change(request: Request, answer: Answer) -> None:
        if request.start >= len(content):
            answer.refuse(416, Content_Range=f"bytes */{len(content)}")
            return
        answer.replace(content[request.start :])
        if answer.status == 206:
            answer.headers["Content-Range"] = (
                f"bytes {request.start}-{len(content) - 1}/{len(content)}"
            )

    return change


def lie_in_etag(request: Request, answer: Answer) -> None:
    for name in ("ETag", "X-Linked-Etag"):
        answer.headers[name] = f'"{hashlib.sha256(b"a lie").hexdigest()}"'


def trickle(request: Request, answer: Answer) -> None:
    answer.pause = 0.02


def unavailable(request: Request, answer: Answer) -> None:
    answer.refuse(503)


def bad_token() -> Change:
    def change(request: Request, answer: Answer) -> None:
        if AUTHORIZATION in request.headers:
            answer.refuse(401, message="Invalid credentials in Authorization header")

    return change


def closed_gate() -> Change:
    """Files and auth-check are refused; the repository can be listed by everyone."""

    def change(request: Request, answer: Answer) -> None:
        if request.is_file or request.path.endswith("/auth-check"):
            status = 403 if AUTHORIZATION in request.headers else 401
            answer.refuse(status, "GatedRepo", "Access is restricted")

    return change


def announce(edit: Callable[[dict[str, Any]], None]) -> Callable[[], Change]:
    """The hub describes its repository otherwise."""

    def make() -> Change:
        def change(request: Request, answer: Answer) -> None:
            if not request.is_file and answer.body.startswith(b"{"):
                document = json.loads(answer.body)
                edit(document)
                answer.replace(json.dumps(document).encode())

        return change

    return make


def announce_file(*names: str) -> Callable[[], Change]:
    """The hub has files of these names."""

    def edit(document: dict[str, Any]) -> None:
        (large,) = (s for s in document["siblings"] if s["rfilename"].endswith(".parquet"))
        document["siblings"] = [{**large, "rfilename": name} for name in names]

    return announce(edit)


def content_changed() -> Change:
    """Both what is announced and what is served is another file, and the commit is the same."""

    def edit(document: dict[str, Any]) -> None:
        for sibling in document["siblings"]:
            if "lfs" in sibling:
                sibling["lfs"]["sha256"] = hashlib.sha256(OTHER).hexdigest()

    announced, served = announce(edit)(), files(serve_other(OTHER))()

    def change(request: Request, answer: Answer) -> None:
        announced(request, answer)
        served(request, answer)

    return change


def other_commit() -> Change:
    def edit(document: dict[str, Any]) -> None:
        document["sha"] = "0" * 40

    return announce(edit)()


def redirect(to: str) -> Callable[[], Change]:
    """Files are elsewhere; ``{path}`` is theirs."""

    def make() -> Change:
        def change(request: Request, answer: Answer) -> None:
            if request.is_file:
                answer.refuse(302, Location=to.replace("{path}", request.path))

        return change

    return make


def head_unavailable() -> Change:
    def change(request: Request, answer: Answer) -> None:
        if request.method == "HEAD":
            answer.refuse(503)

    return change


def elsewhere_of(change: Change, url: str) -> Change:
    """A redirect says where the other host is."""

    def changed(request: Request, answer: Answer) -> None:
        change(request, answer)
        if to := answer.headers.get("Location"):
            answer.headers["Location"] = to.replace("{elsewhere}", url)

    return changed


# -- the list --------------------------------------------------------------------------------------

Before = Literal["an older commit", "the same commit", "a lock file"]
Kind = Literal["fault", "killed", "closed port", "proxy", "elsewhere"]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: what happens.
        make: the faulty hub's answers.
        error: a part of the message; empty: the download succeeds.
        transferred: bytes of files that the hub sent.
        left: bytes in the partial file; None: there is none.
        again: bytes that the next run transfers from a sound hub; None: there is nothing to do.
        kind: ``killed``: the process is, and the second run is another; ``elsewhere``: the fault
            redirects to another server.
        before: what is there.
        token: HF_TOKEN, sent because the endpoint is trusted.
        is_gated: the repository is facebook/multi-token-prediction, else openai/openai_humaneval.
        pattern: the files of the split, where it is not upstream's name.
    """

    name: str
    make: Callable[[], Change]
    error: str = ""
    transferred: int = 0
    left: int | None = None
    again: int | None = SIZE
    kind: str = "fault"
    before: Before = "an older commit"
    token: str = ""
    is_gated: bool = False
    pattern: str = ""


def kept(sent: int) -> int:
    """Bytes that are kept of ``sent`` ones before a cut: those of whole chunks."""
    return sent // CHUNK * CHUNK


CUT = 1_000_000
KEPT = kept(CUT)
NO_PROGRESS = 10_000
TRIES = 36
"""Six attempts of the client, six times."""

NO_LINE: Callable[[], Change] = lambda: soundly  # noqa: E731
GATE = "is gated, and "

FAULTS = [
    Fault("none", NO_LINE, transferred=SIZE, again=None),
    # connections
    Fault(
        "cut once, at byte 1,000,000",
        times(1, cut(CUT)),
        transferred=CUT + SIZE - KEPT,
        again=None,
    ),
    Fault(
        "cut once, by a reset",
        times(1, cut(0, is_reset=True)),
        transferred=SIZE,
        again=None,
    ),
    Fault(
        "cut every 200,000 bytes",
        files(cut(200_000)),
        transferred=15 * 200_000 + SIZE - 15 * kept(200_000),
        again=None,
    ),
    Fault(
        "cut every time, before 64 KiB came",
        files(cut(NO_PROGRESS)),
        error="0 B of 3.0 MB are here and kept",
        transferred=TRIES * NO_PROGRESS,
    ),
    Fault(
        "silent from byte 1,000,000 on, once",
        times(1, rest(CUT)),
        transferred=CUT + SIZE - KEPT,
        again=None,
    ),
    Fault("slow trickle", files(trickle), transferred=SIZE, again=None),
    Fault(
        "SIGKILL at byte 1,000,000, then a new process",
        files(rest(CUT)),
        transferred=CUT,
        left=KEPT,
        again=SIZE - KEPT,
        kind="killed",
    ),
    Fault(
        "cut once, and Range ignored: 200 and the whole file",
        cut_then_ignore_range,
        transferred=CUT + SIZE,
        again=None,
    ),
    # bytes
    Fault(
        "wrong bytes of the right size",
        files(serve_other(OTHER)),
        error="was not kept. Run again, and if it happens again, do not trust this endpoint",
        transferred=SIZE,
    ),
    Fault("lying ETag", files(lie_in_etag), transferred=SIZE, again=None),
    Fault(
        "truncated: Content-Length is that of the whole file",
        files(end_at(CUT)),
        error="983.0 kB of 3.0 MB are here and kept",
        transferred=CUT + (TRIES - 1) * (CUT - KEPT),
        left=KEPT,
        again=SIZE - KEPT,
    ),
    Fault(
        "truncated: Content-Length is that of the part",
        files(serve_other(CONTENT[:CUT])),
        error="ends at {url} before its announced size is reached (416)",
        transferred=CUT,
        left=CUT,
        again=SIZE - CUT,
    ),
    Fault(
        "longer than announced",
        files(serve_other(CONTENT + b"more")),
        error="is longer than the announced 3000000 bytes. It was not kept",
        transferred=SIZE + 4,
    ),
    Fault(
        "content changed under the same commit: against wmtp.lock",
        content_changed,
        error="A commit never changes: do not trust this endpoint",
        before="a lock file",
    ),
    Fault(
        "content changed under the same commit: against the committed artifact",
        content_changed,
        error="A commit never changes: do not trust this endpoint",
        before="the same commit",
        again=0,
    ),
    Fault(
        "another commit than the one that is asked for",
        other_commit,
        error="answers for commit 0000000000000000000000000000000000000000",
        before="a lock file",
    ),
    # gates
    Fault(
        "401, the token is bad",
        bad_token,
        error="refuses the token in HF_TOKEN (401): it is wrong or expired",
        token=TOKEN,
    ),
    Fault(
        "403, gated, the account has no access",
        closed_gate,
        error=GATE + "the account of HF_TOKEN has no access. Accept the licence",
        token=TOKEN,
        is_gated=True,
    ),
    Fault(
        "401, gated, no token",
        closed_gate,
        error=GATE + "no token was sent",
        is_gated=True,
    ),
    Fault(
        "404, the repository",
        queries(refuse(404, "RepoNotFound", "Repository not found")),
        error="openai/openai_humaneval does not exist at {url}, or it is private",
    ),
    Fault(
        "404, the revision",
        queries(refuse(404, "RevisionNotFound", "Invalid rev id")),
        error="has no revision",
        before="a lock file",
    ),
    Fault(
        "404, a file that is announced",
        files(refuse(404, "EntryNotFound", "Entry not found")),
        error="announces a file that {url} does not have",
    ),
    # a hub that is busy or broken
    Fault(
        "429 with Retry-After, twice",
        times(2, refuse(429, Retry_After="7")),
        transferred=SIZE,
        again=None,
    ),
    Fault(
        "429 forever",
        files(refuse(429, Retry_After="7")),
        error="answers 429",
    ),
    Fault(
        "429 about the repository, twice",
        queries(refuse(429, Retry_After="7"), 2),
        transferred=SIZE,
        again=None,
    ),
    Fault("503, five times", times(5, unavailable), transferred=SIZE, again=None),
    Fault("503 forever", files(unavailable), error="answers 503"),
    Fault("503 to every HEAD", head_unavailable, transferred=SIZE, again=None),
    Fault(
        "503 about the repository, five times",
        queries(unavailable, 5),
        transferred=SIZE,
        again=None,
    ),
    Fault("503 about the repository, forever", queries(unavailable), error="answers 503"),
    Fault(
        "no answer about the repository",
        queries(rest(0)),
        error="does not answer in time",
    ),
    Fault(
        "a web page in place of the API",
        queries(lambda request, answer: answer.replace(b"<html>Log in to the hotel</html>")),
        error="did not answer as a hub does",
    ),
    # ways
    Fault(
        "redirect to another host, which gets no token",
        redirect("{elsewhere}{path}"),
        transferred=SIZE,
        again=None,
        kind="elsewhere",
        token=TOKEN,
    ),
    Fault(
        "redirect to plain http beyond loopback",
        redirect("http://192.0.2.1{path}"),
        error="redirects to http://192.0.2.1, which is not https",
    ),
    Fault(
        "no network",
        NO_LINE,
        error="Check the network, HTTPS_PROXY and HF_ENDPOINT",
        kind="closed port",
    ),
    Fault(
        "a proxy that refuses",
        lambda: refuse(403),
        error="does not let https://mirror.example through",
        kind="proxy",
    ),
    # names
    *(
        Fault(
            f"a file name {what}",
            announce_file(*names),
            error=error,
            pattern=pattern,
        )
        for what, names, pattern, error in (
            ("with ..", ["../up.parquet"], "*/up.parquet", "is not a plain relative path"),
            ("that is absolute", ["/up.parquet"], "*/up.parquet", "is not a plain relative path"),
            (
                "with a backslash",
                ["data/..\\up.parquet"],
                "data/*.parquet",
                "is not a plain relative path",
            ),
            ("with NUL", ["data/\0.parquet"], "data/*.parquet", "is not a plain relative path"),
            (
                "that differs from another in case",
                ["data/Up.parquet", "data/up.parquet"],
                "data/*.parquet",
                "named twice: data/Up.parquet, data/up.parquet",
            ),
        )
    ),
]


def table() -> str:
    """The list in Markdown."""
    head = (
        "| what happens | outcome | bytes sent | left to resume from | the next run fetches |",
        "|---|---|--:|--:|--:|",
    )
    return "\n".join((*head, *map(_row, FAULTS))) + "\n"


def _row(fault: Fault) -> str:
    outcome = "success"
    if fault.kind == "killed":
        outcome = "success, in the second process"
    elif fault.error:
        outcome = f"error: {fault.error.replace('{url}', 'URL')}"
    left = "-" if fault.left is None else f"{fault.left:,}"
    again = "-" if fault.again is None else f"{fault.again:,}"
    return f"| {fault.name} | {outcome} | {fault.transferred:,} | {left} | {again} |"


if __name__ == "__main__":
    print(table(), end="")
