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
from wmtp_assets.operations.pull import (
    choose,
    pull,
    read_listing,
    require_forward,
    require_room,
    require_signed,
)
from wmtp_assets.operations.sign import signed_ones
from wmtp_assets.storage.signatures import Trust, trust_folder
from wmtp_assets.storage.store import Store


@click.command("pull", short_help="Fetch published artifacts, verified.")
@some_names
@click.option(
    "--from",
    "url",
    required=True,
    metavar="URL",
    help=f"Where it was published: {forms()}.",
)
@click.option("--signed", is_flag=True, help="Only what somebody whom trust/ names has signed.")
@click.option("--downgrade", is_flag=True, help="It may be older than what is here.")
@endpoint_option
@over_store
def pull_command(
    store: Store,
    names: tuple[str, ...],
    url: str,
    signed: bool,
    downgrade: bool,
    endpoint_url: str | None,
) -> Document:
    """Fetch NAME from where it was published, verify every byte, and commit it here.

    NAME is an asset key or a folder name. What is here already is not fetched again; what arrived
    before an interruption is kept. The base package and the destination's extra are enough: no
    Dagster, no torch.

    What is of an older release than what is here, or was made earlier, is refused without
    --downgrade. With --signed the release and each artifact must be signed by somebody whom trust/
    names, and have the content that the release names; documents, which nobody signs, are left out.

    Exits with 0 when all is here, 1 when it could not be had as published or has no room or place
    here, 64 for wrong usage: an unknown name or URL, a root of the other source.
    """
    trust = Trust(trust_folder()) if signed else None
    destination = open_destination(store, url, Access(endpoint_url, is_read=True))
    listing = read_listing(destination)
    pulled = []
    signers: dict[str, str] = {}
    with interruptible("what arrived is kept: run again to resume"), progress() as say:
        chosen = choose(store, listing, names)
        if trust:
            chosen = signed_ones(chosen, say)
            signers = require_signed(store, chosen, destination, listing, trust)
        if not downgrade:
            require_forward(store, chosen, listing)
        require_room(store, chosen, destination, listing, say)
        for artifact in chosen:
            signer = signers.get(artifact.key, "")
            last = pull(
                store, artifact, destination, listing, say, signer=signer, downgrade=downgrade
            )
            pulled.append(last)
            print_line(
                f"{last.key}: {last.files} files, {human_bytes(last.size)}, "
                f"{human_bytes(last.fetched)} fetched; {last.checked}"
            )
    return {"url": destination.name, "release": listing.release, "artifacts": pulled}
