"""Local files on their way out: read once, hashed while they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import NoReturn

from wmtp_assets.base.errors import PublishError
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.destinations.listing import SentFile, composite
from wmtp_assets.storage.files import PART, open_regular
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import repair_command

MAX_PARTS = 10_000
"""Parts of one object, as S3 allows."""


@dataclass(frozen=True)
class Outgoing:
    """A file that shall be sent.

    Attributes:
        artifact: key of the asset it belongs to.
        path: below the destination, as below the storage root.
        record: the size and SHA-256 it was committed with.
    """

    artifact: str
    path: str
    local: Path
    record: FileRecord

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
        whole, left = hashlib.sha256(), self.file.record.size
        try:
            with BufferedReader(open_regular(self.file.local)) as source:
                while left or not self._digests:
                    data = source.read(min(self.part_size, left))
                    if len(data) < min(self.part_size, left):
                        self._refuse(f"it ends {left - len(data)} bytes early")
                    left -= len(data)
                    whole.update(data)
                    if not left and whole.hexdigest() != self.file.record.sha256:
                        self._refuse(f"SHA-256 {whole.hexdigest()}")
                    several = left or self._digests
                    digest = hashlib.sha256(data).digest() if several else whole.digest()
                    self._digests.append(digest)
                    yield len(self._digests), data, digest
                if source.read(1):
                    self._refuse(f"it is longer than {self.file.record.size} bytes")
        except OSError as error:
            self._refuse(f"it cannot be read ({error.strerror})")

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
        record = self.file.record
        return SentFile(
            size=record.size,
            sha256=record.sha256,
            part_size=self.part_size,
            composite=composite(self._digests),
        )

    def _refuse(self, found: str) -> NoReturn:
        raise PublishError(
            f"{self.file.local} changed while it was read, or is damaged: {found}, but "
            f"{self.file.artifact} was committed with SHA-256 {self.file.record.sha256}. "
            f"Nothing was published. Run: {repair_command(self.file.artifact)}"
        )
