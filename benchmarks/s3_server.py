"""The part of S3 that boto3's transfers and ``wmtp publish`` use, in memory: ``s3_server.py PORT``.

It does as little as can be, so that clients are measured and not a server on the same cores: it
hashes nothing, says back the checksums that it is told, and sends a range without reading the rest.
Nothing is authorised, and conditions always hold. ``GET /`` says the seconds of CPU that it took.
Needs the standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

CHECKSUM = "x-amz-checksum-sha256"


@dataclass
class Stored:
    """An object, or a part of one.

    Attributes:
        checksum: as it was stated, or over those of the parts.
    """

    blocks: list[bytearray]
    checksum: str
    number: int = field(default_factory=itertools.count(1).__next__)

    @property
    def size(self) -> int:
        return sum(map(len, self.blocks))

    @property
    def headers(self) -> dict[str, str]:
        stated = {CHECKSUM: self.checksum} if self.checksum else {}
        return {"ETag": f'"{self.number:032x}"', **stated}

    def slices(self, begin: int, end: int) -> Iterator[memoryview]:
        """The bytes from ``begin`` to ``end``."""
        for block in self.blocks:
            if begin < len(block) and end > 0:
                yield memoryview(block)[max(begin, 0) : end]
            begin, end = begin - len(block), end - len(block)


OBJECTS: dict[str, Stored] = {}
UPLOADS: dict[str, dict[int, Stored]] = {}


def put_together(upload: str, body: bytes) -> Stored:
    """The object that consists of the parts that a request names."""
    parts = UPLOADS.pop(upload)
    named = [parts[int(n)] for n in re.findall(rb"<PartNumber>(\d+)</PartNumber>", body)]
    checksum = ""
    if all(part.checksum for part in named):
        whole = hashlib.sha256(b"".join(base64.b64decode(part.checksum) for part in named))
        checksum = f"{base64.b64encode(whole.digest()).decode()}-{len(named)}"
    return Stored([block for part in named for block in part.blocks], checksum)


def listing(prefix: str, delimiter: str) -> str:
    """The answer to ``ListObjectsV2``."""
    contents, folders = "", set[str]()
    for key, item in sorted(OBJECTS.items()):
        head, found, _ = key.removeprefix(prefix).partition(delimiter or "\0")
        if key.startswith(prefix) and found:
            folders.add(f"{prefix}{head}{found}")
        elif key.startswith(prefix):
            contents += (
                f"<Contents><Key>{escape(key)}</Key><Size>{item.size}</Size>"
                f"<ETag>{escape(item.headers['ETag'])}</ETag></Contents>"
            )
    common = "".join(
        f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
        for folder in sorted(folders)
    )
    return f"<ListBucketResult>{contents}{common}</ListBucketResult>"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        url = urlsplit(self.path)
        self.bucket, _, self.key = unquote(url.path).lstrip("/").partition("/")
        query = parse_qs(url.query, keep_blank_values=True)
        self.query = {name: values[0] for name, values in query.items()}
        self.upload = self.query.get("uploadId", "")
        return True

    def body(self) -> Stored:
        """What the request brings, also in chunks with the checksum behind them."""
        checksum = self.headers.get(CHECKSUM, "")
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            data = bytearray(int(self.headers.get("Content-Length") or 0))
            self.rfile.readinto(data)
            return Stored([data], checksum)
        data = bytearray()
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        while line := self.rfile.readline().strip():
            name, _, value = line.decode().partition(":")
            checksum = value.strip() if name == CHECKSUM else checksum
        return Stored([data], checksum)

    def answer(
        self, headers: dict[str, str] | None = None, text: str = "", code: int = 200
    ) -> None:
        """Send an answer that is small."""
        data = text.encode()
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_POST(self) -> None:
        body = self.body()
        if not self.upload:
            self.upload = f"{body.number:032x}"
            UPLOADS[self.upload] = {}
            result = "InitiateMultipartUploadResult"
            self.answer(text=f"<{result}><UploadId>{self.upload}</UploadId></{result}>")
            return
        item = OBJECTS[self.key] = put_together(self.upload, bytes(body.blocks[0]))
        stated = f"<ChecksumSHA256>{item.checksum}</ChecksumSHA256>" if item.checksum else ""
        result = "CompleteMultipartUploadResult"
        self.answer(text=f"<{result}><ETag>{item.headers['ETag']}</ETag>{stated}</{result}>")

    def do_PUT(self) -> None:
        body = self.body()
        if self.upload:
            UPLOADS[self.upload][int(self.query["partNumber"])] = body
        elif self.key:
            OBJECTS[self.key] = body
        self.answer(body.headers)

    def do_DELETE(self) -> None:
        if self.upload:
            UPLOADS.pop(self.upload, None)
        else:
            OBJECTS.pop(self.key, None)
        self.answer(code=204)

    def do_GET(self) -> None:
        if not self.bucket:
            self.answer(text=str(time.process_time()))
        elif not self.key:
            self.answer(text=listing(self.query.get("prefix", ""), self.query.get("delimiter", "")))
        elif item := OBJECTS.get(self.key):
            self.send_object(item)
        else:
            self.answer(text="<Error><Code>NoSuchKey</Code></Error>", code=404)

    do_HEAD = do_GET

    def send_object(self, item: Stored) -> None:
        """Send all of an object, or the range that is asked for."""
        begin, end, code, headers = 0, item.size, 200, item.headers
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            begin, end = int(asked[1]), min(int(asked[2] or end), end - 1) + 1
            headers.pop(CHECKSUM, None)
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{item.size}"
            code = 206
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(end - begin)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            for piece in item.slices(begin, end):
                self.wfile.write(piece)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
