"""``wmtp gc``: clear staging folders and old generations."""

from __future__ import annotations

import click

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.cli.common import Document, over_store, print_line, print_paragraph, progress
from wmtp_assets.operations.gc import ALWAYS, What, collect
from wmtp_assets.storage.store import Store


@click.command(short_help="Remove what crashed runs left, and generations before the last.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed; remove nothing.")
@click.option("--unfinished", is_flag=True, help="Also what interrupted work would resume.")
@click.option("--quarantine", is_flag=True, help="Also damaged files that a repair replaced.")
@over_store
def gc(store: Store, dry_run: bool, unfinished: bool, quarantine: bool) -> Document:
    """Remove what crashed runs staged, generations before the committed ones, and the trash.

    An old generation goes only when every byte of the committed one has just been read and is
    right. What another process is working on is left alone.
    """
    more: dict[What, bool] = {"unfinished": unfinished, "quarantine": quarantine}
    what: list[What] = [*ALWAYS, *(name for name, is_asked_for in more.items() if is_asked_for)]
    with progress(in_logs=False) as say:
        found = list(collect(store, what, say, dry_run=dry_run))
    for item in found:
        state = f"kept: {item.kept}" if item.kept else "to be removed" if dry_run else "removed"
        print_paragraph(f"{item.what} {item.name}, {human_bytes(item.size)}: {state}", hanging=2)
    gone = [item for item in found if not item.kept]
    print_line(
        f"{len(gone)} {'would be removed' if dry_run else 'removed'}, "
        f"{human_bytes(sum(item.size for item in gone))} freed"
        + (f"; {len(found) - len(gone)} kept" if found != gone else "")
    )
    return {"dry_run": dry_run, "garbage": found}
