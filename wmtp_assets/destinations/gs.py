"""Google Cloud Storage as a destination.

Each file is a multipart upload whose parts carry their CRC32C. Google keeps the CRC32C of a whole
object beside it, and no better hash of one that was put together: it is compared with the CRC32C of
our bytes, which are compared with their SHA-256 in the same pass.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from xml.etree import ElementTree

from wmtp_assets.base.errors import PublishError
from wmtp_assets.destinations.destination import (
    ORDINARY,
    Access,
    Advance,
    Location,
    NotThere,
    is_read_as,
)
from wmtp_assets.destinations.gs_client import Answered, Client, explained, make_client
from wmtp_assets.destinations.in_parts import READ, Gone, InParts
from wmtp_assets.destinations.journal import Journal, Upload
from wmtp_assets.destinations.listing import MANIFEST, Outgoing, Reading, SentFile
from wmtp_assets.rules.findings import as_text
from wmtp_assets.storage.files import PART
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer.bounds import paged

FORM = "gs://bucket/prefix"

BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
"""Names of buckets, those with dots too."""

FRESH = {"Cache-Control": "no-cache"}
"""Of each object: Google would show one that everybody may read as it was an hour ago."""

_GET, _LIST, _CREATE, _DELETE = (
    f"storage.objects.{s}" for s in ("get", "list", "create", "delete")
)
_BEGIN, _PARTS, _ABORT = (f"storage.multipartUploads.{s}" for s in ("create", "listParts", "abort"))


class GoogleStorage(InParts):
    """A destination below a prefix of a bucket.

    Args:
        prefix, name, journal: as :class:`InParts` has them.
        part_size: bytes of a part; Google takes no less than 5 MiB, but for the last.
    """

    largest = 5 << 40

    def __init__(
        self, client: Client, prefix: str, name: str, journal: Journal, part_size: int = PART
    ) -> None:
        key = f"{client.endpoint} gs://{client.bucket}/{prefix}"
        super().__init__(prefix, name, key, journal, part_size, "crc32c")
        self._client = client
        self._generation = ""
        self._local: dict[str, Outgoing] = {}
        self._sums: dict[str, str] = {}

    def expect(self, files: Mapping[str, Outgoing], staying: Collection[str]) -> None:
        self._local = dict(files)

    def _asking(self, path: str = "") -> AbstractContextManager[None]:
        return explained(self.name, self._client.bucket, path)

    def _at(self, path: str) -> str:
        return f"{self._prefix}{path}"

    # -- reading -----------------------------------------------------------------------------------

    def _list(self, folder: str, *, is_deep: bool) -> Iterator[tuple[str, int]]:
        query: dict[str, str | int] = {"list-type": 2, "prefix": self._at(folder)}
        if not is_deep:
            query["delimiter"] = "/"
        for page in paged(self._pages(_LIST, "", query, "continuation-token")):
            if page.tag != "ListBucketResult":
                raise ValueError(page.tag)
            for item in page.iterfind("Contents"):
                yield _text(item, "Key").removeprefix(self._prefix), int(_text(item, "Size"))
            for item in page.iterfind("CommonPrefixes"):
                yield _text(item, "Prefix").removeprefix(self._prefix), 0

    def _pages(
        self, right: str, key: str, query: dict[str, str | int], marker: str
    ) -> Iterator[ElementTree.Element]:
        """The pages of a list; the next one begins behind ``marker``."""
        following = f"Next{marker.title().replace('-', '')}"
        while True:
            page, _ = self._client.document(right, "GET", key, query=query)
            yield page
            if page.findtext("IsTruncated") != "true":
                return
            query[marker] = _text(page, following)

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        part = {"Range": f"bytes={start}-"} if start else {}
        with self._asking(path):
            if path == MANIFEST:
                self._generation = "0"  # unless it is there
            try:
                with self._client.open(_GET, "GET", self._at(path), headers=part) as answer:
                    if path == MANIFEST:
                        self._generation = str(int(answer.headers["x-goog-generation"]))
                    said = answer.headers.get("Content-Range", "")
                    # the range was ignored
                    surplus = 0 if said.startswith(f"bytes {start}-") else start
                    for block in answer.raw.stream(READ, decode_content=False):
                        yield block[surplus:]
                        surplus = max(surplus - len(block), 0)
            except Answered as refusal:
                if refusal.status != 416:  # else it ends before
                    raise

    def _stated(self, path: str, size: int) -> str | None:
        try:
            with self._asking(path):
                said = self._client.ask(_GET, "HEAD", self._at(path))
                length = said.get("x-goog-stored-content-length") or said["Content-Length"]
                return _crc32c_of(said) if int(length) == size else None
        except NotThere:
            return None

    def _agrees(self, stated: str, path: str, file: SentFile) -> bool | None:
        local = self._local.get(path)
        if file.sha256 not in self._sums and local is not None and local.record == file.record:
            self._reading(local).describe()
        ours = self._sums.get(file.sha256)
        return stated == ours if stated and ours else None

    def holds(self, file: Outgoing, advance: Advance = lambda size: None) -> bool:
        stated = self._stated(file.path, file.record.size)
        if stated is None:
            return False
        is_other = self._agrees(stated, file.path, self._reading(file).describe()) is False
        # 32 bits are enough against accidents, and say nothing about what nobody published
        return not is_other and is_read_as(self, file.path, file.record, advance)

    def _reading(self, file: Outgoing) -> Reading:
        return _Summed(file, self._part_size, self._sums.__setitem__)

    # -- writing -----------------------------------------------------------------------------------

    def _begin(self, path: str) -> str:
        begun, _ = self._client.document(
            _BEGIN, "POST", self._at(path), query={"uploads": ""}, headers=FRESH
        )
        return _text(begun, "UploadId")

    def _send(self, path: str, upload_id: str, number: int, data: bytes, digest: bytes) -> str:
        if not data:
            return "empty"  # a part cannot be; see _put_together
        query = {"partNumber": number, "uploadId": upload_id}
        hashed = _hashed(data)
        said = self._client.ask(
            _BEGIN, "PUT", self._at(path), query=query, headers=hashed, data=data
        )
        stated = _crc32c_of(said)
        if stated and f"crc32c={stated}" != hashed["x-goog-hash"]:
            raise Answered(400, "BadDigest", _BEGIN)
        if not stated:
            raise PublishError(
                f"{self.name}: the server does not say back the CRC32C of a part, so nobody knows "
                "whether it compared it. No file got its name. Look at --endpoint-url"
            )
        return said["ETag"]

    def _parts(self, path: str, upload: Upload) -> dict[int, tuple[str, str]]:
        there: dict[int, tuple[str, str]] = {}
        query: dict[str, str | int] = {"uploadId": upload.upload_id}
        for page in paged(self._pages(_PARTS, self._at(path), query, "part-number-marker")):
            for part in page.iterfind("Part"):
                number, etag = int(_text(part, "PartNumber")), _text(part, "ETag")
                sha256, known = upload.parts.get(number, ("", ""))
                if known == etag:
                    there[number] = sha256, etag
        return there

    def _put_together(self, path: str, upload: Upload, file: SentFile) -> None:
        if not file.size:
            self._client.ask(_CREATE, "PUT", self._at(path), headers={**FRESH, **_hashed(b"")})
            with suppress(Gone), self._asking():
                self._give_up(path, upload.upload_id)
            return
        root = ElementTree.Element("CompleteMultipartUpload")
        for number, (_, etag) in sorted(upload.parts.items()):
            part = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = etag
        query, body = {"uploadId": upload.upload_id}, ElementTree.tostring(root)
        _, said = self._client.document(_CREATE, "POST", self._at(path), query=query, data=body)
        stated, ours = _crc32c_of(said), self._sums.get(file.sha256)
        if stated and ours and stated != ours:
            raise PublishError(
                f"{path} does not lie at {self.name} as it was sent: its CRC32C is "
                f"{as_text(stated)}, it should be {ours}. Run again"
            )

    def _give_up(self, path: str, upload_id: str) -> None:
        self._client.ask(_ABORT, "DELETE", self._at(path), query={"uploadId": upload_id})

    def _write_if_as_read(self, data: bytes) -> None:
        headers = {
            "Content-Type": "application/json",
            "x-goog-if-generation-match": self._generation,
            **FRESH,
            **_hashed(data),
        }
        self._client.ask(_CREATE, "PUT", self._at(MANIFEST), headers=headers, data=data)

    def _delete(self, path: str) -> None:
        with suppress(NotThere), self._asking(path):
            self._client.ask(_DELETE, "DELETE", self._at(path))


class _Summed(Reading):
    """A pass in which the CRC32C of the file is counted too.

    Args:
        keep: told the file's SHA-256 and CRC32C behind the last part.
    """

    def __init__(self, file: Outgoing, least: int, keep: Callable[[str, str], None]) -> None:
        super().__init__(file, least)
        self._keep = keep

    def parts(self) -> Iterator[tuple[int, bytes, bytes]]:
        import google_crc32c

        value = 0
        for number, data, digest in super().parts():
            value = google_crc32c.extend(value, data)
            yield number, data, digest
        self._keep(self.file.record.sha256, _written(value))


def _written(value: int) -> str:
    """A CRC32C as Google writes it: big-endian, in base64."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def _hashed(data: bytes) -> dict[str, str]:
    """The header that says the CRC32C of a body."""
    import google_crc32c

    return {"x-goog-hash": f"crc32c={_written(google_crc32c.value(data))}"}


def _crc32c_of(said: Mapping[str, str]) -> str:
    """The CRC32C that headers say; empty: none."""
    hashes = (item.strip().partition("=") for item in said.get("x-goog-hash", "").split(","))
    return next((value for name, _, value in hashes if name == "crc32c"), "")


def _text(element: ElementTree.Element, name: str) -> str:
    found = element.findtext(name)
    if not found:
        raise ValueError(f"no {name}")
    return found


def problem(location: Location) -> str:
    """What a URL of this scheme lacks; empty: nothing."""
    return "" if BUCKET.fullmatch(location.host) else "names no bucket"


def connect(store: Store, location: Location, access: Access = ORDINARY) -> GoogleStorage:
    """The destination ``gs://bucket/prefix``, with the credentials of the environment.

    Raises:
        SpecError, PublishError: as :func:`wmtp_assets.destinations.gs_client.make_client`.
    """
    client = make_client(location.host, access.endpoint_url)
    journal = Journal.of(store, f"{client.endpoint} {location}")
    return GoogleStorage(client, location.path, str(location), journal)
