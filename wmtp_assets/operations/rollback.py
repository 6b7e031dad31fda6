"""Going back to what an artifact was before its last commit.

What a commit replaces is kept in ``<root>/.wmtp/previous/``, but for files that both generations
share. Going back is a commit like any other: the previous generation is linked into a staging copy,
byte for byte compared with its manifest, and exchanged with the committed one, which is then the
previous one: going back twice changes nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.base.progress import Progress, Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.operations.materialize import copy_to_root
from wmtp_assets.operations.status import Stale, stale
from wmtp_assets.storage import manifest as manifests
from wmtp_assets.storage.files import hash_file, open_regular
from wmtp_assets.storage.manifest import FileRecord, Manifest
from wmtp_assets.storage.store import Store, materialize_command


@dataclass(frozen=True)
class Rollback:
    """What was done.

    Attributes:
        artifact: key.
        content_sha256: of the content that is committed now.
        replaced: of the content that was; None: its manifest could not be read.
        stale: what must be made again since, the artifact itself and what is made from it.
    """

    artifact: str
    content_sha256: str
    replaced: str | None
    stale: list[Stale]


def rollback(store: Store, artifact: Artifact, say: Say = silent) -> Rollback:
    """Commit the previous generation of an artifact.

    Raises:
        MissingArtifact: if there is none.
        CorruptArtifact: if it is not, byte for byte, what its manifest says, and nothing was
            changed; or if a file was written to while it was put back.
        StoreError: as :meth:`Store.stage`.
    """
    store.recover(artifact, say)
    with store.stage(artifact, say) as staged:
        before, committed = _previous(store, artifact), store.find_manifest(artifact)
        progress = Progress(f"verifying {artifact.key} as it was", before.size, say)
        for name, record in before.files.items():
            path = _where(store, artifact, name, record, committed)
            _require(artifact, path, record, progress)
            staged.place(name, path, record, [])
        created_at = before.document["created_at"]
        now = store.commit(artifact, staged, before.description, say, created_at)
        copy_to_root(store, artifact)
    _verify(store, artifact, now, say)
    return Rollback(
        artifact.key,
        now.content_sha256,
        committed.content_sha256 if committed else None,
        [row for row in stale(store, _from(store, artifact)) if row.reasons],
    )


def _verify(store: Store, artifact: Artifact, now: Manifest, say: Say) -> None:
    """Read what is committed now, and note which files have the committed bytes.

    Raises:
        CorruptArtifact, MissingArtifact: as :meth:`Store.verify_file`, of the first that has not.
    """
    progress = Progress(f"verifying {artifact.key}", now.size, say)
    signed = store.sign(artifact, (*now.files, artifact.manifest))
    damaged: dict[str, CorruptArtifact | MissingArtifact] = {}
    for name in now.files:
        try:
            store.verify_file(artifact, name, progress.advance)
        except (CorruptArtifact, MissingArtifact) as error:
            damaged[name] = error
    store.hashed(artifact, now, signed, say, damaged)
    for error in damaged.values():
        raise error


def _previous(store: Store, artifact: Artifact) -> Manifest:
    """The manifest of the previous generation."""
    path = store.previous(artifact) / artifact.manifest
    try:
        with open_regular(path) as file:
            return manifests.parse(file.read(manifests.MAX_SIZE + 1), str(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingArtifact(
            f"{artifact.key} has no previous generation: {path} is not there. One is kept when its "
            "content changes, until wmtp gc removes it. To make it anew: "
            + materialize_command(artifact.key)
        ) from error
    except (CorruptArtifact, OSError) as error:
        raise _damaged(artifact, f"{path}: {error}") from error


def _where(
    store: Store, artifact: Artifact, name: str, record: FileRecord, committed: Manifest | None
) -> Path:
    """Where a file of the previous generation lies; one that both have is kept once."""
    kept = store.previous(artifact) / name
    may_be_shared = committed is None or committed.files.get(name) == record
    return store.path(artifact, name) if may_be_shared and not os.path.lexists(kept) else kept


def _require(artifact: Artifact, path: Path, record: FileRecord, progress: Progress) -> None:
    try:
        size = path.lstat().st_size
        if size != record.size:  # none of it is read: a sparse file of any size costs nothing
            raise _damaged(artifact, f"{path} has {size} bytes, not {record.size} bytes")
        found = hash_file(path, progress.advance)
    except OSError as error:
        raise _damaged(artifact, f"{path} cannot be read: {error.strerror}") from error
    if found != record:
        raise _damaged(
            artifact,
            f"{path} has {found.size} bytes with SHA-256 {found.sha256}, not {record.size} bytes "
            f"with SHA-256 {record.sha256}",
        )


def _damaged(artifact: Artifact, what: str) -> CorruptArtifact:
    return CorruptArtifact(
        f"{artifact.key} was not rolled back, its previous generation is damaged: {what}. What is "
        "committed is as it was"
    )


def _from(store: Store, artifact: Artifact) -> list[Artifact]:
    """An artifact and all that is made from it."""
    found = [artifact]
    for item in store.catalogue:
        if not {one.key for one in found}.isdisjoint(item.upstream):
            found.append(item)
    return found
