"""Clearing what nobody needs any more under ``<root>/.wmtp/``.

The generation before is removed only when every byte of the committed one was just read and is
right: it may be the last copy that is.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wmtp_assets.base.errors import LockHeld
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.operations.verify import findings_of, verify
from wmtp_assets.rules.apply import is_committed
from wmtp_assets.storage.files import names_below
from wmtp_assets.storage.mounts import clock
from wmtp_assets.storage.scratch import at_rest
from wmtp_assets.storage.store import Store

What = Literal["staging", "previous", "unfinished", "quarantine", "temporary", "trash"]

ALWAYS: tuple[What, ...] = ("staging", "previous", "temporary", "trash")
"""``unfinished`` is what an interrupted download or conversion resumes; ``quarantine`` is kept
for whoever wants to know what happened to a disk."""

_FOLDERS: dict[What, str] = {
    "staging": "staging",
    "previous": "previous",
    "unfinished": "scratch",
    "quarantine": "quarantine",
}
STALE = 3600
"""Seconds after which nobody is still writing a small file, on this host or another."""

IN_USE = "a process of this host has a file in it open, or it may not be removed"

_TEMPORARY = re.compile(r"\..+\.\d+\.[0-9a-f]{8}")
"""Names that :func:`wmtp_assets.storage.files.replace_file` gives."""


@dataclass(frozen=True)
class Garbage:
    """One folder or file that may be removed.

    Attributes:
        what: its class.
        name: asset key, or path below ``.wmtp/`` of a file.
        size: bytes that removing it frees: of files that have no other name.
        kept: why it was not removed; empty: it was, or would be.
    """

    what: What
    name: str
    path: Path
    size: int
    kept: str = ""


def collect(
    store: Store, what: Sequence[What] = ALWAYS, say: Say = silent, *, dry_run: bool = False
) -> Iterator[Garbage]:
    """Remove garbage of the given classes under the artifacts' locks, and say each.

    Args:
        dry_run: remove nothing, and read nothing whole.

    Raises:
        StoreError: as :meth:`Store.require_internals`.
    """
    store.require_internals()
    for item in what:
        if item == "temporary":
            yield from _temporary(store, dry_run)
            continue
        if item == "trash":
            yield from _trash(store, dry_run)
            continue
        folder = store.internal / _FOLDERS[item]
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            try:
                with nullcontext() if dry_run else store.lock(path.name, wait=False):
                    if not path.is_dir():  # a run ended just now, or it is somebody's file
                        continue
                    if item == "staging" and not dry_run and path.name in store.catalogue:
                        store.keep_replaced(store.catalogue[path.name])
                    size = _size(path)
                    kept = _why_kept(store, item, path.name, say, dry_run)
                    if not kept and not dry_run:
                        with at_rest(store, path.name) if item == "unfinished" else nullcontext():
                            store.discard(path)
            except LockHeld as error:
                size, kept = 0, str(error)
            yield Garbage(item, path.name, path, size, kept)


def _why_kept(store: Store, what: What, key: str, say: Say, dry_run: bool) -> str:
    """Why what belongs to an asset must stay; empty: it need not."""
    if what != "previous":
        return ""
    if key not in store.catalogue:
        return "no defs.yaml declares this asset: remove it by hand if you do not want it"
    artifact = store.catalogue[key]
    if not is_committed(store, artifact):
        return "it is the only generation there is"
    damage = [] if dry_run else findings_of(verify(store, [artifact], say=say, only=["sha256"]))
    return f"the committed generation is damaged: {damage[0].remedy}" if damage else ""


def _temporary(store: Store, dry_run: bool) -> Iterator[Garbage]:
    """Small files whose writer was killed before it gave them their name."""
    now: float | None = None
    for folder in ("locks", "verified", "drawn", "published", "amended", "."):
        below = store.internal / folder
        paths = below.iterdir() if folder == "." and below.is_dir() else names_below(below, _pass)
        for path in sorted(paths):
            is_temporary = folder == "amended" or _TEMPORARY.fullmatch(path.name)
            with suppress(FileNotFoundError):
                status = path.lstat()
                if not is_temporary:
                    continue
                now = now or _now(store)
                if now - status.st_mtime >= STALE:
                    name = path.relative_to(store.internal).as_posix()
                    yield Garbage("temporary", name, path, status.st_size)
                    if not dry_run:
                        path.unlink(missing_ok=True)


def _now(store: Store) -> float:
    """Seconds since 1970 by the clock that sets the times of files; where nothing can be written,
    by that of this host."""
    try:
        return clock(store.internal)
    except OSError:
        return time.time()


def _trash(store: Store, dry_run: bool) -> Iterator[Garbage]:
    """Folders that were removed and hold files that somebody had open."""
    folder = store.internal / "trash"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        size = _size(path)
        if not dry_run:
            path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)
        kept = "" if dry_run or not path.exists() else IN_USE
        yield Garbage("trash", path.name, path, size, kept)


def _pass(error: OSError) -> None:
    """A folder that cannot be read is left alone."""


def _size(folder: Path) -> int:
    """Bytes below a folder that are freed with it, as far as nobody removes them first."""
    size = 0
    for path in names_below(folder, _pass):
        with suppress(FileNotFoundError):
            status = path.lstat()
            size += status.st_size * (status.st_nlink == 1)
    return size
