"""Where the bytes of an expected file may lie already, and what is still missing: how many bytes,
whether they fit on the disk, and how fast they will come.

A file is believed for its hash only, so it does not matter where its bytes come from: the committed
artifact, what an interrupted transfer left, a folder that somebody names, the hub or a destination.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmtp_assets.base.errors import CorruptArtifact, DownloadError, MissingArtifact, StoreError
from wmtp_assets.base.progress import Say, Told, human_bytes
from wmtp_assets.base.settings import ROOT_VARIABLE
from wmtp_assets.base.strict_json import parse_object, read_small
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.storage.files import (
    BLOCK,
    PART,
    HashedFile,
    hash_file,
    open_regular,
    replace_file,
)
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.mounts import resolved
from wmtp_assets.storage.store import Staged, Store

Advance = Callable[[int], None]
"""Told the bytes that are here now; a negative number takes back what has to be done again."""


LEAST = 1 << 20
"""Bytes of a transfer that says something about the line."""


def ignore(size: int) -> None:
    """An :data:`Advance` that shows nothing."""


@dataclass(frozen=True)
class ExpectedFile:
    """A file that is to arrive.

    Attributes:
        path: its name where it comes from.
        size: bytes.
        sha256: None where only its git blob SHA-1 is known.
        blob_id: git blob SHA-1 of a small file, else None.
    """

    path: str
    size: int
    sha256: str | None
    blob_id: str | None = None

    @property
    def key(self) -> str:
        """The expected hash, as a file name."""
        return self.sha256 or f"git-{self.blob_id}"

    def is_met_by(self, found: FileRecord, path: Path) -> bool:
        """Whether the file at ``path`` is the expected one.

        Args:
            found: its size and SHA-256.
        """
        if self.sha256 is None:
            return found.size == self.size and git_sha1_of(path) == self.blob_id
        return (found.size, found.sha256) == (self.size, self.sha256)

    def is_content(self, data: bytes) -> bool:
        """Whether ``data`` is what the file holds."""
        if self.sha256 is None:
            return git_sha1(data) == self.blob_id
        return hashlib.sha256(data).hexdigest() == self.sha256


def git_sha1(data: bytes) -> str:
    """The git blob SHA-1 of the content of a small file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def git_sha1_of(path: Path) -> str:
    """The git blob SHA-1 of a file of any size, which is not held in memory."""
    with path.open("rb", buffering=0) as file:
        digest = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size, usedforsecurity=False)
        while data := file.read(BLOCK):
            digest.update(data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Held:
    """A file that is here and is the expected one.

    Attributes:
        path: where it lies.
        record: size and SHA-256.
        parts: SHA-256 of each 16 MiB; empty where nobody wants them.
    """

    path: Path
    record: FileRecord
    parts: list[str]


@dataclass(frozen=True)
class Places:
    """Where the files of an artifact may lie already.

    Attributes:
        store, artifact: what lies in the artifact's folder counts, committed or not.
        below: the part of that folder, with a slash, in which files lie under their paths.
        others: folders with the same paths, which somebody named; links in there are followed, as
            the hub client's cache is made of them.
        in_parts: whether :attr:`Held.parts` are wanted.
    """

    store: Store
    artifact: Artifact[Any]
    below: str = ""
    others: Sequence[Path] = ()
    in_parts: bool = True

    @property
    def partials(self) -> Path:
        """The folder of what interrupted transfers left."""
        return self.store.scratch(self.artifact) / "partial"

    def partial(self, file: ExpectedFile) -> Path:
        """Where what arrived of a file lies: under its expected hash."""
        return self.partials / file.key

    def committed(self, file: ExpectedFile) -> Path:
        """Where the file lies in the artifact."""
        return self.store.path(self.artifact, self.below + file.path)

    def candidates(self, file: ExpectedFile) -> Iterator[Path]:
        """Regular files of the right size that may be the expected one."""
        elsewhere = (resolved(folder / file.path) for folder in self.others)
        is_elsewhere = self.store.is_through_link(self.artifact, self.below + file.path)
        own = () if is_elsewhere else (self.committed(file),)
        for path in (*own, self.partial(file), *elsewhere):
            if _size(path) == file.size:
                yield path

    def missing(self, files: Iterable[ExpectedFile], *, is_hashed: bool = False) -> int:
        """Bytes to fetch; of equal content under two names once.

        What the committed manifest records is believed, and a file under its hash.

        Args:
            is_hashed: hash what no manifest records; by default its size is enough.
        """
        manifest = self.store.find_manifest(self.artifact)
        recorded = manifest.files if manifest else {}

        def is_here(file: ExpectedFile, path: Path) -> bool:
            if path != self.committed(file):
                return True
            record = recorded.get(self.below + file.path)
            if record is not None:
                return record.size == file.size and file.sha256 in (None, record.sha256)
            return not is_hashed or self.verify(file, path) is not None

        missing = {
            file.key: (file.size, max(_size(self.partial(file)), 0))
            for file in files
            if not any(is_here(file, path) for path in self.candidates(file))
        }
        return sum(size - (left if left < size else 0) for size, left in missing.values())

    def to_copy(self, files: Iterable[ExpectedFile]) -> int:
        """Bytes that are here, but on another filesystem."""
        device = self.store.internal.stat().st_dev
        first = ((file.size, next(self.candidates(file), None)) for file in files)
        return sum(size for size, path in first if path and path.stat().st_dev != device)

    def verify(self, file: ExpectedFile, path: Path, advance: Advance = ignore) -> Held | None:
        """The file at ``path``, if it is the expected one; it is only read."""
        parts: list[str] = []
        if path == self.committed(file) and (held := self._verify_committed(file, advance)):
            return held
        with suppress(OSError):
            if path.lstat().st_size == file.size:
                record = hash_file(path, advance, parts if self.in_parts else None)
                if file.is_met_by(record, path):
                    return Held(path, record, parts)
        return None

    def _verify_committed(self, file: ExpectedFile, advance: Advance) -> Held | None:
        """The file in the artifact, by the pieces that it was committed with; None: it is another
        one, or has none that are known to be of the same bytes."""
        name, told = self.below + file.path, Told(advance)
        with suppress(OSError, MissingArtifact, CorruptArtifact):
            record = self.store.manifest(self.artifact).files.get(name)
            is_it = record and (record.size, record.sha256) == (file.size, file.sha256)
            if record and is_it and self.store.is_in_pieces(self.artifact, name, told):
                pieces = self.store.pieces(self.artifact)[name]
                if all(piece.end - piece.begin == PART for piece in pieces[:-1]):
                    return Held(self.committed(file), record, [it.sha256 for it in pieces])
        told.take_back()
        return None

    def find(self, file: ExpectedFile, advance: Advance, say: Say) -> Held | None:
        """The expected file, where it is here and its bytes are right."""
        for path in self.candidates(file):
            held = self.verify(file, path, advance)
            if held is not None:
                return held
            advance(-file.size)
            say(f"{path} has the size of {file.path}, but other bytes: it is not used")
            if path == self.partial(file):
                path.unlink(missing_ok=True)
        return None

    def keep_only(self, files: Iterable[ExpectedFile]) -> None:
        """Remove what was left of files that are no longer wanted."""
        wanted = {file.key for file in files}
        for path in self.partials.iterdir() if self.partials.is_dir() else ():
            if path.name not in wanted:
                path.unlink()

    def place(self, staged: Staged, file: ExpectedFile, held: Held) -> None:
        """Put a verified file into the staging folder: by a link, or copied from another
        filesystem.

        Raises:
            DownloadError: if it changes while it is copied.
        """
        name = self.below + file.path
        try:
            staged.place(name, held.path, held.record, held.parts)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                raise
            staged.place(name, self._copy(file, held), held.record, held.parts)

    def _copy(self, file: ExpectedFile, held: Held) -> Path:
        """A copy of a file on the root's filesystem, hashed while it is written."""
        target = self.partial(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        records: list[FileRecord] = []
        with open_regular(held.path) as source, HashedFile(target, records.append, ignore) as to:
            shutil.copyfileobj(source, to, BLOCK)
        if records != [held.record]:
            target.unlink()
            raise DownloadError(f"{held.path} changed while it was copied; run again")
        return target


def _size(path: Path) -> int:
    """Bytes of a regular file that can be read; -1: there is none."""
    try:
        with open_regular(path) as opened:
            return os.fstat(opened.fileno()).st_size
    except OSError:
        return -1


def free_space(store: Store) -> int:
    """Bytes free where the root is, or will be."""
    there = next(path for path in (store.internal, *store.internal.parents) if path.exists())
    return shutil.disk_usage(there).free


def require_space(store: Store, who: str, needed: int, says: str) -> None:
    """Refuse, before the first byte, what will not fit.

    Args:
        who: what is to arrive, for people.
        says: what is needed of what, for people.

    Raises:
        StoreError: if fewer than ``needed`` bytes are free.
    """
    free = free_space(store)
    if needed > free:
        raise StoreError(
            f"{who} will not fit: {says}, {human_bytes(free)} free under {store.root}. Free some "
            f"space, or move the root with {ROOT_VARIABLE}"
        )


def download_rate(store: Store) -> Path:
    """Where the rate of downloads from the hub is kept."""
    return store.internal / "rate.json"


def remember_rate(path: Path, size: int, seconds: float) -> None:
    """Keep the throughput of a transfer of ``size`` bytes, for the estimate of the next."""
    if size >= LEAST and seconds > 0:
        replace_file(path, json.dumps({"bytes_per_second": round(size / seconds)}).encode())


def last_rate(path: Path) -> float | None:
    """Bytes per second of the last transfer; None: there was none."""
    try:
        rate = parse_object(read_small(path)).get("bytes_per_second")
    except (OSError, ValueError):
        return None
    return rate if type(rate) is int and 0 < rate < 1 << 50 else None
