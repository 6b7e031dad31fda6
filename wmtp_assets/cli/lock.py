"""``wmtp lock``: pin the repositories that no defs.yaml pins, and record the hashes of all."""

from __future__ import annotations

import click

from wmtp_assets.base.errors import SpecError, WmtpError
from wmtp_assets.base.settings import SOURCE_VARIABLE
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.cli.common import json_option, open_store, print_json, select
from wmtp_assets.cli.complete import complete_names
from wmtp_assets.hub.endpoint import open_endpoint
from wmtp_assets.hub.pins import Lock, check_unchanged, pin_of, repository_key
from wmtp_assets.hub.remote import MAIN, RemoteRepository, resolve
from wmtp_assets.storage.store import Store


@click.command("lock")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_names)
@click.option("--update", is_flag=True, help="Move to the head of main, and print what changes.")
@json_option
def lock(names: tuple[str, ...], update: bool, as_json: bool) -> None:
    """Write wmtp.lock: the commit of each repository, and the hash of each of its files.

    NAME is an asset key or a folder name; all repositories by default. Commit the file. Exits with
    1 where a repository cannot be asked; the others are locked.
    """
    store = open_store()
    if store.settings.source != "hub":
        raise SpecError(
            f"the sample's repositories are made here and not locked; set {SOURCE_VARIABLE}=hub"
        )
    locked = Lock.read()
    changes: dict[str, RemoteRepository] = {}
    report = []
    for artifact in select(store, names):
        if not artifact.is_downloaded:
            continue
        key = repository_key(artifact.spec.repository)
        before = locked.repositories.get(key)
        try:
            after = _resolve(store, artifact, locked, update)
        except WmtpError as error:
            report.append({"repository": key, "problem": str(error)})
            continue
        if after != before:
            changes[key] = after
        row = {"repository": key, "revision": after.commit, **_compare(before, after)}
        if update and artifact.spec.repository.revision:
            row["note"] = "not moved: the revision is set in its defs.yaml"
        report.append(row)
    if changes:
        locked.write(changes)
    if as_json:
        print_json({"lock": str(locked.path), "repositories": report})
    else:
        _print(report, locked, bool(changes))
    if any("problem" in row for row in report):
        click.get_current_context().exit(1)


def _resolve(store: Store, artifact: Artifact, locked: Lock, update: bool) -> RemoteRepository:
    spec = artifact.spec
    pin = pin_of(store.settings, spec, locked)
    if update:
        pin = spec.repository.revision
    with open_endpoint(store.settings, spec.repository) as endpoint:
        found = resolve(endpoint, spec, pin or MAIN, f"wmtp lock {artifact.key}")
    check_unchanged(spec.repository, locked.find(spec.repository), found, str(locked.path))
    return found


def _compare(before: RemoteRepository | None, after: RemoteRepository) -> dict[str, object]:
    """What locking changes."""
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


def _print(report: list[dict[str, object]], locked: Lock, is_written: bool) -> None:
    for row in report:
        if "problem" in row:
            click.echo(f"{row['repository']}: {row['problem']}", err=True)
            continue
        origin = f" from {row['from']}" if "from" in row else ""
        note = f" ({row['note']})" if "note" in row else ""
        click.echo(f"{row['repository']}: {row['state']}{origin} at {row['revision']}{note}")
        for what in ("changed", "added", "removed"):
            paths = row.get(what)
            for path in paths if isinstance(paths, list) else []:
                click.echo(f"  {what} {path}")
    click.echo(f"{locked.path}: {'written; commit it' if is_written else 'as before'}")
