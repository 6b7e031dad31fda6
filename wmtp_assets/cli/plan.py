"""``wmtp plan``: what a download would be, before the first byte."""

from __future__ import annotations

import shutil

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmtp_assets.base.progress import human_bytes, human_seconds
from wmtp_assets.cli.common import json_option, open_store, print_json, print_wide, select
from wmtp_assets.cli.complete import complete_names
from wmtp_assets.hub.rate import last_rate
from wmtp_assets.operations.plan import RawPlan, Space, plan_raw, space_of, with_upstream

TITLES = (
    "name",
    "repository",
    "revision",
    "files",
    "size",
    "here",
    "to download",
    "time",
    "problem",
)


@click.command()
@click.argument("selection", nargs=-1, metavar="[SELECTION]...", shell_complete=complete_names)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MB/S",
    help="Assumed throughput, where no download was measured yet or another is expected.",
)
@json_option
def plan(selection: tuple[str, ...], rate: float | None, as_json: bool) -> None:
    """Show what SELECTION and all that is upstream of it needs: bytes to download, bytes that are
    here, peak disk, time.

    SELECTION is asset keys or folder names; all that is not optional by default. Exits with 1 where
    a repository cannot be had, or it will not fit.
    """
    store = open_store()
    chosen = [item for item in select(store, selection) if selection or not item.optional]
    artifacts = with_upstream(store, chosen)
    rows = [plan_raw(store, artifact) for artifact in artifacts if artifact.is_downloaded]
    space = space_of(store, artifacts, rows)
    speed = rate * 1e6 if rate else last_rate(store)
    store.internal.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store.internal).free
    if as_json:
        print_json(
            {
                "root": str(store.root),
                "source": store.settings.source,
                "raw": [row.as_json() for row in rows],
                "space": space.as_json(),
                "free": free,
                "bytes_per_second": speed,
            }
        )
    else:
        _print(rows, space, speed, free)
    if any(row.problem for row in rows) or space.needed > free:
        click.get_current_context().exit(1)


def _print(rows: list[RawPlan], space: Space, speed: float | None, free: int) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in TITLES:
        right = title in ("files", "size", "here", "to download", "time")
        table.add_column(title, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        known = row.size is not None
        table.add_row(
            row.name,
            row.repository,
            (row.revision or "-")[:8] + ("" if row.is_pinned else " unpinned"),
            str(row.files) if known else "-",
            human_bytes(row.size) if row.size is not None else "-",
            human_bytes(row.here),
            human_bytes(row.missing) if known else "-",
            _time(row.missing, speed) if known else "-",
            escape(row.problem),
            style="red" if row.problem else "",
        )
    print_wide(table)
    console = Console()
    console.print(
        f"peak disk: {human_bytes(space.raw)} raw + {human_bytes(space.made)} converted + "
        f"{human_bytes(space.staging)} staging = {human_bytes(space.peak)}; "
        f"{human_bytes(space.needed)} more than is used now, {human_bytes(free)} free"
        + (": it will not fit" if space.needed > free else ""),
        highlight=False,
        soft_wrap=True,
    )


def _time(missing: int, speed: float | None) -> str:
    if not missing:
        return "0 s"
    return human_seconds(missing / speed) if speed else "?"
