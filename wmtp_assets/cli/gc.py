"""``wmtp gc``: clear staging folders and old generations."""

from __future__ import annotations

import click

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.cli.common import json_option, open_store, print_json, print_line, progress
from wmtp_assets.operations.gc import ALWAYS, What, collect, summary


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be removed; remove nothing.")
@click.option("--unfinished", is_flag=True, help="Also what interrupted work would go on with.")
@click.option("--quarantine", is_flag=True, help="Also damaged files that a repair replaced.")
@json_option
def gc(dry_run: bool, unfinished: bool, quarantine: bool, as_json: bool) -> None:
    """Remove what crashed runs staged, and generations before the committed ones.

    An old generation goes only when every byte of the committed one has just been read and is
    right. What another process is working on is left alone.
    """
    store = open_store()
    what: list[What] = [*ALWAYS]
    if unfinished:
        what.append("unfinished")
    if quarantine:
        what.append("quarantine")
    with progress(in_logs=False) as say:
        found = list(collect(store, what, say, dry_run=dry_run))
    if as_json:
        print_json(store.settings, dry_run=dry_run, garbage=found)
        return
    for item in found:
        state = f"kept: {item.kept}" if item.kept else "to be removed" if dry_run else "removed"
        print_line(f"{item.what} {item.name}, {human_bytes(item.size)}: {state}")
    print_line(summary(found, dry_run=dry_run))
