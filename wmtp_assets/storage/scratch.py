"""The parts that a builder keeps in an artifact's scratch folder until it is committed.

Several processes, on several hosts, may make parts at the same time: each part has a lock of its
own, named ``<asset key>/<part>``, which is held while it is made. Whoever removes parts holds the
locks of all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from wmtp_assets.base.errors import LockHeld
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.base.strict_json import read_small
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.storage.store import Store

_BETWEEN = "--"
"""Stands in the name of a lock's file for the slash of its own name."""


@contextmanager
def at_rest(store: Store, key: str) -> Iterator[None]:
    """Inside, no process makes a part of the artifact.

    Raises:
        LockHeld: if one does now.
        StoreError, OSError: as :meth:`Store.lock`.
    """
    names = [path.stem for path in (store.internal / "locks").glob(f"{key}{_BETWEEN}*.lock")]
    with ExitStack() as locks:
        for name in sorted(names):
            locks.enter_context(store.lock(name.replace(_BETWEEN, "/", 1), wait=False))
        yield


def remove_scratch(store: Store, artifact: Artifact, say: Say = silent) -> None:
    """Remove what is kept of an artifact's parts, unless another process makes some: it, or the
    next commit, removes them then."""
    folder = store.scratch(artifact)
    if not folder.exists():
        return
    try:
        with at_rest(store, artifact.key):
            store.discard(folder)
    except LockHeld as error:
        say(f"{artifact.key}: parts are kept, another process makes some: {error}")


def holder_of(store: Store, lock: str) -> str:
    """The host whose process took a lock last, and did not give it back; empty: none did.

    A process that was killed could not say so: its lock is free, and it is still named.
    """
    path = store.internal / "locks" / f"{lock.replace('/', _BETWEEN)}.json"
    try:
        return str(json.loads(read_small(path))["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
