"""``wmtp rollback``: go back to what an artifact was before its last commit."""

from __future__ import annotations

from dataclasses import asdict

import click

from wmtp_assets.base.errors import SpecError
from wmtp_assets.cli.common import Document, one_name, over_store, print_line, progress
from wmtp_assets.operations.rollback import rollback
from wmtp_assets.storage.store import Store


@click.command(
    "rollback", short_help="Go back to what an artifact was before its content last changed."
)
@one_name
@over_store
def rollback_command(store: Store, name: str) -> Document:
    """Go back to what the artifact NAME was before its content last changed.

    NAME is an asset key. The previous generation, in .wmtp/previous/, is read and compared with its
    manifest, then exchanged with the committed one in one step, and read once more. What it
    replaced is the previous generation then: a second rollback undoes the first. Files of others in
    the folder stay.

    Exits with 0 when it was done, 1 when there is no previous generation or it is damaged.
    """
    artifact, *others = store.catalogue.select(name)
    if others:
        raise SpecError(
            f"{name} is a folder of several artifacts; name one of: "
            + ", ".join(item.key for item in (artifact, *others))
        )
    with progress() as say:
        done = rollback(store, artifact, say)
    print_line(f"{done.artifact}: content {done.content_sha256}, verified")
    for row in done.stale:
        print_line(f"  must be made again: {row.name}: {'; '.join(map(str, row.reasons))}")
    return asdict(done)
