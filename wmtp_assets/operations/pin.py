"""Pinning: the commit of a repository, and the hash of each of its files, as the hub has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wmtp_assets.base.errors import SpecError, WmtpError
from wmtp_assets.base.settings import SOURCE_VARIABLE
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.hub.endpoint import open_endpoint
from wmtp_assets.hub.remote import (
    MAIN,
    Pins,
    RemoteRepository,
    check_unchanged,
    pin_of,
    repository_key,
    resolve,
)
from wmtp_assets.storage.store import Store

Row = dict[str, Any]
"""What pinning a repository changes: ``repository`` and either ``problem``, or ``revision``,
``state`` and what differs."""


def pin(
    store: Store, artifacts: Iterable[Artifact], *, update: bool = False
) -> tuple[list[Row], bool]:
    """Ask the hub for the repositories of raw artifacts, hash the folders, and write the pins that
    differ.

    Args:
        update: move to the head of main.

    Returns:
        A row for each repository, and whether the pins were written.

    Raises:
        SpecError: for the sample, unless folders are among them, or if the pins are malformed.
    """
    raw = [artifact for artifact in artifacts if artifact.is_downloaded]
    if store.settings.source != "hub":
        raw = [artifact for artifact in raw if artifact.spec.repository.is_folder]
    if store.settings.source != "hub" and not raw:
        raise SpecError(
            f"the sample's repositories are made here and not locked; set {SOURCE_VARIABLE}=hub"
        )
    pins = Pins.read()
    changes: dict[str, RemoteRepository] = {}
    rows: list[Row] = []
    for artifact in raw:
        spec, repository = artifact.spec, artifact.spec.repository
        key, before = repository_key(repository), pins.find(repository)
        try:
            revision = repository.revision if update else pin_of(store.settings, spec, pins)
            with open_endpoint(store.settings, repository) as endpoint:
                after = resolve(endpoint, spec, revision or MAIN, f"wmtp lock {artifact.key}")
            check_unchanged(repository, before, after, str(pins.path))
        except WmtpError as error:
            rows.append({"repository": key, "problem": str(error)})
            continue
        if after != before:
            changes[key] = after
        rows.append({"repository": key, "revision": after.commit, **_compare(before, after)})
        if update and repository.revision:
            rows[-1]["note"] = "not moved: the revision is set in its defs.yaml"
    if changes:
        pins.write(changes)
    return rows, bool(changes)


def _compare(before: RemoteRepository | None, after: RemoteRepository) -> Row:
    """What pinning changes."""
    if before == after:
        return {"state": "as before"}
    if before is None:
        return {"state": "locked", "files": len(after.files)}
    old = {file.path: file.key for file in before.files}
    new = {file.path: file.key for file in after.files}
    return {
        "state": "changed",
        "from": before.commit,
        "changed": sorted(path for path in old.keys() & new.keys() if old[path] != new[path]),
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
    }
