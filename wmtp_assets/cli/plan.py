"""``wmtp plan``: what a download would be, before the first byte."""

from __future__ import annotations

import click

from wmtp_assets.base.progress import human_bytes, human_seconds
from wmtp_assets.cli.common import (
    NONE,
    Document,
    over_store,
    print_line,
    print_table,
    select,
    selection_argument,
)
from wmtp_assets.operations.plan import RawPlan, make_plan
from wmtp_assets.storage.store import Store

NUMBERS = ("files", "size", "here", "to download", "time")


@click.command()
@selection_argument
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MB/S",
    help="Assumed throughput, where no download was measured yet or another is expected.",
)
@over_store
def plan(store: Store, selection: tuple[str, ...], rate: float | None) -> Document:
    """Show what SELECTION and all that is upstream of it needs: bytes to download, bytes that are
    here, peak disk, time.

    SELECTION is asset keys or folder names; all that is not optional by default. Exits with 1 where
    a repository cannot be had, or it will not fit.
    """
    chosen = [item for item in select(store, selection) if selection or not item.optional]
    made = make_plan(store, chosen, rate * 1e6 if rate else None)
    print_table(
        ("name", "repository", "revision", *NUMBERS, "problem"),
        [(_cells(row, made.bytes_per_second), "red" * bool(row.problem)) for row in made.raw],
        right=NUMBERS,
    )
    space = made.space
    print_line(
        f"peak disk: {human_bytes(space.raw)} raw + {human_bytes(space.made)} converted + "
        f"{human_bytes(space.staging)} staging = {human_bytes(space.peak)}; "
        f"{human_bytes(space.needed)} more than is used now, {human_bytes(made.free)} free"
        + (": it will not fit" if space.needed > made.free else "")
    )
    is_possible = space.needed <= made.free and not any(row.problem for row in made.raw)
    return {"exit_code": 0 if is_possible else 1, **made.model_dump()}


def _cells(row: RawPlan, rate: float | None) -> tuple[object, ...]:
    revision = (row.revision or NONE)[:8] + ("" if row.is_pinned else " unpinned")
    begin = row.name, row.repository, revision
    if row.size is None or row.to_download is None:
        return *begin, None, None, human_bytes(row.here), None, None, row.problem
    seconds = row.to_download / rate if rate and row.to_download else 0.0
    time = human_seconds(seconds) if rate or not row.to_download else "?"
    size, here, missing = map(human_bytes, (row.size, row.here, row.to_download))
    return *begin, row.files, size, here, missing, time, row.problem
