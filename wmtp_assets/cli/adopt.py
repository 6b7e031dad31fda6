"""``wmtp adopt``: take raw files that are here already into the layout."""

from __future__ import annotations

from pathlib import Path

import click

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.cli.common import Document, complete_names, over_store, print_line, progress
from wmtp_assets.operations.adopt import adopt as take
from wmtp_assets.storage.store import Store, materialize_command


@click.command(short_help="Take raw files that are here already, verified.")
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--as",
    "name",
    metavar="NAME",
    shell_complete=complete_names,
    help="The raw asset; needed where PATH fits several, or lacks files.",
)
@over_store
def adopt(store: Store, path: Path, name: str | None) -> Document:
    """Verify the raw files below PATH against the hub's hashes, and commit them as a raw asset.

    PATH holds files under upstream's paths, as a clone or a snapshot of the repository does. On the
    root's filesystem they are linked, not copied: do not change them there any more. From another
    they are copied once. What PATH lacks is downloaded. With HF_HUB_OFFLINE=1 the hashes are those
    of wmtp.lock.
    """
    with progress() as say:
        key, manifest = take(store, path, name, say)
    count = len(manifest.files)
    print_line(
        f"{key}: {count} files, {human_bytes(manifest.size)}, verified. To have it in Dagster's "
        f"history (nothing is fetched again): {materialize_command(key)}"
    )
    content = manifest.content_sha256
    return {"artifact": key, "files": count, "size": manifest.size, "content_sha256": content}
