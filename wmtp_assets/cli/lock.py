"""``wmtp lock``: pin the repositories that no defs.yaml pins, and record the hashes of all."""

from __future__ import annotations

from collections.abc import Iterable

import click

from wmtp_assets.cli.common import any_names, json_option, open_store, print_json, select
from wmtp_assets.hub.remote import pins_path
from wmtp_assets.operations.pin import Row, pin


@click.command("lock")
@any_names
@click.option("--update", is_flag=True, help="Move to the head of main, and print what changes.")
@json_option
def lock(names: tuple[str, ...], update: bool, as_json: bool) -> None:
    """Write wmtp.lock: the commit of each repository, and the hash of each of its files.

    NAME is an asset key or a folder name; all repositories by default. Commit the file. Exits with
    1 where a repository cannot be asked; the others are locked.
    """
    store, path = open_store(), pins_path()
    rows, is_written = pin(store, select(store, names), update=update)
    if as_json:
        print_json(store.settings, lock=str(path), repositories=rows)
    else:
        _print(rows)
        click.echo(f"{path}: {'written; commit it' if is_written else 'as before'}")
    if any("problem" in row for row in rows):
        click.get_current_context().exit(1)


def _print(rows: Iterable[Row]) -> None:
    for row in rows:
        if "problem" in row:
            click.echo(f"{row['repository']}: {row['problem']}", err=True)
            continue
        origin = f" from {row['from']}" if "from" in row else ""
        note = f" ({row['note']})" if "note" in row else ""
        click.echo(f"{row['repository']}: {row['state']}{origin} at {row['revision']}{note}")
        for what in ("changed", "added", "removed"):
            for path in row.get(what, ()):
                click.echo(f"  {what} {path}")
