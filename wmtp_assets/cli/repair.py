"""``wmtp repair``: put damaged files right from verified upstream."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import click
from rich.console import Console

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.base.progress import Say, Terminal
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.cli.common import json_option, open_store, print_json, select
from wmtp_assets.cli.complete import complete_names
from wmtp_assets.operations.repair import Damage, find_damage, repair
from wmtp_assets.operations.verify import Verdict, exit_code, findings_of, verify
from wmtp_assets.rules.apply import ABSENT, is_committed
from wmtp_assets.storage.store import Store


@click.command("repair")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_names)
@click.option("--dry-run", is_flag=True, help="Say what is damaged; touch nothing.")
@json_option
@click.pass_context
def repair_command(
    context: click.Context, names: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """Put damaged and missing files of NAME right, with the bytes they were committed with.

    NAME is an asset key or a folder name. What is damaged is made again from verified upstream, or
    fetched from the pinned commit, then verified, and swapped in; the damaged files are kept in
    .wmtp/quarantine. What cannot be made again as it was is reported, and nothing of it is touched.

    Exits with 0 when every rule holds afterwards, else as wmtp verify does.
    """
    store = open_store()
    report: list[dict[str, Any]] = []
    code = 0
    with ExitStack() as stack:
        say: Say = lambda line: click.echo(line, err=True)  # noqa: E731
        if sys.stderr.isatty():
            say = stack.enter_context(Terminal(Console(stderr=True)))
        for artifact in select(store, names):
            if artifact.optional and not is_committed(store, artifact):
                row, failed = {**_nothing(artifact), "state": ABSENT}, 0
            else:
                row, failed = _repair_one(store, artifact, say, dry_run)
            report.append(row)
            code |= failed
            if not as_json:
                _print(row)
    if not as_json and any(row["state"] == "repaired" for row in report):
        click.echo("To have the checks in Dagster's history, too: dagster job execute -j integrity")
    if as_json:
        print_json({"root": str(store.root), "exit_code": code, "artifacts": report})
    context.exit(code)


def _repair_one(
    store: Store, artifact: Artifact, say: Say, dry_run: bool
) -> tuple[dict[str, Any], int]:
    """What was done, and the exit code."""
    row = _nothing(artifact)
    try:
        damage = find_damage(store, artifact, say)
        row["damaged"] = _names(damage)
        if damage.is_none:
            row["state"] = "nothing to repair"
        elif dry_run:
            row["state"] = "damaged"
            return row, 1
        else:
            kept = repair(store, damage, say)
            row |= {"state": "repaired", "quarantine": str(kept) if kept else None}
    except WmtpError as error:
        return row | {"state": "not repaired", "problem": str(error)}, 1
    verdicts: list[Verdict] = verify(store, [artifact], lambda verdict: None, say)
    row["findings"] = [finding.as_row() for finding in findings_of(verdicts)]
    return row, exit_code(verdicts)


def _nothing(artifact: Artifact) -> dict[str, Any]:
    return {"artifact": artifact.key, "damaged": [], "quarantine": None}


def _names(damage: Damage) -> list[str]:
    if damage.manifest is None:
        return [f"{damage.artifact.base}/{damage.artifact.manifest}"]
    return [f"{damage.artifact.base}/{name}" for name in damage.files]


def _print(row: dict[str, Any]) -> None:
    click.echo(f"{row['artifact']}: {row['state']}")
    for name in row["damaged"]:
        click.echo(f"  {name}")
    if row["quarantine"]:
        click.echo(f"  what was there is kept in {row['quarantine']}")
    if "problem" in row:
        click.echo(f"  {row['problem']}")
    for finding in row.get("findings", []):
        if finding["problem"] != "warning":
            click.echo(f"  {finding['rule']}: {finding['file']}: {finding['found']}")
            click.echo(f"  remedy: {finding['remedy']}")
