"""``wmtp clean``: a fresh start."""

from __future__ import annotations

import click

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.cli.common import (
    Document,
    any_names,
    over_store,
    print_line,
    print_paragraph,
    select,
)
from wmtp_assets.operations.clean import clean
from wmtp_assets.storage.store import Store


@click.command("clean", short_help="Remove artifacts that can be made again, for a fresh start.")
@any_names
@click.option("--dry-run", is_flag=True, help="List what would be removed; remove nothing.")
@click.option("--yes", is_flag=True, help="Remove it. Without this nothing is ever removed.")
@over_store
def clean_command(store: Store, names: tuple[str, ...], dry_run: bool, yes: bool) -> Document:
    """Remove artifacts, for a fresh start: only what the graph can make again.

    NAME is an asset key or a folder name; by default, everything. Listed as kept: the release,
    artifacts in which people recorded something or files were changed, downloads in progress, value
    heads of training, files that no manifest lists and the folders models/ and datasets/ of
    version 1. Dagster's history and the sample hub's files stay too.

    Exits with 0, with 1 when an artifact stays about which something is to be done, with 64 without
    --yes.
    """
    if not (dry_run or yes):
        raise click.UsageError("nothing was removed: see wmtp clean --dry-run, then give --yes")
    items = []
    for item in clean(store, select(store, names), dry_run=dry_run):
        items.append(item)
        state = f"kept: {item.kept}" if item.kept else "to be removed" if dry_run else "removed"
        count = f"{item.files} file{'s' * (item.files != 1)}"
        print_paragraph(f"{item.name}, {count}, {human_bytes(item.size)}: {state}", hanging=2)
    gone = [item for item in items if not item.kept]
    count = f"{len(gone)} artifact{'s' * (len(gone) != 1)}"
    print_line(
        f"{store.root}: {count} {'would be removed' if dry_run else 'removed'}, "
        f"{human_bytes(sum(item.size for item in gone))}"
        + (f"; {len(items) - len(gone)} kept" if items != gone else "")
    )
    return {
        "exit_code": int(any(item.is_left for item in items)),
        "dry_run": dry_run,
        "items": items,
    }
