"""Everything that ``wmtp doctor`` looks at, in its order: machine, hub, storage root, Dagster.

The token is used and never shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wmtp_assets.base.errors import DownloadError, LockHeld, SpecError, StoreError, WmtpError
from wmtp_assets.base.progress import human_bytes
from wmtp_assets.base.settings import ROOT_VARIABLE, TRUST_VARIABLE, read_settings
from wmtp_assets.catalogue.artifact import TOP_FOLDERS
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, Repository
from wmtp_assets.hub.download import known_files
from wmtp_assets.hub.endpoint import OFFICIAL, Endpoint, open_endpoint
from wmtp_assets.hub.remote import read_pins
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.doctor.machine import Condition, instance, machine, server
from wmtp_assets.operations.doctor.mount_options import weaknesses
from wmtp_assets.operations.gc import What, collect
from wmtp_assets.operations.plan import plan_raw, space_of
from wmtp_assets.rules.apply import is_committed
from wmtp_assets.rules.findings import stated
from wmtp_assets.storage.exchange import is_atomic
from wmtp_assets.storage.mounts import mount_of
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer.places import free_space

TOKENS_PAGE = "https://huggingface.co/settings/tokens"

SAMPLE = 1_700_000_000
"""Bytes of the whole sample with its hub, rounded up: the table in docs/graph.md, and 0.6 GB."""

_LEFTOVERS: tuple[tuple[tuple[What, ...], str, str], ...] = (
    (("staging", "temporary"), "of crashed runs", "wmtp gc"),
    (("trash",), "that is removed, and was open or cut off then", "wmtp gc"),
    (
        ("unfinished",),
        "that an interrupted run resumes",
        "materialize again; if you never will: wmtp gc --unfinished",
    ),
)
"""Classes of garbage, whose it is, and what to do."""


def examine() -> Iterator[Condition]:
    """Look at one thing after the other; where a setting or spec is malformed, no further."""
    yield from machine()
    try:
        store = Store(read_settings(), load_catalogue())
    except SpecError as error:
        yield Condition("settings", "error", str(error), "correct the setting or the file it names")
        return
    yield from hub(store)
    yield from storage(store)
    yield instance(store.settings)
    yield server()


def hub(store: Store) -> Iterator[Condition]:
    """The endpoint, and where the source is the hub also the token."""
    if store.settings.source == "sample":
        yield Condition("endpoint", "ok", "the sample: no hub is asked, and no token is needed")
        return
    from wmtp_assets.hub.client import is_offline_mode

    specs = store.catalogue.specs
    repositories = [s.repository for s in specs if isinstance(s, ModelSpec | DatasetSpec)]
    try:
        with open_endpoint(store.settings, repositories[0]) as endpoint:
            url, is_official = endpoint.url, endpoint.url == OFFICIAL
            if is_official or endpoint.is_trusted:
                mirror = "" if is_official else ", a mirror that may be sent the token"
                yield Condition("endpoint", "ok", f"{url}{mirror}")
            else:
                yield Condition(
                    "endpoint",
                    "warning",
                    f"{url}, a mirror that is sent no token: gated repositories are refused there",
                    f"if you trust it: export {TRUST_VARIABLE}={url}",
                )
            if is_offline_mode():
                yield Condition(
                    "token",
                    "warning",
                    "HF_HUB_OFFLINE is set: nothing is asked or downloaded",
                    "to download: unset HF_HUB_OFFLINE",
                )
            else:
                yield _token(endpoint, [item for item in repositories if item.gated])
    except SpecError as error:
        yield Condition("endpoint", "error", str(error), "unset HF_ENDPOINT, or correct it")


def _token(endpoint: Endpoint, gated: list[Repository]) -> Condition:
    try:
        token = endpoint.token()
    except DownloadError as error:
        return Condition("token", "error", str(error), f"set it anew, from {TOKENS_PAGE}")
    if not token:
        pages = ", ".join(repository.page for repository in gated)
        return Condition(
            "token",
            "warning",
            f"no token is sent: {endpoint.why_no_token()}; gated: {pages}",
            f"accept the licence there, and set HF_TOKEN to a token from {TOKENS_PAGE}",
        )
    origin = f"a token, from {endpoint.token_name}"
    answer, status = _ask(endpoint, token)
    if status in (401, 403):
        return Condition(
            "token",
            "error",
            f"{endpoint.url} refuses {origin} ({status}): it is wrong or expired",
            f"make a new one: {TOKENS_PAGE}",
        )
    if answer is None:
        return Condition(
            "token",
            "warning",
            f"{origin}; {endpoint.url} could not be asked what it may do",
            "check the network and HTTPS_PROXY",
        )
    role = stated(answer, "auth", "accessToken", "role")
    if role == "write":
        return Condition(
            "token",
            "warning",
            f"{origin}, may write; reading is all that is needed",
            f"make one that may only read: {TOKENS_PAGE}",
        )
    scope = role if role in ("read", "fineGrained") else "unknown"
    return Condition("token", "ok", f"{origin}, scope {scope}")


def _ask(endpoint: Endpoint, token: str) -> tuple[Any, int]:
    """What the hub says about the token, None if nothing, and the status of its answer, or 0."""
    from wmtp_assets.hub.client import NO_ANSWER, HfApi, HfHubHTTPError, HTTPError, status_of

    try:
        return HfApi(endpoint=endpoint.url).whoami(token=token), 200
    except HfHubHTTPError as error:
        return None, status_of(error)
    except (HTTPError, DownloadError, OSError, *NO_ANSWER):
        return None, 0


def storage(store: Store) -> Iterator[Condition]:
    """Everything about the root."""
    try:
        store.check_source()
    except StoreError as error:
        yield Condition("root", "error", str(error), f"set or unset {ROOT_VARIABLE}, WMTP_SOURCE")
        return
    writable = filesystem(store)
    yield writable
    yield mount_options(store)
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
    folders = (store.internal, *(store.root / top for top in TOP_FOLDERS))
    devices = {folder: folder.stat().st_dev for folder in folders if folder.exists()}
    other = [folder for folder, device in devices.items() if device != there.stat().st_dev]
    if other:
        return Condition(
            "root",
            "error",
            f"{other[0]} is on another filesystem than {there}, so that no commit is atomic",
            "keep the storage root on one filesystem",
        )
    new = "" if store.root.exists() else ", which is not there yet"
    return Condition("root", "ok", f"{store.root}{new}, source {store.settings.source}")


def mount_options(store: Store) -> Condition:
    """What the root lies on, and what the options of that mount mean."""
    mount = mount_of(_nearest(store.root))
    if mount is None:
        return Condition("mount", "ok", "this system does not say what is mounted where")
    says = f"{mount.kind}, mounted at {mount.point}"
    if not mount.is_network:
        return Condition("mount", "ok", f"{says}: of this host alone")
    weak = weaknesses(mount)
    if not weak:
        return Condition("mount", "ok", f"{says} from {mount.origin}; no option is known to harm")
    return Condition(
        "mount",
        "warning",
        f"{says} from {mount.origin}: " + "; ".join(it.sentence for it in weak),
        "; ".join(dict.fromkeys(it.remedy for it in weak)),
    )


def atomic(store: Store) -> Condition:
    """Whether a commit is one step there."""
    there = _nearest(store.internal)
    try:
        if is_atomic(there):
            return Condition("exchange", "ok", f"two folders are exchanged in one step in {there}")
    except OSError as error:
        return Condition("exchange", "error", f"{there}: {error}", "repair the filesystem")
    return Condition(
        "exchange",
        "warning",
        f"the filesystem of {there} cannot exchange folders: a commit takes three renames",
        "readers may see no folder for a moment; prefer ext4, xfs, btrfs or APFS",
    )


def disk(store: Store) -> Condition:
    """Free bytes, and what all that is required would need, as far as no hub need be asked."""
    free = free_space(store)
    try:
        needed = _needed(store)
    except (WmtpError, OSError) as error:
        return Condition("disk", "warning", f"{human_bytes(free)} free; {error}", "wmtp plan")
    says = f"{human_bytes(free)} free" + (
        "; what is needed only the hub knows: wmtp plan asks it"
        if needed is None
        else f", {human_bytes(needed)} more needed"
    )
    if needed is not None and needed > free:
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
    for item in raw:
        if not known_files(store, item, read_pins(store.settings, item.spec.repository)):
            return None
    return space_of(store, required, [plan_raw(store, item) for item in raw]).needed


def locks(store: Store) -> list[Condition]:
    """Locks that another process holds."""
    found = []
    for path in sorted((store.internal / "locks").glob("*.lock")):
        try:
            with store.lock(path.stem.replace("--", "/"), wait=False):
                pass
        except LockHeld as error:
            remedy = "wait for it; if it hangs, end that process: the lock ends with it"
            found.append(Condition("locks", "warning", str(error), remedy))
        except (StoreError, OSError) as error:
            says = f"{path.parent}: {error}"
            found.append(Condition("locks", "warning", says, "fix its permissions"))
            break
    return found or [Condition("locks", "ok", "no artifact is locked")]


def leftovers(store: Store) -> Iterator[Condition]:
    """What crashed and interrupted runs left."""
    try:
        every: list[What] = []
        for classes, _, _ in _LEFTOVERS:
            every += classes
        found = [item for item in collect(store, every, dry_run=True) if not item.kept]
    except OSError as error:
        yield Condition("leftovers", "warning", str(error), "fix its permissions")
        return
    for classes, whose, remedy in _LEFTOVERS:
        items = [item for item in found if item.what in classes]
        if items:
            size = human_bytes(sum(item.size for item in items))
            names = ", ".join(item.name for item in items[:5])
            yield Condition("leftovers", "warning", f"{size} {whose}: {names}", remedy)
    if not found:
        yield Condition("leftovers", "ok", "nothing was left by crashed runs")
