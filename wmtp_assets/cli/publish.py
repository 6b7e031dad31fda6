"""``wmtp publish``: send the storage tree to a destination, verified."""

from __future__ import annotations

from typing import Any

import click

from wmtp_assets.base.progress import human_bytes, human_seconds
from wmtp_assets.cli.common import (
    Document,
    interruptible,
    over_store,
    print_line,
    progress,
    selection_argument,
)
from wmtp_assets.destinations.changes import STATES, Plan
from wmtp_assets.destinations.destination import (
    FOLDER,
    Access,
    Destination,
    How,
    forms,
    open_destination,
    parse_url,
)
from wmtp_assets.destinations.journal import read_rate
from wmtp_assets.operations.publish import Done, Options, addressed, named, plan_publication
from wmtp_assets.operations.publish import publish as send
from wmtp_assets.storage.store import Store

endpoint_option = click.option(
    "--endpoint-url",
    metavar="URL",
    help="Of the server of s3://, gs:// or az://; by default what the environment names, else the "
    "provider's.",
)


@click.command(short_help="Send artifacts to a destination: only what is not there yet.")
@selection_argument
@click.option(
    "--to",
    "url",
    required=True,
    metavar="URL",
    help=f"{forms()}.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent; write nothing.")
@click.option("--include-local-small", is_flag=True, help="Also small splits and micro models.")
@click.option("--delete", is_flag=True, help="Remove published files that are obsolete.")
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
    help="Replace files that nobody published where ours belong, and publish a model without the "
    "value head that is published and not here.",
)
@click.option("--downgrade", is_flag=True, help="An older release may replace a newer one.")
@click.option(
    "--drop",
    multiple=True,
    metavar="KEY",
    help="Publish this artifact no longer; with --delete its files are removed. May be repeated.",
)
@click.option(
    "--create",
    is_flag=True,
    help="Make the repository, private, or the branch, where the hub has none.",
)
@click.option(
    "--accept-licence",
    "is_accepted",
    is_flag=True,
    help="You keep to the conditions of upstream's licences; LICENSE and NOTICE are published too.",
)
@endpoint_option
@over_store
def publish(
    store: Store,
    selection: tuple[str, ...],
    url: str,
    dry_run: bool,
    include_local_small: bool,
    delete: bool,
    how: How,
    downgrade: bool,
    overwrite: bool,
    drop: tuple[str, ...],
    create: bool,
    is_accepted: bool,
    endpoint_url: str | None,
) -> Document:
    """Send SELECTION to a destination, in the same layout: only what is not there yet.

    SELECTION is asset keys or folder names; by default all that is materialized. Small splits and
    micro models are sent where they are named, or with --include-local-small. Every rule is
    applied first to what is sent; bytes are hashed as they are read; the destination's
    MANIFEST.json is written last. What was sent before an interruption is not sent again. Nothing
    is deleted without --delete. {folder} in the URL stands for the name of each folder, as in
    hf://models/acme/{folder}.

    Exits with 0 when all is published, 1 when it was refused or failed, 64 for wrong usage.
    """
    parse_url(url.replace(FOLDER, "folder"))
    artifacts = named(store, selection, include_local_small) if selection else None
    options = Options(how, delete, downgrade, overwrite, drop, include_local_small, is_accepted)
    access = Access(endpoint_url, create=create)
    with (
        interruptible(
            "what is on its way arrives first; what was sent is kept: run again to resume"
        ),
        progress() as say,
    ):
        work = plan_publication if dry_run else send
        published = [
            _report(store, destination, work(store, members, destination, options, say), delete)
            for place, members in addressed(store, url, artifacts, options, say)
            for destination in [open_destination(store, place, access)]
        ]
    return published[0] if FOLDER not in url else {"published": published}


def _report(
    store: Store, destination: Destination, done: Plan | Done, delete: bool
) -> dict[str, Any]:
    """Print what was done, or would be; the same as a document."""
    dry_run = isinstance(done, Plan)
    document = {"url": destination.name, "dry_run": dry_run, **done.as_json()}
    if isinstance(done, Plan):
        rate = read_rate(store, destination.key)
        seconds = done.size / rate if rate else None
        document |= {"bytes_to_send": done.size, "seconds": seconds}
        _print_plan(destination.name, done, seconds, delete)
    else:
        _print_done(destination.name, done)
    return document


def _print_done(name: str, done: Done) -> None:
    _print_states(done.plan)
    rate = f", {human_bytes(done.payload / done.seconds)}/s" if done.payload else ""
    left = len(done.listing.retired)
    print_line(
        f"{name}: {len(done.plan.locals)} artifacts published, "
        f"{human_bytes(done.payload)} sent in {human_seconds(done.seconds)}{rate}"
        + (f"; {len(done.deleted)} files deleted" if done.deleted else "")
        + (f"; {left} files are no longer wanted: --delete removes them" if left else "")
        + ("" if done.is_written or done.payload else "; it was all there")
    )


def _print_plan(name: str, plan: Plan, seconds: float | None, delete: bool) -> None:
    _print_states(plan, every=True)
    time = human_seconds(seconds) if seconds is not None else "? (nothing was sent there yet)"
    verb = "deleted" if delete else "left; --delete removes them"
    print_line(
        f"{name}: {human_bytes(plan.size)} to send, time {time}"
        + (f"; published no longer: {', '.join(plan.dropped)}" if plan.dropped else "")
        + (f"; {len(plan.extra)} files are no longer wanted, and {verb}" if plan.extra else "")
    )


def _print_states(plan: Plan, *, every: bool = False) -> None:
    for item in plan.items if every else ():
        if item.state != "same":
            print_line(f"  {item.state} {item.path} ({human_bytes(item.size)})")
    counts = plan.count()
    print_line(
        ", ".join(
            f"{counts[state]['files']} {state} ({human_bytes(counts[state]['bytes'])})"
            for state in STATES
            if counts[state]["files"] or state in ("new", "same", "changed")
        )
    )
