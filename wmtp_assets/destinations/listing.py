"""``MANIFEST.json``: what is published at a destination; and the local files on their way there.

It is written last: it is the commit. What it does not name is not published, whatever lies there.
A file is described by its size and SHA-256, and by the SHA-256 over the SHA-256s of its parts,
which S3 calls a composite checksum and keeps beside the object:
``base64(SHA-256(part hashes))-parts``.

The document comes from another machine and may be damaged or hostile: it is read with limits, its
paths are plain, relative and distinct, also where upper and lower case are the same.

A local file is read once, and hashed while it is read: so it is sent and described as it was
committed, or not at all.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Literal, NoReturn

from pydantic import Field, ValidationError

from wmtp_assets.base.errors import PublishError
from wmtp_assets.base.model import (
    AssetName,
    RelativePath,
    Sha256,
    StrictModel,
    check_distinct,
    first_problem,
)
from wmtp_assets.base.settings import Source
from wmtp_assets.base.strict_json import parse_object
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.rules.findings import as_text
from wmtp_assets.storage.files import PART, open_regular
from wmtp_assets.storage.manifest import FileRecord, render
from wmtp_assets.storage.store import repair_command

MANIFEST = "MANIFEST.json"
MAX_SIZE = 8 << 20
"""Bytes of the document; one of 130 files has 50 kB."""

MAX_PARTS = 10_000
"""Parts of one object, as S3 allows."""


class SentFile(FileRecord):
    """A published file.

    Attributes:
        part_size: bytes.
        composite: hash over the hashes of its parts; see the module's text.
    """

    part_size: int = Field(gt=0, strict=True)
    composite: str = Field(pattern=r"^[A-Za-z0-9+/]{43}=-[1-9][0-9]{0,4}$")

    @classmethod
    def of_parts(cls, record: FileRecord, part_size: int, digests: Sequence[bytes]) -> SentFile:
        """How a file is described whose parts have these SHA-256 digests."""
        digest = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
        return cls(**record.model_dump(), part_size=part_size, composite=f"{digest}-{len(digests)}")

    @property
    def record(self) -> FileRecord:
        """Size and SHA-256."""
        return FileRecord(size=self.size, sha256=self.sha256)


class SentArtifact(StrictModel):
    """A published artifact.

    Attributes:
        content_sha256: its version, as its own manifest has it.
        release: what was released where it came from; None: nothing.
        files: path below the destination → file; its own manifest is one of them.
    """

    kind: AssetName
    version: str = Field(max_length=100)
    content_sha256: Sha256
    release: str | None = Field(default=None, max_length=100)
    files: dict[RelativePath, SentFile]


class Listing(StrictModel):
    """``MANIFEST.json``.

    Attributes:
        release: version of the ``RELEASE.json`` that is published; None: none is.
        published_at: UTC time.
        retired: path → files that were published before and are no longer; they lie there until
            somebody publishes with ``--delete``.
    """

    format: Literal["wmtp-publish/1"] = "wmtp-publish/1"
    source: Source
    release: str | None = Field(default=None, max_length=100)
    published_at: str = Field(max_length=40)
    artifacts: dict[AssetName, SentArtifact]
    retired: dict[RelativePath, SentFile] = Field(default_factory=dict)

    @property
    def files(self) -> dict[str, SentFile]:
        """Every published file, by its path."""
        return {path: file for item in self.artifacts.values() for path, file in item.files.items()}

    def render(self) -> bytes:
        """The file's bytes, sealed with their own hash."""
        body = self.model_dump()
        return render({**body, "self_sha256": hashlib.sha256(render(body)).hexdigest()})


def parse_listing(data: bytes, where: str) -> Listing:
    """Read a ``MANIFEST.json``; ``where`` names it.

    Raises:
        PublishError: if it is not what :meth:`Listing.render` wrote.
    """
    try:
        document = parse_object(data, MAX_SIZE)
        stated = document.pop("self_sha256", None)
        listing = Listing.model_validate(document)
        paths = [path for item in listing.artifacts.values() for path in item.files]
        check_distinct([*paths, MANIFEST])
        check_distinct([*paths, *listing.retired, MANIFEST], at_once=False)
        is_whole = listing.render() == data
    except ValueError as error:
        why = first_problem(error) if isinstance(error, ValidationError) else error
        raise PublishError(
            f"{where} is not a wmtp_assets manifest: {as_text(why)}. Look at the URL; if it is "
            "right, publish to another place, or take that file away and publish again"
        ) from error
    if not is_whole:
        raise PublishError(
            f"{where} was changed after it was written: its own SHA-256 should be "
            f"{as_text(stated)}. Publish to another place, or take it away and publish again: "
            "everything is sent anew"
        )
    return listing


@dataclass(frozen=True)
class Outgoing:
    """A file that is to be sent.

    Attributes:
        artifact: key of the asset it belongs to.
        path: below the destination, as below the storage root.
        record: the size and SHA-256 it was committed with.
        parts: SHA-256 of each :data:`PART` bytes, where these and that of the file were compared
            with the same bytes; else empty.
    """

    artifact: str
    path: str
    local: Path
    record: FileRecord
    parts: tuple[str, ...] = ()

    def part_size(self, least: int = PART) -> int:
        """Bytes of each part but the last."""
        return least * max(1, -(-self.record.size // (least * MAX_PARTS)))


@dataclass(frozen=True)
class Local:
    """An artifact as it is committed here."""

    artifact: Artifact
    version: str
    content_sha256: str
    files: tuple[Outgoing, ...]


class Reading:
    """One pass over a file in parts; the bytes must be those that were committed.

    Where the hashes of exactly these parts are known, each is compared with its own, and every byte
    is hashed once. Else the whole is hashed beside the parts.

    Args:
        least: bytes of a part, at least.
    """

    def __init__(self, file: Outgoing, least: int = PART) -> None:
        self.file, self.part_size = file, file.part_size(least)
        self._digests: list[bytes] = []

    def parts(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Number (from 1), bytes and SHA-256 digest of each part; an empty file has an empty one.

        Raises:
            PublishError: behind the last part, or as soon as it shows, if the bytes are others than
                were committed, or cannot be read.
        """
        left = self.file.record.size
        try:
            with BufferedReader(open_regular(self.file.local)) as source, self._hashing() as digest:
                while left or not self._digests:
                    data = source.read(min(self.part_size, left))
                    if len(data) < min(self.part_size, left):
                        self._refuse(f"it ends {left - len(data)} bytes early")
                    left -= len(data)
                    self._digests.append(digest(data))
                    yield len(self._digests), data, self._digests[-1]
                if source.read(1):
                    self._refuse(f"it is longer than {self.file.record.size} bytes")
        except OSError as error:
            self._refuse(f"it cannot be read ({error.strerror})")

    @contextmanager
    def _hashing(self) -> Iterator[Callable[[bytes], bytes]]:
        """What returns the digest of the next part, and refuses it where it is not as committed;
        where only the whole can say that, the last part."""
        size, known = self.file.record.size, self.file.parts
        if not known or self.part_size != PART:
            known = (self.file.record.sha256,) if size <= self.part_size else ()
        if known:
            yield partial(self._compared, known)
            return
        whole = hashlib.sha256()
        with ThreadPoolExecutor(1) as beside:

            def digest(data: bytes) -> bytes:
                hashing = beside.submit(whole.update, data)
                found = hashlib.sha256(data).digest()
                hashing.result()
                is_last = (len(self._digests) + 1) * self.part_size >= size
                if is_last and whole.hexdigest() != self.file.record.sha256:
                    self._refuse(f"SHA-256 {whole.hexdigest()}")
                return found

            yield digest

    def _compared(self, known: Sequence[str], data: bytes) -> bytes:
        """The digest of the next part, which must be one that is known."""
        digest, number = hashlib.sha256(data).digest(), len(self._digests)
        if digest.hex() != known[number]:
            part = f"part {number + 1} of {len(known)} has " if known[1:] else ""
            self._refuse(f"{part}SHA-256 {digest.hex()}")
        return digest

    def describe(self) -> SentFile:
        """How the file is described; it is read for that.

        Raises:
            PublishError: as :meth:`parts`.
        """
        for _ in self.parts():
            pass
        return self.sent()

    def sent(self) -> SentFile:
        """How the file is described, once all parts were read."""
        return SentFile.of_parts(self.file.record, self.part_size, self._digests)

    def _refuse(self, found: str) -> NoReturn:
        raise PublishError(
            f"{self.file.local} changed while it was read, or is damaged: {found}, but "
            f"{self.file.artifact} was committed with SHA-256 {self.file.record.sha256}. "
            f"Nothing was published. Run: {repair_command(self.file.artifact)}"
        )
