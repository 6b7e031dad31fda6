"""S3, and every server that speaks it, as a destination.

Each file is a multipart upload whose parts carry their SHA-256.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, suppress
from typing import Any

from wmtp_assets.base.errors import PublishError
from wmtp_assets.base.settings import CHECKSUM_VARIABLE
from wmtp_assets.destinations.destination import (
    ORDINARY,
    Access,
    Advance,
    Location,
    NotThere,
    is_read_as,
)
from wmtp_assets.destinations.in_parts import READ, InParts, Overtaken, Refused
from wmtp_assets.destinations.journal import Journal, Upload
from wmtp_assets.destinations.listing import MANIFEST, Outgoing, Reading, SentFile
from wmtp_assets.destinations.s3_client import (
    Checksum,
    code_of,
    explained,
    make_client,
    open_session,
    read_checksum,
)
from wmtp_assets.rules.findings import as_text
from wmtp_assets.storage.files import PART
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer.bounds import listed, paged

FORM = "s3://bucket/prefix"

BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
"""Names of buckets, old ones too."""

_OVERTAKEN = frozenset(
    ("PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey", "404")
)
"""Codes of an answer to a conditional request whose condition does not hold."""


class S3(InParts):
    """A destination below a prefix of a bucket.

    Args:
        client: of boto3.
        prefix, name, journal: as :class:`InParts` has them.
        part_size: bytes of a part; S3 takes no less than 5 MiB, but for the last.
        checksum: as the client was made with.
    """

    largest = 5 << 40

    def __init__(
        self,
        client: Any,
        bucket: str,
        prefix: str,
        name: str,
        journal: Journal,
        part_size: int = PART,
        checksum: Checksum = "sha256",
    ) -> None:
        key = f"{client.meta.endpoint_url} s3://{bucket}/{prefix}"
        super().__init__(prefix, name, key, journal, part_size, checksum)
        self._client, self._bucket = client, bucket
        self._algorithm = {"ChecksumAlgorithm": "SHA256"} if checksum == "sha256" else {}
        self._condition: dict[str, str] = {}

    def _asking(self, path: str = "") -> AbstractContextManager[None]:
        return explained(self.name, self._bucket, path)

    def _at(self, path: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{path}"}

    # -- reading -----------------------------------------------------------------------------------

    def _list(self, folder: str, *, is_deep: bool) -> Iterator[tuple[str, int]]:
        pages = self._client.get_paginator("list_objects_v2")
        stop = {} if is_deep else {"Delimiter": "/"}
        found = pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{folder}", **stop)
        for page in paged(found):
            for item in page.get("Contents", ()):
                yield item["Key"].removeprefix(self._prefix), item["Size"]
            for item in page.get("CommonPrefixes", ()):
                yield item["Prefix"].removeprefix(self._prefix), 0

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        from botocore.exceptions import ClientError

        part = {"Range": f"bytes={start}-"} if start else {}
        with self._asking(path):
            if path == MANIFEST:
                self._condition = {"IfNoneMatch": "*"}  # unless it is there
            try:
                answer = self._client.get_object(**self._at(path), **part)
            except ClientError as error:
                if code_of(error) in ("InvalidRange", "416"):
                    return  # it ends before
                raise
            if path == MANIFEST:
                self._condition = {"IfMatch": answer["ETag"]} if answer.get("ETag") else {}
            is_part = str(answer.get("ContentRange", "")).startswith(f"bytes {start}-")
            surplus = 0 if is_part else start  # the range was ignored
            with closing(answer["Body"]) as body:
                for block in body.iter_chunks(READ):
                    yield block[surplus:]
                    surplus = max(surplus - len(block), 0)

    def _stated(self, path: str, size: int) -> str | None:
        try:
            with self._asking(path):
                asked = {"ChecksumMode": "ENABLED"} if self._algorithm else {}
                found = self._client.head_object(**self._at(path), **asked)
                return found.get("ChecksumSHA256", "") if found["ContentLength"] == size else None
        except NotThere:
            return None

    def _agrees(self, stated: str, path: str, file: SentFile) -> bool | None:
        return _is_checksum(stated, file) if stated else None

    def holds(self, file: Outgoing, advance: Advance = lambda size: None) -> bool:
        stated = self._stated(file.path, file.record.size)
        if stated is None:
            return False
        if _is_checksum(stated, Reading(file, self._part_size).describe()):
            advance(file.record.size)
            return True
        # a checksum that somebody else's client made may be of another kind
        return is_read_as(self, file.path, file.record, advance)

    # -- writing -----------------------------------------------------------------------------------

    def _begin(self, path: str) -> str:
        begun = self._client.create_multipart_upload(**self._at(path), **self._algorithm)
        return begun["UploadId"]

    def _send(self, path: str, upload_id: str, number: int, data: bytes, digest: bytes) -> str:
        answer = self._client.upload_part(
            **self._at(path),
            UploadId=upload_id,
            PartNumber=number,
            Body=data,
            **self._checksum(digest),
            **self._algorithm,
        )
        # a server that passes over the checksum would take any bytes
        if answer != {**answer, **self._checksum(digest)}:
            raise PublishError(
                f"{self.name}: the server does not say back the SHA-256 of a part, so "
                "nobody knows whether it compared it. No file got its name. Run "
                f"again, with {CHECKSUM_VARIABLE}=signature: every server checks the "
                "signature"
            )
        return answer["ETag"]

    def _parts(self, path: str, upload: Upload) -> dict[int, tuple[str, str]]:
        pages = self._client.get_paginator("list_parts").paginate(
            **self._at(path), UploadId=upload.upload_id
        )
        parts = listed(part for page in paged(pages) for part in page.get("Parts", ()))
        return {
            part["PartNumber"]: (sha256, part["ETag"])
            for part in parts
            if (sha256 := _sha256_of(part, upload.parts.get(part["PartNumber"])))
        }

    def _checksum(self, digest: bytes) -> dict[str, str]:
        """How a request says the SHA-256 of its body, where its signature does not."""
        stated = base64.b64encode(digest).decode()
        return {"ChecksumSHA256": stated} if self._algorithm else {}

    def _put_together(self, path: str, upload: Upload, file: SentFile) -> None:
        parts = [
            {"PartNumber": number, "ETag": etag, **self._checksum(bytes.fromhex(sha256))}
            for number, (sha256, etag) in sorted(upload.parts.items())
        ]
        stated = self._client.complete_multipart_upload(
            **self._at(path), UploadId=upload.upload_id, MultipartUpload={"Parts": parts}
        ).get("ChecksumSHA256")
        if stated is not None and not _is_checksum(stated, file):
            raise PublishError(
                f"{path} does not lie at {self.name} as it was sent: its checksum is "
                f"{as_text(stated)}, it should be {file.composite}. Run again"
            )

    def _give_up(self, path: str, upload_id: str) -> None:
        self._client.abort_multipart_upload(**self._at(path), UploadId=upload_id)

    def _write_if_as_read(self, data: bytes) -> None:
        try:
            with self._asking():
                self._client.put_object(
                    **self._at(MANIFEST),
                    Body=data,
                    ContentType="application/json",
                    **self._checksum(hashlib.sha256(data).digest()),
                    **self._condition,
                )
        except Refused as error:
            if self._condition and error.code in ("NotImplemented", "501"):
                self._condition = {}  # it knows none
                self._write_if_as_read(data)
            elif self._condition and error.code in _OVERTAKEN:
                raise Overtaken(str(error), error.code) from None
            else:
                raise

    def _delete(self, path: str) -> None:
        self._client.delete_object(**self._at(path))


def _is_checksum(stated: str, file: SentFile) -> bool:
    """Whether a stated checksum is the file's; some servers leave the number of parts out."""
    value, _, parts = stated.partition("-")
    expected, _, count = file.composite.partition("-")
    return value == expected and parts in ("", count)


def _sha256_of(found: Mapping[str, Any], known: tuple[str, str] | None) -> str:
    """The SHA-256 of a part that the server lists: as it says, or, where it says none, as we
    remember of the part that it called so; empty: nobody knows."""
    stated = found.get("ChecksumSHA256")
    if stated is not None:
        with suppress(ValueError):
            return base64.b64decode(stated, validate=True).hex()
        return ""
    return known[0] if known is not None and known[1] == found["ETag"] else ""


def problem(location: Location) -> str:
    """What a URL of this scheme lacks; empty: nothing."""
    return "" if BUCKET.fullmatch(location.host) else "names no bucket"


def connect(store: Store, location: Location, access: Access = ORDINARY) -> S3:
    """The destination ``s3://bucket/prefix``, with the credentials of the environment or a profile.

    Raises:
        SpecError, PublishError: as :func:`wmtp_assets.destinations.s3_client.make_client` and
            :func:`wmtp_assets.destinations.s3_client.read_checksum`.
    """
    checksum = read_checksum()
    client = make_client(open_session(), access.endpoint_url, checksum)
    return S3(
        client,
        location.host,
        location.path,
        str(location),
        Journal.of(store, f"{client.meta.endpoint_url} {location}"),
        checksum=checksum,
    )
