"""``wmtp init``: the folders of the storage contract, before anything is made."""

from __future__ import annotations

import click

from wmtp_assets.cli.common import Document, any_names, over_store, print_line, select
from wmtp_assets.operations.init import init
from wmtp_assets.storage.store import Store


@click.command("init")
@any_names
@click.option("--dry-run", is_flag=True, help="Say what would be made; make nothing.")
@over_store
def init_command(store: Store, names: tuple[str, ...], dry_run: bool) -> Document:
    """Make the empty folders that artifacts will lie in.

    NAME is an asset key or a folder name; by default, all that is not optional. What is there
    stays as it is. Nothing needs these folders: whatever is made makes its own.

    Exits with 0 when they are there, 1 when one cannot be made.
    """
    wanted = [item for item in select(store, names) if names or not item.optional]
    folders = list(init(store, wanted, dry_run=dry_run))
    new = [folder for folder in folders if folder.is_new]
    for folder in new:
        print_line(f"{folder.path}/: {'to be made' if dry_run else 'made'}")
    print_line(
        f"{store.root}: {len(new)} folders {'would be made' if dry_run else 'made'}, "
        f"{len(folders) - len(new)} were there"
    )
    return {"dry_run": dry_run, "folders": folders}
