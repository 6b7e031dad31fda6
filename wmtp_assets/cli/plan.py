"""``wmtp plan``: what a download would be, before the first byte."""

from __future__ import annotations

import click

from wmtp_assets.base.progress import human_bytes, human_seconds
from wmtp_assets.cli.common import (
    NONE,
    json_option,
    open_store,
    print_json,
    print_line,
    print_table,
    select,
    selection_argument,
)
from wmtp_assets.operations.plan import Plan, RawPlan, make_plan

NUMBERS = ("files", "size", "here", "to download", "time")


@click.command()
@selection_argument
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MB/S",
    help="Assumed throughput, where no download was measured yet or another is expected.",
)
@json_option
@click.pass_context
def plan(
    context: click.Context, selection: tuple[str, ...], rate: float | None, as_json: bool
) -> None:
    """Show what SELECTION and all that is upstream of it needs: bytes to download, bytes that are
    here, peak disk, time.

    SELECTION is asset keys or folder names; all that is not optional by default. Exits with 1 where
    a repository cannot be had, or it will not fit.
    """
    store = open_store()
    chosen = [item for item in select(store, selection) if selection or not item.optional]
    made = make_plan(store, chosen, rate * 1e6 if rate else None)
    if as_json:
        print_json(store.settings, **made.as_json())
    else:
        _print(made)
    context.exit(0 if made.is_possible else 1)


def _print(plan: Plan) -> None:
    print_table(
        ("name", "repository", "revision", *NUMBERS, "problem"),
        [(_cells(row, plan.rate), "red" * bool(row.problem)) for row in plan.raw],
        right=NUMBERS,
    )
    space = plan.space
    print_line(
        f"peak disk: {human_bytes(space.raw)} raw + {human_bytes(space.made)} converted + "
        f"{human_bytes(space.staging)} staging = {human_bytes(space.peak)}; "
        f"{human_bytes(space.needed)} more than is used now, {human_bytes(plan.free)} free"
        + (": it will not fit" if space.needed > plan.free else "")
    )


def _cells(row: RawPlan, rate: float | None) -> tuple[object, ...]:
    revision = (row.revision or NONE)[:8] + ("" if row.is_pinned else " unpinned")
    begin = row.name, row.repository, revision
    if row.size is None:
        return *begin, None, None, human_bytes(row.here), None, None, row.problem
    seconds = row.missing / rate if rate and row.missing else 0.0
    time = human_seconds(seconds) if rate or not row.missing else "?"
    size, here, missing = map(human_bytes, (row.size, row.here, row.missing))
    return *begin, row.files, size, here, missing, time, row.problem
