"""``wmtp show``: everything about one artifact, without reading its bytes."""

from __future__ import annotations

from typing import Any

import click

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.cli.common import (
    Document,
    one_name,
    over_store,
    print_line,
    print_paragraph,
    print_table,
    select,
)
from wmtp_assets.cli.status import print_files
from wmtp_assets.operations.show import Details, details_of
from wmtp_assets.storage.store import Store

TITLE = 15
"""Columns of a line's title."""

STYLES = {
    "ok": "",
    "warning": "yellow",
    "failed": "red",
    "outdated": "yellow",
    "not applied": "dim",
}


@click.command(short_help="Show all that is known about an artifact: files, source, rules.")
@one_name
@over_store
def show(store: Store, name: str) -> Document:
    """Show what NAME is for, where it lies, its files, source, lineage, rules and commands.

    NAME is an asset key, or a folder name: then each artifact in it is shown. Nothing is hashed; a
    file that was written since it was read shows here at once.
    """
    found = []
    for artifact in select(store, [name]):
        if found:
            print_line("")
        found.append(details_of(store, artifact))
        _print(found[-1], artifact)
    return {"artifacts": found}


def _print(details: Details, artifact: Artifact) -> None:
    status = details.status
    optional = ", optional" if status.optional else ""
    print_line(f" ({status.kind}{optional})", (details.name, "bold"))
    print_paragraph(details.description, indent=2)
    owned = f" ({', '.join(details.owns)})" if details.owns else ""
    problem = f": {status.problem}" if status.problem else ""
    count, splits = len(details.files), details.facts.get("splits", {})
    lines = {
        "folder": f"{details.folder}{owned}",
        "state": f"{status.state}{problem}",
        "size": "" if status.size is None else f"{human_bytes(status.size)} in {count} files",
        "source": _source(details.source) if details.source else "",
        **{key: _text(value) for key, value in details.facts.items() if key != "splits"},
        **{f"split {name}": _counts(said) for name, said in splits.items()},
        "guests": ", ".join(details.guests),
        "upstream": _states(details.upstream),
        "downstream": _states(details.downstream),
    }
    for title, text in lines.items():
        if text:
            _line(title, text)
    if details.files:
        print_files(details.files, artifact)
    print_table(
        ("rule", "last result", "at (UTC)", "what holds, or the first finding"),
        [
            (
                (
                    rule.rule + ("" if rule.blocking else " (warns)"),
                    rule.state,
                    rule.at and rule.at[:16].replace("T", " "),
                    rule.problem or rule.statement,
                ),
                STYLES[rule.state],
            )
            for rule in details.rules
        ],
        below=("what holds, or the first finding",),
        indent=2,
    )
    for what, command in details.commands.items():
        print_line(f"  {what + ':':<{TITLE}} {command}")


def _line(title: str, text: str) -> None:
    print_paragraph(f"{title + ':':<{TITLE}} {text}", indent=2, hanging=TITLE + 1)


def _source(source: dict[str, Any]) -> str:
    origin = " by the sample hub" if source["endpoint"] == "sample" else ""
    at = f"{source['revision'] or 'not pinned'}{origin}"
    return f"{source['repo']} at {at}, {source['license']}, {source['page']}"


def _states(keys: dict[str, str]) -> str:
    return ", ".join(f"{key} ({state})" for key, state in keys.items()) or "none"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _counts(counts: dict[str, Any]) -> str:
    """``rows 374, problems 374, dropped none``."""
    dropped = counts.get("dropped")
    plain = [f"{key} {value:,}" for key, value in counts.items() if isinstance(value, int)]
    if isinstance(dropped, dict):
        reasons = ", ".join(f"{_text(number)} {reason}" for reason, number in dropped.items())
        plain.append(f"dropped {reasons or 'none'}")
    return ", ".join(plain)
