"""``wmtp migrate``: bring manifests of the version before into the form of this one."""

from __future__ import annotations

from collections import Counter

import click

from wmtp_assets.cli.common import Document, any_names, over_store, print_line, progress, select
from wmtp_assets.operations.migrate import Migration, migrate
from wmtp_assets.storage.store import Store


@click.command(
    "migrate", short_help="Bring manifests of the version before into the form of this one."
)
@any_names
@click.option("--dry-run", is_flag=True, help="Read and compare everything; write nothing.")
@over_store
def migrate_command(store: Store, names: tuple[str, ...], dry_run: bool) -> Document:
    """Bring manifests of the version before into the form of this one, proven from the bytes.

    NAME is an asset key or a folder name; without one, all. Every byte is read and compared with
    the old manifest; then pieces.json, with the hashes of tensors and of parts of large files, and
    the new manifest are committed. The files stay as they are. Documents, which are made of
    manifests alone, are made again. What cannot be proven is reported and left alone.

    Exits with 0 when everything was migrated, 1 when something was not.
    """
    done: list[Migration] = []
    with progress() as say:
        for item in migrate(store, select(store, names), say, dry_run=dry_run):
            done.append(item)
            if item.state not in ("nothing to migrate", "absent"):
                print_line(f"{item.artifact}: {item.state}")
            if item.note and item.state == "nothing to migrate":
                print_line(f"{item.artifact}:")
            if item.problem or item.note:
                print_line(f"  {item.problem or item.note}")
    counts = Counter(item.state for item in done)
    print_line("; ".join(f"{state}: {count}" for state, count in counts.items()))
    return {"exit_code": int(any(item.problem for item in done)), "artifacts": done}
