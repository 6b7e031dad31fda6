"""``wmtp verify``: apply every rule to the bytes on disk."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext

import click
from rich.console import Console
from rich.markup import escape

from wmtp_assets.base.progress import Terminal, silent
from wmtp_assets.cli.common import json_option, open_store, print_json, select
from wmtp_assets.cli.complete import complete_names
from wmtp_assets.operations.verify import (
    Verdict,
    exit_code,
    findings_of,
    strays,
    verify_release,
)
from wmtp_assets.operations.verify import verify as apply_rules
from wmtp_assets.rules.findings import is_warning
from wmtp_assets.storage.store import Store


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_names)
@click.option("--release", is_flag=True, help="Only: is it, byte for byte, what was released?")
@json_option
@click.pass_context
def verify(context: click.Context, names: tuple[str, ...], release: bool, as_json: bool) -> None:
    """Read every byte of the artifacts and apply every rule; nothing is repaired.

    NAME is an asset key or a folder name; all by default. An optional artifact that is absent
    counts only when it is named, itself or a folder of optional ones. With --release every byte of
    what docs/RELEASE.json has frozen is read and compared with it, and nothing else is looked at.

    Exit codes, which add up: 0 all good, 1 corrupt, 2 missing or extra file or artifact,
    4 unreadable, 8 kept changing while it was read; 64 wrong usage, 70 internal error.
    """
    if release and names:
        raise click.UsageError("--release compares all that was released: name no artifact")
    store = open_store()
    console = Console(soft_wrap=True)

    def told(verdict: Verdict) -> None:
        if not as_json:
            _print(console, verdict)

    errors = Console(stderr=True)
    with Terminal(errors) if errors.is_terminal else nullcontext(silent) as say:
        if release:
            verdicts = verify_release(store, told, say)
        else:
            artifacts, asked_for = select(store, names), _asked_for(store, names)
            verdicts = apply_rules(store, artifacts, told, say, asked_for=asked_for)
    if not names and not release:
        verdicts.append(strays(store))
        if verdicts[-1].outcome.findings:
            told(verdicts[-1])
    code = exit_code(verdicts)
    findings = findings_of(verdicts)
    if as_json:
        print_json(
            {
                "root": str(store.root),
                "exit_code": code,
                "findings": [finding.as_row() for finding in findings],
                "rules": [
                    {
                        "artifact": verdict.artifact,
                        "rule": verdict.rule,
                        "findings": verdict.outcome.count,
                        "skipped": verdict.outcome.skipped,
                        "read": verdict.outcome.evidence,
                    }
                    for verdict in verdicts
                ],
            }
        )
    else:
        _print_summary(console, verdicts)
    context.exit(code)


def _asked_for(store: Store, names: Iterable[str]) -> set[str]:
    """Keys of the optional artifacts that must be there: those of names that mean no other."""
    selected = (store.catalogue.select(name) for name in names)
    return {item.key for items in selected if all(i.optional for i in items) for item in items}


def _print(console: Console, verdict: Verdict) -> None:
    findings = verdict.outcome.findings
    word = "skipped" if verdict.outcome.skipped else "ok"
    if findings:
        word = "[yellow]warning[/]" if is_warning(verdict.outcome) else "[red]FAILED[/]"
    name = f"{verdict.artifact} {verdict.rule}".strip()
    console.print(f"{name}: {word} {escape(verdict.outcome.skipped)}".rstrip(), highlight=False)
    for finding in findings[:10]:
        console.print(f"  {escape(str(finding))}", highlight=False)
    if verdict.outcome.count > 10:
        console.print(f"  … {verdict.outcome.count} findings in all")
    for remedy in dict.fromkeys(finding.remedy for finding in findings):
        console.print(f"  remedy: {escape(remedy)}", highlight=False)


def _print_summary(console: Console, verdicts: list[Verdict]) -> None:
    failed = sum(not is_warning(verdict.outcome) for verdict in verdicts)
    warned = sum(bool(verdict.outcome.findings) for verdict in verdicts) - failed
    skipped = sum(bool(verdict.outcome.skipped) for verdict in verdicts)
    console.print(
        f"{len(verdicts)} rules applied, {failed} failed"
        + (f", {warned} with warnings" * bool(warned))
        + (f", {skipped} skipped" * bool(skipped)),
        highlight=False,
    )
