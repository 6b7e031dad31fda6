"""``wmtp status``: one line per artifact, without reading its bytes."""

from __future__ import annotations

import click

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.cli.common import (
    NONE,
    Document,
    any_names,
    over_store,
    print_line,
    print_table,
    select,
)
from wmtp_assets.operations.status import (
    EXIT_CODES,
    Status,
    exit_code,
    files_status,
    stale,
    status_of,
)
from wmtp_assets.storage.store import Store

STYLES = {"committed": "", "absent": "dim"}


@click.command()
@any_names
@click.option("--files", "by_file", is_flag=True, help="A line per file: when was it last read?")
@click.option("--stale", "only_stale", is_flag=True, help="Only: what must be made again, and why?")
@over_store
def status(store: Store, names: tuple[str, ...], by_file: bool, only_stale: bool) -> Document:
    """Show what is materialized, from where, and when it was last verified.

    NAME is an asset key or a folder name; all by default. Nothing is hashed: see wmtp verify. That
    a file was written, replaced or removed since it was read shows here at once. With --stale: what
    must be made again, upstream first, and what will have to be if its upstream's content changes.

    Exit codes, which add up: 0 nothing is known to be wrong, 1 damaged or a rule failed, 2 missing
    file or artifact, 4 unreadable, 8 written since it was verified, 16 must be made again; 64 wrong
    usage, 70 internal error. That something was not verified yet is not wrong.
    """
    if by_file and only_stale:
        raise click.UsageError("--files and --stale are two tables: ask for one")
    artifacts = select(store, names)
    if only_stale:
        return _stale(store, artifacts)
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
    return {"exit_code": exit_code(rows), "artifacts": rows}


def _stale(store: Store, artifacts: list[Artifact]) -> Document:
    rows = stale(store, artifacts)
    for row in rows:
        why = "; ".join(map(str, row.reasons))
        after = f"if {', '.join(row.after)} has other content then"
        print_line(f": {why or after}", (row.name, "red" * bool(row.reasons)))
    must = [row for row in rows if row.reasons]
    told = "; to make them: make materialize SELECT=stale" if must else ""
    print_line(f"{len(must)} must be made again, {len(rows) - len(must)} may have to be{told}")
    return {"exit_code": EXIT_CODES["stale"] * bool(must), "stale": rows}


def _count(rows: list[Status]) -> str:
    return f"{sum(row.state != 'absent' for row in rows)} of {len(rows)}"
