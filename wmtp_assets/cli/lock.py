"""``wmtp lock``: pin the repositories that no defs.yaml pins, and record the hashes of all."""

from __future__ import annotations

import click

from wmtp_assets.cli.common import Document, any_names, over_store, print_line, select
from wmtp_assets.hub.remote import pins_path
from wmtp_assets.operations.pin import pin
from wmtp_assets.storage.store import Store


@click.command("lock", short_help="Write wmtp.lock: the commit of each repository, and its hashes.")
@any_names
@click.option("--update", is_flag=True, help="Move to the head of main, and print what changes.")
@over_store
def lock(store: Store, names: tuple[str, ...], update: bool) -> Document:
    """Write wmtp.lock: the commit of each repository, and the hash of each of its files.

    NAME is an asset key or a folder name; all repositories by default. Commit the file. Exits with
    1 where a repository cannot be asked; the others are locked.
    """
    rows, is_written = pin(store, select(store, names), update=update)
    for row in rows:
        if "problem" in row:
            print_line(f"{row['repository']}: {row['problem']}", on_errors=True)
            continue
        origin = f" from {row['from']}" if "from" in row else ""
        note = f" ({row['note']})" if "note" in row else ""
        print_line(f"{row['repository']}: {row['state']}{origin} at {row['revision']}{note}")
        for what in ("changed", "added", "removed"):
            for path in row.get(what, ()):
                print_line(f"  {what} {path}")
    print_line(f"{pins_path()}: {'written; commit it' if is_written else 'as before'}")
    return {
        "exit_code": int(any("problem" in row for row in rows)),
        "lock": pins_path(),
        "repositories": rows,
    }
