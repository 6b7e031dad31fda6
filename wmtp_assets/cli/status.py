"""``wmtp status``: one line per artifact, without reading its bytes."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmtp_assets.cli.common import json_option, open_store, print_json, select
from wmtp_assets.integrity.status import Status, status_of
from wmtp_assets.progress import human_bytes

TITLES = ("name", "kind", "size", "dtype", "rows", "source", "revision", "verified", "problem")
NONE = "-"


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def status(names: tuple[str, ...], as_json: bool) -> None:
    """Show what is materialized, from where, and when it was last verified.

    NAME is an asset key or a folder name; all by default. Nothing is hashed: see wmtp verify.
    """
    store = open_store()
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
    table = _table(rows)
    width = Console(width=10_000).measure(table).maximum
    console = Console()
    Console(width=max(width, console.width)).print(table)
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
