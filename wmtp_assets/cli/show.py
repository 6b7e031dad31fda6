"""``wmtp show``: everything about one artifact, without reading its bytes."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.cli.common import json_option, open_store, print_json, print_wide, select
from wmtp_assets.cli.complete import complete_names
from wmtp_assets.operations.show import Details, details_of

NONE = "-"
STYLES = {"ok": "", "failed": "red", "outdated": "yellow", "not applied": "dim"}


@click.command()
@click.argument("name", shell_complete=complete_names)
@json_option
def show(name: str, as_json: bool) -> None:
    """Show what NAME is for, where it lies, its files, source, lineage, rules and commands.

    NAME is an asset key, or a folder name: then each artifact in it is shown. Nothing is hashed; a
    file that was written since it was read shows here at once.
    """
    store = open_store()
    found = [details_of(store, artifact) for artifact in select(store, [name])]
    if as_json:
        print_json(
            {
                "root": str(store.root),
                "source": store.settings.source,
                "artifacts": [details.as_json() for details in found],
            }
        )
        return
    console = Console(soft_wrap=True)
    for number, details in enumerate(found):
        if number:
            console.print()
        _print(console, details)


def _print(console: Console, details: Details) -> None:
    status = details.status
    optional = ", optional" if status.optional else ""
    console.print(f"[bold]{details.name}[/] ({status.kind}{optional})", highlight=False)
    console.print(f"  {escape(details.description)}", highlight=False)
    owned = f" ({', '.join(details.owns)})" if details.owns else ""
    problem = f": {status.problem}" if status.problem else ""
    _line(console, "folder", f"{details.folder}{owned}")
    _line(console, "state", f"{status.state}{problem}")
    if status.size is not None:
        _line(console, "size", f"{human_bytes(status.size)} in {len(details.files)} files")
    if details.source:
        _line(console, "source", _source(details.source))
    for key, value in details.facts.items():
        if key != "splits":
            _line(console, key, _text(value))
    for split, counts in details.facts.get("splits", {}).items():
        _line(console, f"split {split}", _counts(counts))
    for what in ("upstream", "downstream"):
        keys = getattr(details, what)
        text = ", ".join(f"{key} ({state})" for key, state in keys.items())
        _line(console, what, text or "none")
    if details.files:
        print_wide(_files(details))
    print_wide(_rules(details))
    for what, command in details.commands.items():
        _line(console, what, command)


def _line(console: Console, title: str, text: str) -> None:
    console.print(f"  {title + ':':<15} {escape(text)}", highlight=False)


def _source(source: dict[str, Any]) -> str:
    revision = source["revision"] or "not pinned"
    origin = f" by the {source['endpoint']} hub" if source["endpoint"] == "sample" else ""
    return f"{source['repo']} at {revision}{origin}, {source['license']}, {source['page']}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _counts(counts: dict[str, Any]) -> str:
    """``rows 374, problems 374, dropped none``."""
    dropped = counts.get("dropped")
    plain = [f"{key} {value:,}" for key, value in counts.items() if isinstance(value, int)]
    if dropped is not None:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in dropped.items())
        plain.append(f"dropped {reasons or 'none'}")
    return ", ".join(plain)


def _files(details: Details) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 2), pad_edge=True, header_style="bold")
    for title in ("file", "size", "sha256", "last read", "problem"):
        table.add_column(title, justify="right" if title == "size" else "left", no_wrap=True)
    for row in details.files:
        table.add_row(
            escape(row["file"]),
            human_bytes(row["size"]),
            row["sha256"][:12],
            row["read_at"] or NONE,
            row["problem"],
        )
    return table


def _rules(details: Details) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 2), pad_edge=True, header_style="bold")
    for title in ("rule", "last result", "at", "what holds, or the first finding"):
        table.add_column(title, no_wrap=True)
    for rule in details.rules:
        warns = "" if rule.blocking else " (warns)"
        table.add_row(
            rule.rule + warns,
            rule.state,
            rule.at or NONE,
            escape(rule.problem or rule.statement),
            style=STYLES[rule.state],
        )
    return table
