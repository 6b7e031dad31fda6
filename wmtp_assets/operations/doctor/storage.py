"""The storage root: its filesystem, its disk, who holds locks, what crashes left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from wmtp_assets.base.errors import LockHeld, StoreError, WmtpError
from wmtp_assets.base.progress import human_bytes
from wmtp_assets.base.settings import ROOT_VARIABLE
from wmtp_assets.catalogue.artifact import TOP_FOLDERS
from wmtp_assets.hub.download import known_files
from wmtp_assets.hub.remote import read_pins
from wmtp_assets.operations.doctor.condition import Condition
from wmtp_assets.operations.gc import collect
from wmtp_assets.operations.plan import plan_raw, space_of
from wmtp_assets.rules.apply import is_committed
from wmtp_assets.storage.exchange import is_atomic
from wmtp_assets.storage.store import Store

SAMPLE = 1_700_000_000
"""Bytes of the whole sample with its hub, rounded up: the table in docs/graph.md, and 0.6 GB."""

_LEFTOVERS = (
    (("staging", "temporary"), "of crashed runs", "wmtp gc"),
    (
        ("unfinished",),
        "that an interrupted run goes on with",
        "materialize again; if you never will: wmtp gc --unfinished",
    ),
)
"""Classes of garbage, whose it is, and what to do."""


def storage(store: Store) -> Iterator[Condition]:
    """Everything about the root."""
    try:
        store.check_source()
    except StoreError as error:
        yield Condition("root", "error", str(error), f"set or unset {ROOT_VARIABLE}, WMTP_SOURCE")
        return
    writable = filesystem(store)
    yield writable
    if writable.state != "error":
        yield atomic(store)
    yield disk(store)
    yield from locks(store)
    yield from leftovers(store)


def _nearest(path: Path) -> Path:
    """``path``, or the first folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def filesystem(store: Store) -> Condition:
    """Whether the root can be written, and is one filesystem."""
    there = _nearest(store.root)
    if not there.is_dir():
        return Condition(
            "root", "error", f"{there} is not a folder", f"set {ROOT_VARIABLE} to a folder"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        return Condition(
            "root",
            "error",
            f"{there} cannot be written: wmtp status works, materializing does not",
            f"chown or chmod it, or set {ROOT_VARIABLE}",
        )
    device = there.stat().st_dev
    folders = [store.internal, *(store.root / top for top in TOP_FOLDERS)]
    other = [folder for folder in folders if folder.exists() and folder.stat().st_dev != device]
    if other:
        return Condition(
            "root",
            "error",
            f"{other[0]} is on another filesystem than {there}, so that no commit is atomic",
            "keep the storage root on one filesystem",
        )
    new = "" if store.root.exists() else ", which is not there yet"
    return Condition("root", "ok", f"{store.root}{new}, source {store.settings.source}")


def atomic(store: Store) -> Condition:
    """Whether a commit is one step there."""
    there = _nearest(store.internal)
    try:
        if is_atomic(there):
            return Condition("exchange", "ok", f"two folders are exchanged in one step in {there}")
    except OSError as error:
        return Condition("exchange", "error", f"{there}: {error}", "mend the filesystem")
    return Condition(
        "exchange",
        "warning",
        f"the filesystem of {there} cannot exchange folders: a commit takes three renames",
        "readers may see no folder for a moment; prefer ext4, xfs, btrfs or APFS",
    )


def disk(store: Store) -> Condition:
    """Free bytes, and what all that is required would need, as far as no hub need be asked."""
    free = shutil.disk_usage(_nearest(store.root)).free
    try:
        needed = _needed(store)
    except (WmtpError, OSError) as error:
        return Condition("disk", "warning", f"{human_bytes(free)} free; {error}", "wmtp plan")
    if needed is None:
        return Condition(
            "disk",
            "ok",
            f"{human_bytes(free)} free; what is needed only the hub knows: wmtp plan asks it",
        )
    says = f"{human_bytes(free)} free, {human_bytes(needed)} more needed"
    if needed > free:
        return Condition(
            "disk",
            "error",
            says,
            f"free some space, or set {ROOT_VARIABLE} to a larger disk; wmtp plan has details",
        )
    return Condition("disk", "ok", says)


def _needed(store: Store) -> int | None:
    """Bytes that what is required takes more than now; None: not known here."""
    required = [artifact for artifact in store.catalogue if not artifact.optional]
    if store.settings.source == "sample":
        return 0 if all(is_committed(store, item) for item in required) else SAMPLE
    raw = [artifact for artifact in required if artifact.is_downloaded]
    pins = read_pins(store.settings)
    if not all(known_files(store, item, pins) for item in raw):
        return None
    return space_of(store, required, [plan_raw(store, item) for item in raw]).needed


def locks(store: Store) -> Iterator[Condition]:
    """Locks that another process holds."""
    folder = store.internal / "locks"
    names = [path.stem.replace("--", "/") for path in sorted(folder.glob("*.lock"))]
    held = 0
    for name in names:
        try:
            with store.lock(name, wait=False):
                pass
        except LockHeld as error:
            held += 1
            yield Condition(
                "locks",
                "warning",
                str(error),
                "wait for it; if it hangs, end that process: the lock ends with it",
            )
        except (StoreError, OSError) as error:
            held += 1
            yield Condition("locks", "warning", f"{folder}: {error}", "mend its permissions")
            break
    if not held:
        yield Condition("locks", "ok", "no artifact is locked")


def leftovers(store: Store) -> Iterator[Condition]:
    """What crashed and interrupted runs left."""
    try:
        found = [
            item
            for item in collect(store, ["staging", "temporary", "unfinished"], dry_run=True)
            if not item.kept
        ]
    except OSError as error:
        yield Condition("leftovers", "warning", str(error), "mend its permissions")
        return
    for classes, whose, remedy in _LEFTOVERS:
        items = [item for item in found if item.what in classes]
        if items:
            size = human_bytes(sum(item.size for item in items))
            names = ", ".join(item.name for item in items[:5])
            yield Condition("leftovers", "warning", f"{size} {whose}: {names}", remedy)
    if not found:
        yield Condition("leftovers", "ok", "nothing was left by crashed runs")
