"""``wmtp repair``: put damaged files right from verified upstream."""

from __future__ import annotations

from typing import Any

import click

from wmtp_assets.cli.common import Document, over_store, print_line, progress, select, some_names
from wmtp_assets.operations.repair import repair_one
from wmtp_assets.storage.store import Store


@click.command("repair", short_help="Restore damaged and missing files from verified upstream.")
@some_names
@click.option("--dry-run", is_flag=True, help="Say what is damaged; touch nothing.")
@over_store
def repair_command(store: Store, names: tuple[str, ...], dry_run: bool) -> Document:
    """Put damaged and missing files of NAME right, with the bytes they were committed with.

    NAME is an asset key or a folder name. What is damaged is made again from verified upstream, or
    fetched from the pinned commit, then verified, and swapped in; the damaged files are kept in
    .wmtp/quarantine. What cannot be made again as it was is reported, and nothing of it is touched.

    Exits with 0 when every rule holds afterwards, else as wmtp verify does.
    """
    report: list[dict[str, Any]] = []
    code = 0
    with progress() as say:
        for artifact in select(store, names):
            row, failed = repair_one(store, artifact, say, dry_run=dry_run)
            report.append(row)
            code |= failed
            _print(row)
    if any(row["state"] == "repaired" for row in report):
        print_line("To have the checks in Dagster's history, too: dagster job execute -j integrity")
    return {"exit_code": code, "artifacts": report}


def _print(row: dict[str, Any]) -> None:
    print_line(f"{row['artifact']}: {row['state']}")
    for name in row["damaged"]:
        print_line(f"  {name}")
    if row["quarantine"]:
        print_line(f"  what was there is kept in {row['quarantine']}")
    if "problem" in row:
        print_line(f"  {row['problem']}")
    for finding in row.get("findings", []):
        if finding["problem"] != "warning":
            print_line(f"  {finding['rule']}: {finding['file']}: {finding['found']}")
            print_line(f"  remedy: {finding['remedy']}")
