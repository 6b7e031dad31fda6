"""What a fresh start removes: what the graph can make again, and nothing else.

That is what manifests list, and what lies under ``.wmtp/`` for the artifact. Kept, and said, is the
rest: artifacts in which people recorded something, the release, summaries of earlier days, files
that were changed since they were read, bytes of a download that is not committed, what training
wrote, files of nobody, and the folders of version 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.errors import LockHeld
from wmtp_assets.catalogue.artifact import FIRST_VERSION, TOP_FOLDERS, Artifact
from wmtp_assets.operations.status import files_status
from wmtp_assets.storage.files import has_content, names_below
from wmtp_assets.storage.mounts import resolved
from wmtp_assets.storage.scratch import at_rest
from wmtp_assets.storage.store import Store

_INTERNAL = ("staging", "previous", "scratch", "drawn")
"""Folders below ``.wmtp/`` with a folder per asset, of which nothing is wanted again. Quarantine
and results of rules, the failures among them, stay."""

_HARMLESS = ("", "never read", "missing")
"""What may be the matter with a file that is removed."""


@dataclass(frozen=True)
class Item:
    """An artifact, or something that stays.

    Attributes:
        name: asset key, or path below the root.
        files: how many there are.
        size: their bytes.
        kept: why it was not removed; empty: it was, or would be.
        is_left: it was asked for, and stays until something is done about it.
    """

    name: str
    files: int
    size: int
    kept: str = ""
    is_left: bool = False


def clean(store: Store, artifacts: Sequence[Artifact], *, dry_run: bool) -> Iterator[Item]:
    """Remove artifacts, each under its locks, those that are made from others first.

    An artifact's manifest goes last: what is cut off in between can be run again.

    Args:
        dry_run: remove nothing, and take no locks.

    Raises:
        StoreError: if the disk refuses, or as :meth:`Store.require_internals`.
    """
    store.require_internals()
    seen: set[Path] = set()
    unfinished = {
        item.key
        for item in artifacts
        if item.is_downloaded and not os.path.lexists(store.manifest_path(item))
    }
    for artifact in reversed(artifacts):
        files, folders = _removable(store, artifact)
        reason, is_left = _reason_to_keep(store, artifact, files)
        if reason:
            yield Item(artifact.key, len(files), sum(map(_size, files)), reason, is_left)
            seen.update(files)
            continue
        if not (files or folders):
            continue
        kept = ""
        try:
            with ExitStack() as locks:
                if not dry_run:
                    locks.enter_context(store.lock(artifact.key, wait=False))
                    locks.enter_context(at_rest(store, artifact.key))
                    store.recover(artifact)
                    locks.enter_context(store.lock(artifact.unit))
                    files, folders = _removable(store, artifact)
                every = [*files, *(path for folder in folders for path in _below(folder))]
                size = sum(map(_size, every))
                if not dry_run:
                    store.remove(artifact, files, folders)
        except LockHeld as error:
            every, size, kept = files, sum(map(_size, files)), str(error)
        yield Item(artifact.key, len(every), size, kept, is_left=bool(kept))
        seen.update(files)
    yield from _kept(store, artifacts, seen, unfinished)


def _removable(store: Store, artifact: Artifact) -> tuple[list[Path], list[Path]]:
    """The files that the manifest lists, with it as the last, and folders below ``.wmtp/``.

    What arrived of a download, in a folder there, is kept.
    """
    folders = [store.internal / name / artifact.key for name in _INTERNAL]
    if artifact.is_downloaded:
        folders.remove(store.scratch(artifact))
    folders = [folder for folder in folders if folder.is_dir()]
    manifest = store.find_manifest(artifact)
    if manifest is None:  # of a damaged one, what is kept below .wmtp/ may be the last good copy
        return [], [] if os.path.lexists(store.manifest_path(artifact)) else folders
    copies = [(store.root / name, manifest.files[name]) for name in artifact.copied]
    files = [
        *(path for path, record in copies if has_content(path, record)),
        *(store.path(artifact, name) for name in manifest.files),
        store.manifest_path(artifact),
    ]
    return [path for path in files if os.path.lexists(path)], folders


def _reason_to_keep(store: Store, artifact: Artifact, files: Sequence[Path]) -> tuple[str, bool]:
    """Why an artifact stays as it is, and whether something is to be done about it."""
    manifest = store.find_manifest(artifact)
    if manifest is None:
        is_damaged = os.path.lexists(store.manifest_path(artifact))
        again = f"its manifest cannot be read; see: wmtp verify {artifact.key}"
        return (again, True) if is_damaged else ("", False)
    if not all(_is_at_home(store, path) for path in files):
        return "a folder that it lies in is a link; remove it where the link leads", True
    for row in files_status(store, artifact):
        if row.problem not in _HARMLESS:
            return f"{row.file}: {row.problem}; see: wmtp verify {artifact.key}", True
    if artifact.kind == "release":
        return "it says what was released; remove it by hand to forget that", False
    for key in artifact.recorded:
        value = manifest.document.get(key)
        if any(value.values()) if isinstance(value, dict) else value:
            return f"{key.replace('_', ' ')} recorded in it", False
    if len([name for name in manifest.files if name.endswith("_summary.json")]) > 1:
        return "summaries of earlier days, which cannot be made again", False
    return "", False


def _is_at_home(store: Store, path: Path) -> bool:
    """Whether no folder that ``path`` lies in is a link: version 1 may be behind it."""
    return resolved(path.parent) == resolved(store.root) / path.parent.relative_to(store.root)


def _kept(
    store: Store, artifacts: Sequence[Artifact], seen: set[Path], unfinished: set[str]
) -> Iterator[Item]:
    """What stays of the selected artifacts; with all of them selected, also what is of none."""
    chosen = {artifact.key for artifact in artifacts}
    is_all = len(chosen) == len(list(store.catalogue))
    for top in TOP_FOLDERS:
        for path in sorted(_below(store.root / top)):
            name = path.relative_to(store.root).as_posix()
            owner = _owner(store, name)
            if path not in seen and (is_all if owner is None else owner.key in chosen):
                yield Item(name, 1, _size(path), _why(store, owner, path, unfinished))
    for artifact in artifacts:
        left = [*_below(store.scratch(artifact))] if artifact.is_downloaded else []
        if left:
            name = store.scratch(artifact).relative_to(store.root).as_posix()
            yield Item(name, len(left), sum(map(_size, left)), "a download in progress")
    for name in FIRST_VERSION if is_all else ():
        if os.path.lexists(store.root / name):
            paths = [*_below(store.root / name)]
            yield Item(name, len(paths), sum(map(_size, paths)), "an original of version 1")


def _owner(store: Store, name: str) -> Artifact | None:
    """The artifact that a path below the root belongs to."""
    return next(
        (
            item
            for item in store.catalogue
            if name.startswith(f"{item.base}/")
            and item.is_owner(name.removeprefix(f"{item.base}/"))
        ),
        None,
    )


def _why(store: Store, owner: Artifact | None, path: Path, unfinished: set[str]) -> str:
    """Why a file below the artifacts' folders stays."""
    if owner is None:
        return "a file of no artifact"
    if owner.is_guest(path.relative_to(store.folder(owner)).as_posix()):
        return "written by training or a tool"
    if owner.key in unfinished:
        return "a download in progress"
    return f"in no readable manifest of {owner.key}; remove it by hand if you do not want it"


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_size
    return 0


def _below(folder: Path) -> Iterator[Path]:
    """Every file below a folder; what cannot be read is left alone."""
    return names_below(folder, lambda error: None)
