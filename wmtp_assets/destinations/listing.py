"""``MANIFEST.json``: what is published at a destination. It is written last: it is the commit.

What it does not name is not published, whatever lies there. A file is described by its size and
SHA-256, and by the SHA-256 over the SHA-256s of its parts, which S3 calls a composite checksum and
keeps beside the object: ``base64(SHA-256(part hashes))-parts``.

The document comes from another machine and may be damaged or hostile: it is read with limits, its
paths are plain, relative and distinct, also where upper and lower case are the same.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Literal

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
from wmtp_assets.rules.findings import as_text
from wmtp_assets.storage.manifest import FileRecord, render

MANIFEST = "MANIFEST.json"
MAX_SIZE = 8 << 20
"""Bytes of the document; one of 130 files has 50 kB."""


class SentFile(FileRecord):
    """A published file.

    Attributes:
        part_size: bytes.
        composite: hash over the hashes of its parts; see the module's text.
    """

    part_size: int = Field(gt=0, strict=True)
    composite: str = Field(pattern=r"^[A-Za-z0-9+/]{43}=-[1-9][0-9]{0,4}$")

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
        check_distinct([*paths, *listing.retired, MANIFEST])
        is_whole = listing.render() == data
    except ValueError as error:
        why = first_problem(error) if isinstance(error, ValidationError) else error
        raise PublishError(
            f"{where} is no manifest of ours: {as_text(why)}. Look at the URL; if it is right, "
            "publish to another place, or take that file away and publish again"
        ) from error
    if not is_whole:
        raise PublishError(
            f"{where} was changed after it was written: its own SHA-256 should be "
            f"{as_text(stated)}. Publish to another place, or take it away and publish again: "
            "everything is sent anew"
        )
    return listing


def composite(parts: Sequence[bytes]) -> str:
    """The hash over the SHA-256 digests of a file's parts, as S3 writes it."""
    digest = hashlib.sha256(b"".join(parts)).digest()
    return f"{base64.b64encode(digest).decode()}-{len(parts)}"
