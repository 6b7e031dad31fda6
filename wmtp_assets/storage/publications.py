"""What this machine remembers of publications of the whole storage that were verified.

One small file per destination below ``<root>/.wmtp/published/``. It is a memory for people, no
proof: ``wmtp publish --dry-run`` compares again. Publishing the same release again changes nothing
in it, so that a report that tells of it stays as it is.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from wmtp_assets.base.model import Sha256, StrictModel
from wmtp_assets.base.strict_json import read_small
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.store import Store


class Publication(StrictModel):
    """One publication.

    Attributes:
        to: URL of the destination, without secrets.
        at: UTC time, of the first one with this release.
        version: of the release.
        release: SHA-256 of the content of the release, which has that of every artifact.
    """

    to: str = Field(max_length=1000)
    at: str
    version: str
    release: Sha256


def remember_publication(store: Store, name: str, publication: Publication) -> None:
    """Keep a publication; ``name`` is what its destination is called in names of files.

    Raises:
        OSError: if it cannot be written.
    """
    path = store.internal / "published" / f"{name}.json"
    before = _read(path)
    if before is None or before.release != publication.release:
        replace_file(path, publication.model_dump_json().encode())


def publications(store: Store) -> list[Publication]:
    """What is remembered, the oldest first; damaged records are left out."""
    found = map(_read, sorted((store.internal / "published").glob("*.json")))
    return sorted(filter(None, found), key=lambda publication: publication.at)


def _read(path: Path) -> Publication | None:
    try:
        return Publication.model_validate_json(read_small(path))
    except (OSError, ValueError):
        return None
