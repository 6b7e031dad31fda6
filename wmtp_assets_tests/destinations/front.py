"""A front before a server of objects: it enforces checksums, counts payload, and plays faults.

A request is first changed by the fault, as a line would change it; then it is checked, as the
provider's servers check; then the server behind answers, and the fault may change that too.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from wmtp_assets_tests.loopback import Handler, ask, listen

HOPS = ("connection", "transfer-encoding", "date", "server", "expect", "content-length")


@dataclass
class Request:
    """What the client asks.

    Attributes:
        operation: what S3 calls it.
        key: of the object; empty: the bucket.
        headers: names in lower case.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    operation: str = ""
    key: str = ""
    query: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query, keep_blank_values=True)
        self.key = unquote(url.path).lstrip("/").partition("/")[2]
        self.operation = _operation(self.method, self.key, self.query)

    @property
    def is_payload(self) -> bool:
        """Whether bytes of a file are sent."""
        return self.operation == "UploadPart"


def _operation(method: str, key: str, query: dict[str, list[str]]) -> str:
    """What S3 calls it, also where Google or Azure ask for it in their own way."""
    match query.get("comp"):
        case ["block"]:
            return "UploadPart"
        case ["blocklist"]:
            return {"PUT": "CompleteMultipartUpload"}.get(method, "ListParts")
    if "uploadId" in query:
        names = {"PUT": "UploadPart", "GET": "ListParts", "POST": "CompleteMultipartUpload"}
        return names.get(method, "AbortMultipartUpload")
    if "uploads" in query:
        return "CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"
    if not key:
        return {"GET": "ListObjects", "PUT": "CreateBucket"}.get(method, "HeadBucket")
    return {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject"}.get(
        method, "DeleteObject"
    )


@dataclass
class Answer:
    """What the client is told.

    Attributes:
        stop: bytes of the body after which the connection ends; None: all are sent.
        rests: nothing is sent at all, and the connection stays open.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    stop: int | None = None
    rests: bool = False

    @classmethod
    def refusal(cls, status: int, code: str, **headers: str) -> Answer:
        """An error as S3 words it; it quotes what must not be repeated."""
        text = "secret in the message: X-Amz-Signature=0123456789abcdef"
        body = f"<Error><Code>{code}</Code><Message>{text}</Message></Error>".encode()
        said = {"content-type": "application/xml", "x-ms-error-code": code}
        return cls(status, said | headers, body)


Before = Callable[[Request], Answer | None]
"""Changes a request before it is checked, or answers it."""

After = Callable[[Request, Answer], None]
"""Changes the answer of the server behind."""


@dataclass
class Front:
    """The front: change what it does, and read what it was asked.

    Attributes:
        ask: asks the server behind.
        check: refuses what the provider's servers refuse, whatever the server behind does.
        stored: changes a request after it was checked, as a broken server does.
        is_old: it refuses all headers of checksums, but the SHA-256 in the signature.
        payload: bytes of parts that arrived, damaged or not.
        fetched: bytes of checkpoints that were sent.
        parts: upload and number → SHA-256 in base64 of the parts that were taken.
    """

    url: str
    ask: Callable[[Request], Answer]
    check: Callable[[Front, Request], Answer | None]
    before: Before = lambda request: None
    after: After = lambda request, answer: None
    stored: Callable[[Request], None] = lambda request: None
    is_old: bool = False
    payload: int = 0
    fetched: int = 0
    requests: list[Request] = field(default_factory=list)
    parts: dict[tuple[str, str], str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)

    def soundly(self) -> None:
        """No fault any more; nothing counted yet."""
        self.before, self.after = lambda request: None, lambda request, answer: None
        self.stored = lambda request: None
        self.payload = self.fetched = 0
        self.is_old = False
        self.requests.clear()

    def list_checksums(self, request: Request, answer: Answer) -> None:
        """An :data:`After`: say the SHA-256 of each part that is listed, as Amazon does."""
        if request.operation == "ListParts":
            upload = request.query["uploadId"][0]
            for (of, number), sha256 in self.parts.items():
                if of == upload:
                    mark = f"<PartNumber>{number}</PartNumber>"
                    said = f"{mark}<ChecksumSHA256>{sha256}</ChecksumSHA256>"
                    answer.body = answer.body.replace(mark.encode(), said.encode())
            answer.headers["content-length"] = str(len(answer.body))

    def operations(self) -> list[str]:
        return [request.operation for request in self.requests]


@contextmanager
def serve_front(upstream: str) -> Iterator[Front]:
    """Serve the S3 server ``upstream`` on another port of 127.0.0.1, strictly and with faults."""
    with serve(lambda request: ask_behind(upstream, request), _strictly) as front:
        yield front


@contextmanager
def serve(
    behind: Callable[[Request], Answer], check: Callable[[Front, Request], Answer | None]
) -> Iterator[Front]:
    """Serve what is behind on a port of 127.0.0.1, strictly and with faults."""

    class Line(Handler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            request = Request(self.command, self.path, headers, body)
            with front.lock:
                front.requests.append(request)
                front.payload += len(body) * request.is_payload
            answer = front.before(request) or front.check(front, request)
            if answer is None:
                front.stored(request)
                answer = front.ask(request)
                _forget(front, request, answer)
            front.after(request, answer)
            if request.operation == "GetObject" and request.key.endswith(".pth"):
                with front.lock:
                    front.fetched += len(answer.body[: answer.stop]) * (answer.status < 300)
            self._send(answer)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

        def _send(self, answer: Answer) -> None:
            if answer.rests:
                front.released.wait(30)
                self.close_connection = True
                return
            if answer.stop == 0:
                self.end_by_reset()
                return
            length = {"content-length": str(len(answer.body))}
            self.send_head(answer.status, length | answer.headers)
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.stop])
            self.close_connection |= answer.stop is not None

    with listen(Line) as url:
        front = Front(url, behind, check)
        try:
            yield front
        finally:
            front.released.set()


def _strictly(front: Front, request: Request) -> Answer | None:
    """Refuse a body without a signed checksum, one that has another, and parts that were not
    sent so."""
    if front.is_old and any(name.startswith("x-amz-checksum-") for name in request.headers):
        return Answer.refusal(400, "InvalidArgument")  # as Backblaze B2 did
    if request.operation in ("UploadPart", "PutObject"):
        stated = _signed(request, "x-amz-checksum-sha256")
        if front.is_old:
            digest = _signed(request, "x-amz-content-sha256") or ""
            is_digest = len(digest) == 64
            stated = base64.b64encode(bytes.fromhex(digest)).decode() if is_digest else None
        if stated is None:
            return Answer.refusal(400, "InvalidRequest")
        if base64.b64encode(hashlib.sha256(request.body).digest()).decode() != stated:
            code = "XAmzContentSHA256Mismatch" if front.is_old else "BadDigest"
            return Answer.refusal(400, code)
        if request.operation == "UploadPart":
            identity = request.query["uploadId"][0], request.query["partNumber"][0]
            with front.lock:
                front.parts[identity] = stated
    if request.operation == "CompleteMultipartUpload" and not front.is_old:
        upload = request.query["uploadId"][0]
        for part in ElementTree.fromstring(request.body):
            fields = {item.tag.rpartition("}")[2]: item.text for item in part}
            identity = upload, str(fields["PartNumber"])
            if front.parts.get(identity) != fields.get("ChecksumSHA256"):
                return Answer.refusal(400, "InvalidPart")
    return None


def _forget(front: Front, request: Request, answer: Answer) -> None:
    """Say no checksum of a part back where none was compared: moto repeats what it is told."""
    if request.operation == "UploadPart" and front.is_old:
        answer.headers.pop("x-amz-checksum-sha256", None)


def _signed(request: Request, name: str) -> str | None:
    """A header that the request's signature covers."""
    is_signed = name in request.headers.get("authorization", "")
    return request.headers.get(name) if is_signed else None


def ask_behind(upstream: str, request: Request) -> Answer:
    """What the server behind answers."""
    headers = {name: value for name, value in request.headers.items() if name not in HOPS}
    status, answered, body = ask(upstream, request.method, request.path, headers, request.body)
    named = {name.lower(): value for name, value in answered}
    passed = {name: value for name, value in named.items() if name not in HOPS}
    if request.method == "HEAD":
        passed["content-length"] = named.get("content-length", "0")
    return Answer(status, passed, body)
