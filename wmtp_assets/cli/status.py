"""``wmtp status``: one line per artifact, without reading its bytes."""

from __future__ import annotations

import click

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.cli.common import (
    NONE,
    Document,
    any_names,
    over_store,
    print_line,
    print_table,
    select,
)
from wmtp_assets.operations.status import Status, files_status, status_of
from wmtp_assets.storage.store import Store

STYLES = {"committed": "", "absent": "dim"}


@click.command()
@any_names
@click.option("--files", "by_file", is_flag=True, help="A line per file: when was it last read?")
@over_store
def status(store: Store, names: tuple[str, ...], by_file: bool) -> Document:
    """Show what is materialized, from where, and when it was last verified.

    NAME is an asset key or a folder name; all by default. Nothing is hashed: see wmtp verify. That
    a file was written, replaced or removed since it was read shows here at once.
    """
    artifacts = select(store, names)
    if by_file:
        files = [row for artifact in artifacts for row in files_status(store, artifact)]
        print_table(
            ("file", "size", "last read", "problem"),
            [
                (
                    (row.file, human_bytes(row.size), row.read_at, row.problem),
                    "red" * bool(row.problem),
                )
                for row in files
            ],
            right=("size",),
        )
        return {"files": files}
    rows = [status_of(store, artifact) for artifact in artifacts]
    print_table(
        ("name", "kind", "size", "dtype", "rows", "source", "revision", "verified", "problem"),
        [
            (
                (
                    row.name,
                    row.kind,
                    human_bytes(row.size) if row.size is not None else None,
                    row.dtype,
                    row.rows,
                    row.source,
                    (row.revision or NONE)[:8] + (" unpinned" if row.pinned is False else ""),
                    row.verified_at,
                    row.problem,
                ),
                STYLES.get(row.state, "red"),
            )
            for row in rows
        ],
        right=("size", "rows"),
    )
    optional = [row for row in rows if row.optional]
    print_line(
        f"{store.root} ({store.settings.source}): "
        f"{_count([row for row in rows if not row.optional])} artifacts, "
        + (f"{_count(optional)} optional ones, " if optional else "")
        + human_bytes(sum(row.size or 0 for row in rows))
    )
    return {"artifacts": rows}


def _count(rows: list[Status]) -> str:
    return f"{sum(row.state != 'absent' for row in rows)} of {len(rows)}"
