"""``wmtp status``: one line per artifact, without reading its bytes."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.cli.common import json_option, open_store, print_json, print_wide, select
from wmtp_assets.cli.complete import complete_names
from wmtp_assets.operations.status import Status, files_status, status_of
from wmtp_assets.storage.store import Store

TITLES = ("name", "kind", "size", "dtype", "rows", "source", "revision", "verified", "problem")
NONE = "-"


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_names)
@click.option("--files", "by_file", is_flag=True, help="A line per file: when was it last read?")
@json_option
def status(names: tuple[str, ...], by_file: bool, as_json: bool) -> None:
    """Show what is materialized, from where, and when it was last verified.

    NAME is an asset key or a folder name; all by default. Nothing is hashed: see wmtp verify. That
    a file was written, replaced or removed since it was read shows here at once.
    """
    store = open_store()
    if by_file:
        _print_files(store, names, as_json)
        return
    rows = [status_of(store, artifact) for artifact in select(store, names)]
    if as_json:
        print_json(
            {
                "root": str(store.root),
                "source": store.settings.source,
                "artifacts": [row.as_json() for row in rows],
            }
        )
        return
    print_wide(_table(rows))
    console = Console()
    required = [row for row in rows if not row.optional]
    optional = [row for row in rows if row.optional]
    console.print(
        f"{escape(str(store.root))} ({store.settings.source}): "
        f"{_count(required)} artifacts, "
        + (f"{_count(optional)} optional ones, " if optional else "")
        + human_bytes(sum(row.size or 0 for row in rows)),
        highlight=False,
        soft_wrap=True,
    )


def _print_files(store: Store, names: tuple[str, ...], as_json: bool) -> None:
    rows = [row for artifact in select(store, names) for row in files_status(store, artifact)]
    if as_json:
        print_json({"root": str(store.root), "files": [row.as_json() for row in rows]})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("file", "size", "last read", "problem"):
        table.add_column(title, justify="right" if title == "size" else "left", no_wrap=True)
    for row in rows:
        table.add_row(
            escape(row.file),
            human_bytes(row.size),
            row.read_at or NONE,
            row.problem,
            style="red" if row.problem else "",
        )
    print_wide(table)


def _count(rows: list[Status]) -> str:
    return f"{sum(row.state != 'absent' for row in rows)} of {len(rows)}"


def _table(rows: list[Status]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in TITLES:
        right = title in ("size", "rows")
        table.add_column(title, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        style = {"committed": "", "absent": "dim"}.get(row.state, "red")
        table.add_row(
            row.name,
            row.kind,
            human_bytes(row.size) if row.size is not None else NONE,
            row.dtype or NONE,
            str(row.rows) if row.rows is not None else NONE,
            row.source or NONE,
            (row.revision or NONE)[:8] + (" unpinned" if row.pinned is False else ""),
            row.verified_at or NONE,
            escape(row.problem),
            style=style,
        )
    return table
