"""``wmtp publish``: send the storage tree to a destination, verified."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any, cast

import click
from rich.console import Console

from wmtp_assets.base.progress import Say, Terminal, human_bytes, human_seconds
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.cli.common import interruptible, json_option, open_store, print_json
from wmtp_assets.cli.complete import complete_names
from wmtp_assets.destinations.changes import STATES, Plan
from wmtp_assets.destinations.destination import How
from wmtp_assets.destinations.journal import read_rate
from wmtp_assets.destinations.open import open_destination
from wmtp_assets.operations.publish import Options, plan_publication
from wmtp_assets.operations.publish import publish as send
from wmtp_assets.operations.publish_selection import is_local_small
from wmtp_assets.storage.store import Store

endpoint_option = click.option(
    "--endpoint-url",
    metavar="URL",
    help="Of an S3 server; by default AWS_ENDPOINT_URL_S3, the profile's, or Amazon's.",
)


@click.command()
@click.argument("selection", nargs=-1, metavar="[SELECTION]...", shell_complete=complete_names)
@click.option(
    "--to",
    "url",
    required=True,
    metavar="URL",
    help="s3://bucket/prefix, file:///mounted/folder or vessl://storage/volume/path",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent; write nothing.")
@click.option("--include-local-small", is_flag=True, help="Also small splits and micro models.")
@click.option("--delete", is_flag=True, help="Remove files of ours that are no longer wanted.")
@click.option(
    "--verify",
    "how",
    type=click.Choice(["size", "hash", "full"]),
    default="hash",
    help="How files at the destination are compared: by size; by the hash that is kept there, the "
    "default; by reading every byte back.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace files in places of ours that nobody published, and publish a model without the "
    "value head that is published and not here.",
)
@click.option("--downgrade", is_flag=True, help="An older release may replace a newer one.")
@click.option(
    "--drop",
    multiple=True,
    metavar="KEY",
    help="Publish this artifact no longer; with --delete its files are removed. May be repeated.",
)
@endpoint_option
@json_option
def publish(
    selection: tuple[str, ...],
    url: str,
    dry_run: bool,
    include_local_small: bool,
    delete: bool,
    how: str,
    downgrade: bool,
    overwrite: bool,
    drop: tuple[str, ...],
    endpoint_url: str | None,
    as_json: bool,
) -> None:
    """Send SELECTION to a destination, in the same layout: only what is not there yet.

    SELECTION is asset keys or folder names; by default all that is materialized. Small splits and
    micro models are sent where they are named, or with --include-local-small. Every rule is
    applied first to what is sent; bytes are hashed as they are read; the destination's
    MANIFEST.json is written last. What was sent before an interruption is not sent again. Nothing
    is deleted without --delete.

    Exits with 0 when all is published, 1 when it was refused or failed, 64 for wrong usage.
    """
    store = open_store()
    destination = open_destination(store, url, endpoint_url)
    artifacts = _named(store, selection, include_local_small) if selection else None
    options = Options(cast("How", how), delete, downgrade, overwrite, drop)
    with ExitStack() as stack:
        what = "what is on its way arrives first; what was sent is kept: run again to go on"
        stack.enter_context(interruptible(what))
        say: Say = lambda line: click.echo(line, err=True)  # noqa: E731
        if sys.stderr.isatty():
            say = stack.enter_context(Terminal(Console(stderr=True)))
        if dry_run:
            plan = plan_publication(
                store,
                artifacts,
                destination,
                options,
                include_local_small=include_local_small,
                say=say,
            )
            _report_plan(destination.name, read_rate(store, destination.key), plan, delete, as_json)
            return
        done = send(
            store,
            artifacts,
            destination,
            options,
            include_local_small=include_local_small,
            say=say,
        )
    if as_json:
        print_json({"url": destination.name, "dry_run": False, **done.as_json()})
        return
    _print_states(done.plan)
    rate = f", {human_bytes(done.payload / done.seconds)}/s" if done.payload else ""
    left = len(done.listing.retired)
    click.echo(
        f"{destination.name}: {len(done.plan.locals)} artifacts published, "
        f"{human_bytes(done.payload)} sent in {human_seconds(done.seconds)}{rate}"
        + (f"; {len(done.deleted)} files deleted" if done.deleted else "")
        + (f"; {left} files are no longer wanted: --delete removes them" if left else "")
        + ("" if done.is_written or done.payload else "; it was all there")
    )


def _named(store: Store, selection: tuple[str, ...], include_local_small: bool) -> list[Artifact]:
    """The artifacts that are named; of a folder the optional ones only where they are there, and
    what exists for tests on one machine only where there is nothing else."""
    wanted: set[str] = set()
    for name in selection:
        found = store.catalogue.select(name)
        with_small = include_local_small or all(map(is_local_small, found))
        wanted |= {
            artifact.key
            for artifact in found
            if artifact.key == name
            or (
                (not artifact.optional or store.manifest_path(artifact).exists())
                and (with_small or not is_local_small(artifact))
            )
        }
    return [artifact for artifact in store.catalogue if artifact.key in wanted]


def _report_plan(name: str, rate: float | None, plan: Plan, delete: bool, as_json: bool) -> None:
    seconds = plan.size / rate if rate else None
    if as_json:
        document: dict[str, Any] = {"url": name, "dry_run": True, **plan.as_json()}
        print_json(document | {"bytes_to_send": plan.size, "seconds": seconds})
        return
    _print_states(plan, every=True)
    time = human_seconds(seconds) if seconds is not None else "? (nothing was sent there yet)"
    dropped = ", ".join(plan.dropped)
    verb = "deleted" if delete else "left; --delete removes them"
    click.echo(
        f"{name}: {human_bytes(plan.size)} to send, time {time}"
        + (f"; published no longer: {dropped}" if dropped else "")
        + (f"; {len(plan.extra)} files are no longer wanted, and {verb}" if plan.extra else "")
    )


def _print_states(plan: Plan, *, every: bool = False) -> None:
    for item in plan.items if every else ():
        if item.state != "same":
            click.echo(f"  {item.state} {item.path} ({human_bytes(item.size)})")
    counts = plan.count()
    click.echo(
        ", ".join(
            f"{counts[state]['files']} {state} ({human_bytes(counts[state]['bytes'])})"
            for state in STATES
            if counts[state]["files"] or state in ("new", "same", "changed")
        )
    )
