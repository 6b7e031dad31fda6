"""``wmtp plan``: what a download would be, before the first byte."""

from __future__ import annotations

import click

from wmtp_assets.base.progress import human_bytes, human_seconds
from wmtp_assets.base.table import NONE
from wmtp_assets.cli.common import (
    Document,
    over_store,
    print_paragraph,
    print_table,
    select,
    selection_argument,
)
from wmtp_assets.operations.plan import RawPlan, make_plan
from wmtp_assets.operations.verify import optional_ones
from wmtp_assets.storage.store import Store

UNKNOWN = "not known"
NUMBERS = ("files", "size", "here", "to download", "time")


@click.command(short_help="Show what making artifacts takes: bytes to download, disk, time.")
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

    SELECTION is asset keys or folder names; all that is not optional by default. An optional
    artifact counts only when it is named, itself or a folder of optional ones. What cannot be asked
    for is not known, and null in the JSON. Exits with 1 where a repository cannot be had, or it
    will not fit.
    """
    asked_for = optional_ones(store, selection)
    chosen = [i for i in select(store, selection) if not i.optional or i.key in asked_for]
    made = make_plan(store, chosen, rate * 1e6 if rate else None)
    print_table(
        ("name", "repository", "revision", *NUMBERS, "problem"),
        [
            (
                _cells(row, made.bytes_per_second),
                "red" * bool(row.problem) or "yellow" * bool(row.warning),
            )
            for row in made.raw
        ],
        right=NUMBERS,
        below=("problem",),
        spare=("files", "revision", "repository"),
    )
    space = made.space
    will_fit = space.needed is not None and space.needed <= made.free
    print_paragraph(
        f"peak disk: {_bytes(space.raw)} raw + {_bytes(space.made)} converted + "
        f"{_bytes(space.staging)} staging = {_bytes(space.peak)}; "
        f"{_bytes(space.needed)} more than is used now, {human_bytes(made.free)} free"
        + ("" if will_fit or space.needed is None else ": it will not fit"),
        hanging=2,
    )
    is_possible = will_fit and not any(row.problem for row in made.raw)
    return {"exit_code": 0 if is_possible else 1, **made.model_dump()}


def _bytes(size: int | None) -> str:
    return UNKNOWN if size is None else human_bytes(size)


def _cells(row: RawPlan, rate: float | None) -> tuple[object, ...]:
    revision = (row.revision or NONE)[:8] + ("" if row.is_pinned else " unpinned")
    begin = row.name, row.repository, revision
    problem = row.problem or row.warning
    if row.size is None or row.to_download is None:
        return *begin, *[UNKNOWN] * len(NUMBERS), problem
    seconds = row.to_download / rate if rate and row.to_download else 0.0
    time = human_seconds(seconds) if rate or not row.to_download else "?"
    size, here, missing = map(_bytes, (row.size, row.here, row.to_download))
    return *begin, row.files, size, here, missing, time, problem
