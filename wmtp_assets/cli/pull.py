"""``wmtp pull``: fetch published artifacts, verified."""

from __future__ import annotations

import click

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.cli.common import (
    Document,
    interruptible,
    over_store,
    print_line,
    progress,
    some_names,
)
from wmtp_assets.cli.publish import endpoint_option
from wmtp_assets.destinations.destination import Access, forms, open_destination
from wmtp_assets.operations.pull import choose, pull, read_listing, require_room
from wmtp_assets.storage.store import Store


@click.command("pull")
@some_names
@click.option(
    "--from",
    "url",
    required=True,
    metavar="URL",
    help=f"Where it was published: {forms()}.",
)
@endpoint_option
@over_store
def pull_command(
    store: Store, names: tuple[str, ...], url: str, endpoint_url: str | None
) -> Document:
    """Fetch NAME from where it was published, verify every byte, and commit it here.

    NAME is an asset key or a folder name. What is here already is not fetched again; what arrived
    before an interruption is kept. The base package and its extra s3 are enough: no Dagster, no
    torch.

    Exits with 0 when all is here, 1 when it could not be had as published or has no room or place
    here, 64 for wrong usage: an unknown name or URL, a root of the other source.
    """
    destination = open_destination(store, url, Access(endpoint_url, is_read=True))
    listing = read_listing(destination)
    pulled = []
    with interruptible("what arrived is kept: run again to go on"), progress() as say:
        chosen = choose(store, listing, names)
        require_room(store, chosen, destination, listing, say)
        for artifact in chosen:
            last = pull(store, artifact, destination, listing, say)
            pulled.append(last)
            print_line(
                f"{last.key}: {last.files} files, {human_bytes(last.size)}, verified; "
                f"{human_bytes(last.fetched)} fetched"
            )
    return {"url": destination.name, "release": listing.release, "artifacts": pulled}
