"""Two servers of objects in memory, for :mod:`.front`: Google Cloud Storage's XML API, and Azure
Blob Storage's, as far as they are spoken here, and stricter.

They take no body without the checksum that its provider compares, and no ``MANIFEST.json``
without a condition. Shapes and codes are those of
https://cloud.google.com/storage/docs/xml-api/overview and
https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api; Azurite, which stands in
for Azure in ``make test-clients``, answers the same.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import google_crc32c

from wmtp_assets_tests.destinations.front import Answer, Front, Request

MISSING = "no-such-bucket"
"""A name that no bucket has."""

_TIME = "Mon, 30 Nov 2026 10:00:00 GMT"


@dataclass
class Kept:
    """An object.

    Attributes:
        version: another for each time it is written.
        blocks: names and sizes of the blocks that it was put together from.
    """

    data: bytes
    version: int
    blocks: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class Objects:
    """What a server keeps.

    Attributes:
        objects: bucket and key → what lies there.
        parts: upload, or bucket and key → number or name → bytes that nobody sees.
        token: that a request must bear; empty: none may.
    """

    objects: dict[str, Kept] = field(default_factory=dict)
    parts: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str = ""
    page_size: int = 1000
    lock: threading.Lock = field(default_factory=threading.Lock)
    numbers: count[int] = field(default_factory=lambda: count(1_700_000_000_000_000))

    def put(self, place: str, data: bytes, blocks: list[tuple[str, int]] | None = None) -> Kept:
        """Write an object."""
        kept = self.objects[place] = Kept(data, next(self.numbers), blocks or [])
        return kept

    def below(self, bucket: str, prefix: str) -> dict[str, bytes]:
        """Path below a prefix → bytes."""
        place = f"{bucket}/{prefix}/"
        return {
            name.removeprefix(place): kept.data
            for name, kept in sorted(self.objects.items())
            if name.startswith(place)
        }

    def names(self, request: Request, mark: str) -> tuple[list[str], list[str], str]:
        """Of a page of a listing: keys, folders, and where the next one begins."""
        bucket = _place(request)
        prefix = request.query.get("prefix", [""])[0]
        stop = request.query.get("delimiter", [""])[0]
        found: dict[str, None] = {}
        for name in sorted(self.objects):
            key = name.removeprefix(f"{bucket}/")
            if name.startswith(f"{bucket}/{prefix}"):
                head, slash, _ = key[len(prefix) :].partition(stop) if stop else (key, "", "")
                found[f"{prefix}{head}{slash}" if slash else key] = None
        left = [name for name in found if name > request.query.get(mark, [""])[0]]
        page = left[: self.page_size]
        following = page[-1] if len(left) > len(page) else ""
        return (
            [name for name in page if not (stop and name.endswith(stop))],
            [name for name in page if stop and name.endswith(stop)],
            following,
        )


def _place(request: Request) -> str:
    """Bucket and key."""
    return unquote(urlsplit(request.path).path).strip("/")


def crc32c(data: bytes) -> str:
    """As Google writes it."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _xml(text: str) -> Answer:
    return Answer(200, {"content-type": "application/xml"}, text.encode())


def _ranged(request: Request, kept: Kept, headers: dict[str, str]) -> Answer:
    """The bytes that are asked for."""
    said = request.headers.get("x-ms-range") or request.headers.get("range", "")
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", said)
    if request.method == "HEAD":
        return Answer(200, headers | {"content-length": str(len(kept.data))})
    if wanted is None:
        return Answer(200, headers, kept.data)
    start, size = int(wanted[1]), len(kept.data)
    if start >= size:
        return Answer.refusal(416, "InvalidRange")
    part = kept.data[start : int(wanted[2]) + 1 if wanted[2] else size]
    said = f"bytes {start}-{start + len(part) - 1}/{size}"
    return Answer(206, headers | {"content-range": said}, part)


# -- Google ----------------------------------------------------------------------------------------


def check_google(front: Front, request: Request) -> Answer | None:
    """Refuse a body of which nobody says the CRC32C, and other bytes than that."""
    if request.operation in ("UploadPart", "PutObject"):
        stated = request.headers.get("x-goog-hash", "")
        if not stated or (request.operation == "UploadPart" and not request.body):
            return Answer.refusal(400, "InvalidArgument")
        if stated != f"crc32c={crc32c(request.body)}":
            return Answer.refusal(400, "BadDigest")
        is_free = "x-goog-if-generation-match" not in request.headers
        if request.key.endswith("/MANIFEST.json") and request.method == "PUT" and is_free:
            return Answer.refusal(400, "InvalidArgument")
    return None


def google(kept: Objects) -> Callable[[Request], Answer]:
    """The server: answers a request."""

    def answer(request: Request) -> Answer:
        said = request.headers.get("authorization", "")
        if said != (f"Bearer {kept.token}" if kept.token else ""):
            return Answer.refusal(401, "AuthenticationRequired")
        place = _place(request)
        if place.partition("/")[0] == MISSING:
            return Answer.refusal(404, "NoSuchBucket")
        with kept.lock:
            return _google(kept, request, place)

    return answer


def _google(kept: Objects, request: Request, place: str) -> Answer:
    upload = request.query.get("uploadId", [""])[0]
    if upload and not upload.startswith(f"{place} "):
        upload = ""
    if "uploadId" in request.query and upload not in kept.parts:
        return Answer.refusal(404, "NoSuchUpload")
    there = kept.objects.get(place)
    match request.operation:
        case "ListObjects":
            assert request.query["list-type"] == ["2"]
            keys, folders, following = kept.names(request, "continuation-token")
            items = "".join(
                f"<Contents><Key>{escape(key)}</Key>"
                f"<Size>{len(kept.objects[f'{place}/{key}'].data)}</Size></Contents>"
                for key in keys
            ) + "".join(
                f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
                for name in folders
            )
            more = (
                f"<NextContinuationToken>{escape(following)}</NextContinuationToken>"
                if following
                else ""
            )
            return _xml(
                '<ListBucketResult xmlns="http://doc.s3.amazonaws.com/2006-03-01">'
                f"<IsTruncated>{str(bool(following)).lower()}</IsTruncated>{more}{items}"
                "</ListBucketResult>"
            )
        case "CreateMultipartUpload":
            upload = f"{place} {next(kept.numbers)}"
            kept.parts[upload] = {}
            return _xml(
                '<InitiateMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<UploadId>{escape(upload)}</UploadId></InitiateMultipartUploadResult>"
            )
        case "UploadPart":
            kept.parts[upload][request.query["partNumber"][0]] = request.body
            hashed = {"x-goog-hash": f"crc32c={crc32c(request.body)}"}
            return Answer(200, {"etag": f'"{md5(request.body)}"', **hashed})
        case "ListParts":
            after = int(request.query.get("part-number-marker", ["0"])[0])
            parts = sorted((int(n), d) for n, d in kept.parts[upload].items() if int(n) > after)
            page = parts[: kept.page_size]
            items = "".join(
                f'<Part><PartNumber>{n}</PartNumber><ETag>"{md5(d)}"</ETag></Part>' for n, d in page
            )
            is_more = len(parts) > len(page)
            more = f"<NextPartNumberMarker>{page[-1][0]}</NextPartNumberMarker>" if is_more else ""
            return _xml(
                '<ListPartsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<IsTruncated>{str(is_more).lower()}</IsTruncated>{more}{items}</ListPartsResult>"
            )
        case "CompleteMultipartUpload":
            parts = kept.parts[upload]
            wanted = [
                (part.findtext("PartNumber", ""), part.findtext("ETag"))
                for part in ElementTree.fromstring(request.body)
            ]
            numbers = [int(number) for number, _ in wanted]
            if not wanted or numbers != sorted(set(numbers)):
                return Answer.refusal(400, "InvalidPartOrder")
            if any(n not in parts or f'"{md5(parts[n])}"' != etag for n, etag in wanted):
                return Answer.refusal(400, "InvalidPart")
            made = kept.put(place, b"".join(parts[n] for n, _ in wanted))
            del kept.parts[upload]
            answer = _xml("<CompleteMultipartUploadResult/>")
            answer.headers["x-goog-hash"] = f"crc32c={crc32c(made.data)}"
            return answer
        case "AbortMultipartUpload":
            del kept.parts[upload]
            return Answer(204, {})
        case "PutObject":
            wanted = request.headers.get("x-goog-if-generation-match")
            if wanted is not None and int(wanted) != (there.version if there else 0):
                return Answer.refusal(412, "PreconditionFailed")
            kept.put(place, request.body)
            return Answer(200, {})
        case _ if there is None:
            return Answer.refusal(404, "NoSuchKey")
        case "DeleteObject":
            del kept.objects[place]
            return Answer(204, {})
        case _:
            headers = {
                "x-goog-generation": str(there.version),
                "x-goog-hash": f"crc32c={crc32c(there.data)}",
                "x-goog-stored-content-length": str(len(there.data)),
            }
            return _ranged(request, there, headers)


# -- Azure -----------------------------------------------------------------------------------------


def check_azure(front: Front, request: Request) -> Answer | None:
    """Refuse a body of which nobody says the MD5, and other bytes than that."""
    if request.operation in ("UploadPart", "PutObject"):
        stated = request.headers.get("content-md5", "")
        if not stated or (request.operation == "UploadPart" and not request.body):
            return Answer.refusal(400, "InvalidHeaderValue")
        if stated != md5(request.body):
            return Answer.refusal(400, "Md5Mismatch")
        is_free = not {"if-match", "if-none-match"} & request.headers.keys()
        if request.key.endswith("/MANIFEST.json") and is_free:
            return Answer.refusal(400, "InvalidHeaderValue")
    return None


def azure(kept: Objects) -> Callable[[Request], Answer]:
    """The server: answers a request. It takes every signature: Azurite does not."""

    def answer(request: Request) -> Answer:
        if not request.headers.get("authorization", "").startswith(("SharedKey ", "Bearer ")):
            return Answer.refusal(401, "NoAuthenticationInformation")
        place = _place(request)
        if place.partition("/")[0] == MISSING:
            return Answer.refusal(404, "ContainerNotFound")
        with kept.lock:
            return _azure(kept, request, place)

    return answer


def _azure(kept: Objects, request: Request, place: str) -> Answer:
    there = kept.objects.get(place)
    blocks = kept.parts.get(place, {})
    if request.method == "FORGET":  # what the service does after a week
        kept.parts.pop(place, None)
        return Answer(200, {})
    match request.operation:
        case "ListObjects":
            assert request.query["comp"] == ["list"]
            keys, folders, following = kept.names(request, "marker")
            items = "".join(
                f"<Blob><Name>{escape(key)}</Name><Properties><Content-Length>"
                f"{len(kept.objects[f'{place}/{key}'].data)}</Content-Length><BlobType>BlockBlob</BlobType></Properties></Blob>"
                for key in keys
            ) + "".join(f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>" for name in folders)
            return _xml(
                f'<EnumerationResults ContainerName="x"><Blobs>{items}</Blobs>'
                f"<NextMarker>{escape(following)}</NextMarker></EnumerationResults>"
            )
        case "UploadPart":
            name = base64.b64decode(request.query["blockid"][0], validate=True).decode()
            if len(name) > 64 or any(len(other) != len(name) for other in blocks):
                return Answer.refusal(400, "InvalidBlobOrBlock")
            kept.parts.setdefault(place, {})[name] = request.body
            return Answer(201, {"content-md5": md5(request.body)})
        case "ListParts":
            if there is None and not blocks:
                return Answer.refusal(404, "BlobNotFound")
            listed = {
                "CommittedBlocks": there.blocks if there else [],
                "UncommittedBlocks": [(name, len(data)) for name, data in blocks.items()],
            }
            text = "".join(
                f"<{kind}>{''.join(_block(*block) for block in found)}</{kind}>"
                for kind, found in listed.items()
                if kind.lower().startswith(request.query["blocklisttype"][0])
            )
            return _xml(f"<BlockList>{text}</BlockList>")
        case "CompleteMultipartUpload":
            names = [
                base64.b64decode(item.text or "").decode()
                for item in ElementTree.fromstring(request.body)
            ]
            old: dict[str, bytes] = {}
            begin = 0
            for name, size in there.blocks if there else ():
                old[name] = there.data[begin : begin + size] if there else b""
                begin += size
            found = {**old, **blocks}
            if any(name not in found for name in names):
                return Answer.refusal(400, "InvalidBlockList")
            kept.put(
                place,
                b"".join(found[name] for name in names),
                [(name, len(found[name])) for name in names],
            )
            kept.parts.pop(place, None)
            return Answer(201, {"etag": f'"{kept.objects[place].version}"'})
        case "PutObject":
            assert request.headers["x-ms-blob-type"] == "BlockBlob"
            if request.headers.get("if-none-match") == "*" and there is not None:
                return Answer.refusal(409, "BlobAlreadyExists")
            wanted = request.headers.get("if-match")
            if wanted is not None and (there is None or wanted != f'"{there.version}"'):
                return Answer.refusal(412, "ConditionNotMet")
            made = kept.put(place, request.body)
            kept.parts.pop(place, None)
            return Answer(201, {"etag": f'"{made.version}"', "content-md5": md5(request.body)})
        case _ if there is None:
            return Answer.refusal(404, "BlobNotFound")
        case "DeleteObject":
            del kept.objects[place]
            return Answer(202, {})
        case _:
            wanted = request.headers.get("if-match")
            if wanted is not None and wanted != f'"{there.version}"':
                return Answer.refusal(412, "ConditionNotMet")
            headers = {
                "etag": f'"{there.version}"',
                "last-modified": _TIME,
                "x-ms-blob-type": "BlockBlob",
            }
            return _ranged(request, there, headers)


def _block(name: str, size: int) -> str:
    said = base64.b64encode(name.encode()).decode()
    return f"<Block><Name>{said}</Name><Size>{size}</Size></Block>"
