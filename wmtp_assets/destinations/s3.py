"""S3, and every server that speaks it, as a destination.

Each file is a multipart upload whose parts carry their SHA-256. Until it is completed no reader
sees it, so that completing is all that is left to do when the payload is there. The journal
remembers the parts, and the server is asked which of them it has.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from typing import Any

from wmtp_assets.base.errors import PublishError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.base.settings import CHECKSUM_VARIABLE
from wmtp_assets.destinations.destination import (
    ORDINARY,
    OURS,
    Access,
    Advance,
    Destination,
    How,
    Location,
    NotThere,
    Stopped,
    Units,
    describing_last,
    each,
    is_read_as,
)
from wmtp_assets.destinations.journal import Journal, Upload
from wmtp_assets.destinations.listing import MANIFEST, Outgoing, Reading, SentFile
from wmtp_assets.destinations.s3_client import (
    ATTEMPTS,
    DAMAGED,
    Checksum,
    Refused,
    code_of,
    explained,
    make_client,
    open_session,
    read_checksum,
)
from wmtp_assets.rules.findings import as_text
from wmtp_assets.storage.files import PART
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer.arrival import Patience
from wmtp_assets.transfer.bounds import listed

FORM = "s3://bucket/prefix"

BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
"""Names of buckets, old ones too."""

PARTS = 8
"""Parts that are on their way at the same time: so many times 16 MiB are in memory."""

_OVERTAKEN = frozenset(
    ("PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey", "404")
)
"""Codes of an answer to a conditional request whose condition does not hold."""

READ = 1 << 18
"""Bytes that are read at a time; of a cut connection so many at most are fetched again."""


class S3(Destination):
    """A destination below a prefix of a bucket. S3 has no locks: ``MANIFEST.json`` is written under
    a condition.

    Args:
        client: of boto3.
        prefix: without slashes at its ends; may be empty.
        name: URL for people.
        journal: what is remembered of uploads.
        part_size: bytes of a part; S3 takes no less than 5 MiB, but for the last.
        checksum: as the client was made with.
    """

    streams = 4
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
        self.name = name
        self.key = f"{client.meta.endpoint_url} s3://{bucket}/{prefix}"
        self._client, self._bucket, self._journal = client, bucket, journal
        self._prefix = f"{prefix}/" if prefix else ""
        self._part_size, self._mode = part_size, checksum
        self._algorithm = {"ChecksumAlgorithm": "SHA256"} if checksum == "sha256" else {}
        self._pool = ThreadPoolExecutor(PARTS)
        self._slots = threading.BoundedSemaphore(PARTS)
        self._lock = threading.Lock()
        self._condition: dict[str, str] = {}

    def _at(self, path: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{path}"}

    # -- reading -----------------------------------------------------------------------------------

    def names(self, paths: Collection[str] = ()) -> Mapping[str, int]:
        with explained(self.name, self._bucket):
            found = dict(listed(self._list("", Delimiter="/")))
            for folder in [name for name in found if name.endswith("/")]:
                if folder.rstrip("/").casefold() in OURS:
                    found |= listed(self._list(folder))
        # what ends with a slash is a folder, or a console's mark for an empty one
        return {name: size for name, size in found.items() if name and not name.endswith("/")}

    def _list(self, folder: str, **stop: str) -> Iterator[tuple[str, int]]:
        """Path and bytes of the objects below a folder, and, where they are not looked into, the
        folders in it, with a slash."""
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{folder}", **stop):
            for item in page.get("Contents", ()):
                yield item["Key"].removeprefix(self._prefix), item["Size"]
            for item in page.get("CommonPrefixes", ()):
                yield item["Prefix"].removeprefix(self._prefix), 0

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        from botocore.exceptions import ClientError

        part = {"Range": f"bytes={start}-"} if start else {}
        with explained(self.name, self._bucket, path):
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

    def is_same(
        self, path: str, file: SentFile, how: How, advance: Advance = lambda size: None
    ) -> bool:
        stated = self._stated(path, file.size)
        if stated is None:
            return False
        if how == "full" or (how == "hash" and not stated):
            return is_read_as(self, path, file.record, advance)
        advance(file.size)
        return how == "size" or not stated or _is_checksum(stated, file)

    def _stated(self, path: str, size: int) -> str | None:
        """The checksum that the server keeps beside an object of this size; empty: it keeps none;
        None: there is no such object."""
        try:
            with explained(self.name, self._bucket, path):
                found = self._client.head_object(**self._at(path), ChecksumMode="ENABLED")
                return found.get("ChecksumSHA256", "") if found["ContentLength"] == size else None
        except NotThere:
            return None

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

    def prepare(self, size: int, say: Say = silent) -> None:
        self._is_stopped = False
        # what cannot be tidied up now is the next publication's to abort
        with suppress(PublishError), explained(self.name, self._bucket):
            self._tidy_up(())
            probe = self._client.create_multipart_upload(**self._at(MANIFEST))
            self._client.abort_multipart_upload(**self._at(MANIFEST), UploadId=probe["UploadId"])

    def _tidy_up(self, paths: Collection[str]) -> None:
        """Abort uploads that we began, to these paths or to others where we did not go on with
        them; those of others are not ours to know.

        One that cannot be aborted is remembered, and tried again the next time. What is remembered
        is read first: another process may have written it before this one had the lock.
        """
        self._journal.load()
        self._journal.forget_all(filter(self._is_aborted, [*self._journal.stale(), *paths]))

    def _is_aborted(self, path: str) -> bool:
        """Abort what we began for a path, if anything; whether nothing of it is left."""
        upload = self._journal.uploads.get(path)
        if upload is not None and not upload.is_complete:
            try:
                self._abort(path, upload)
            except Refused:
                return False
        return True

    def _abort(self, path: str, upload: Upload) -> None:
        identity = {**self._at(path), "UploadId": upload.upload_id}
        self._unless_gone(lambda: self._client.abort_multipart_upload(**identity))

    def stage(self, file: Outgoing, advance: Advance) -> SentFile:
        reading = Reading(file, self._part_size)
        upload = self._go_on(file, reading.part_size)
        # it may have been completed, also where we were cut off before we knew
        if upload is None and (found := self._find(file, reading.part_size, advance)) is not None:
            return found
        upload = upload or self._begin(file, reading.part_size)
        running: list[Future[None]] = []
        try:
            for number, data, digest in reading.parts():
                if upload.parts.get(number, ("",))[0] == digest.hex():
                    advance(len(data))
                    continue
                self._slots.acquire()
                if self._is_stopped:
                    self._slots.release()
                    raise Stopped(f"{file.path} was not sent whole: another part failed")
                running.append(
                    self._pool.submit(
                        self._send, file.path, upload.upload_id, number, data, digest, advance
                    )
                )
        finally:  # the first part that failed says why the others stopped
            wait(running)
            for task in running:
                task.result()
        return reading.sent()

    def _find(self, file: Outgoing, part_size: int, advance: Advance) -> SentFile | None:
        """The file, if the journal and the object say that it was put in its place."""
        upload = self._journal.uploads.get(file.path)
        if upload is None or not upload.is_complete:
            return None
        digests = [bytes.fromhex(upload.parts[number][0]) for number in sorted(upload.parts)]
        if upload.is_of(file.record.sha256, file.record.size, part_size, self._mode) and digests:
            sent = SentFile.of_parts(file.record, part_size, digests)
            if self.is_same(file.path, sent, "hash"):
                advance(file.record.size)
                return sent
        self._journal.forget(file.path)
        return None

    def _go_on(self, file: Outgoing, part_size: int) -> Upload | None:
        """An upload that was begun, with those of its parts that the server has; None: none was, it
        was completed, or the server does not know it any more."""
        upload = self._journal.uploads.get(file.path)
        if upload is None or upload.is_complete:
            return None
        if not upload.is_of(file.record.sha256, file.record.size, part_size, self._mode):
            self._abort(file.path, upload)
            self._journal.forget(file.path)
            return None
        identity = {**self._at(file.path), "UploadId": upload.upload_id}
        pages = self._client.get_paginator("list_parts").paginate(**identity)
        parts = listed(part for page in pages for part in page.get("Parts", ()))
        found = self._unless_gone(lambda: list(parts))
        if found is None:
            if upload.has_all_parts():
                self._journal.complete(file.path)  # if it was: _find asks
            return None
        self._journal.touch(file.path)
        known = upload.parts
        there = {
            part["PartNumber"]: (sha256, part["ETag"])
            for part in found
            if (sha256 := _sha256_of(part, known.get(part["PartNumber"])))
        }
        for number in [number for number in there if there[number] != known.get(number)]:
            self._journal.part(file.path, number, *there[number])
        upload.parts = there
        return upload

    def _unless_gone(self, ask: Callable[[], Any]) -> Any:
        """What the server answers about an upload; None: it has no such upload."""
        try:
            with explained(self.name, self._bucket):
                return ask()
        except Refused as error:
            if error.code != "NoSuchUpload":
                raise
            return None

    def _begin(self, file: Outgoing, part_size: int) -> Upload:
        with explained(self.name, self._bucket):
            begun = self._client.create_multipart_upload(**self._at(file.path), **self._algorithm)
            identity = begun["UploadId"], file.record.sha256, file.record.size
        self._journal.begin(file.path, *identity, part_size, self._mode)
        return self._journal.uploads[file.path]

    def _send(
        self, path: str, upload_id: str, number: int, data: bytes, digest: bytes, advance: Advance
    ) -> None:
        """Send a part, and remember that it is there."""
        try:
            etag = self._upload(path, upload_id, number, data, digest)
            self._journal.part(path, number, digest.hex(), etag)
            advance(len(data))
        except BaseException:
            self._is_stopped = True
            raise
        finally:
            self._slots.release()

    def _upload(self, path: str, upload_id: str, number: int, data: bytes, digest: bytes) -> str:
        """Send a part, again where other bytes arrived; what the server calls it."""
        patience = Patience(ATTEMPTS)
        while True:
            with self._lock:
                self.payload += len(data)
            try:
                with explained(self.name, self._bucket):
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
            except Refused as error:
                if error.code not in DAMAGED or patience.is_at_end():
                    raise

    def _checksum(self, digest: bytes) -> dict[str, str]:
        """How a request says the SHA-256 of its body, where its signature does not."""
        stated = base64.b64encode(digest).decode()
        return {"ChecksumSHA256": stated} if self._algorithm else {}

    def commit(self, units: Units, ours: Collection[str]) -> None:
        files = {path: file for unit in units.values() for path, file in unit.items()}
        for paths in describing_last(files):
            each(lambda path: self._complete(path, files[path]), paths)

    def _complete(self, path: str, file: SentFile) -> None:
        """Complete the upload of a file: from then on it lies in its place."""
        upload = self._journal.uploads[path]
        if upload.is_complete:
            return
        parts = [
            {"PartNumber": number, "ETag": etag, **self._checksum(bytes.fromhex(sha256))}
            for number, (sha256, etag) in sorted(upload.parts.items())
        ]
        try:
            with explained(self.name, self._bucket):
                stated = self._client.complete_multipart_upload(
                    **self._at(path), UploadId=upload.upload_id, MultipartUpload={"Parts": parts}
                ).get("ChecksumSHA256")
        except Refused as error:
            # it was completed, and the answer was lost
            if error.code != "NoSuchUpload" or not self.is_same(path, file, "hash"):
                raise
            stated = None
        if stated is not None and not _is_checksum(stated, file):
            raise PublishError(
                f"{path} does not lie at {self.name} as it was sent: its checksum is "
                f"{as_text(stated)}, it should be {file.composite}. Run again"
            )
        self._journal.complete(path)

    def write_manifest(self, data: bytes) -> None:
        try:
            with explained(self.name, self._bucket):
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
                self.write_manifest(data)
            elif not self._condition or error.code not in _OVERTAKEN:
                raise
            elif not self._has_manifest(data):  # else it was written, and asked again
                raise PublishError(
                    f"{self.name}/{MANIFEST} was written by somebody else meanwhile. Run again"
                ) from None

    def _has_manifest(self, data: bytes) -> bool:
        try:
            return b"".join(self.read(MANIFEST)) == data
        except NotThere:
            return False

    def delete(self, path: str) -> None:
        with explained(self.name, self._bucket):
            self._client.delete_object(**self._at(path))

    def finish(self, paths: Collection[str]) -> None:
        # what cannot be tidied up now is the next publication's to abort
        with suppress(PublishError), explained(self.name, self._bucket):
            self._tidy_up(paths)


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
