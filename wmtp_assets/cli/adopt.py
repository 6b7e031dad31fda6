"""``wmtp adopt``: take raw files that are here already into the layout."""

from __future__ import annotations

from pathlib import Path

import click

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.cli.common import json_option, open_store, print_json, print_line, progress
from wmtp_assets.cli.complete import complete_names
from wmtp_assets.operations.adopt import adopt as take
from wmtp_assets.operations.adopt import choose_raw
from wmtp_assets.storage.store import materialize_command


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--as",
    "name",
    metavar="NAME",
    shell_complete=complete_names,
    help="The raw asset; needed where PATH fits several, or lacks files.",
)
@json_option
def adopt(path: Path, name: str | None, as_json: bool) -> None:
    """Verify the raw files below PATH against the hub's hashes, and commit them as a raw asset.

    PATH holds files under upstream's paths, as a clone or a snapshot of the repository does. On the
    root's filesystem they are linked, not copied: do not change them there any more. From another
    they are copied once. What PATH lacks is downloaded. With HF_HUB_OFFLINE=1 the hashes are those
    of wmtp.lock.
    """
    store = open_store()
    artifact = choose_raw(store, path, name)
    with progress() as say:
        manifest = take(store, artifact, path, say)
    if as_json:
        print_json(
            store.settings,
            artifact=artifact.key,
            files=len(manifest.files),
            size=manifest.size,
            content_sha256=manifest.content_sha256,
        )
        return
    print_line(
        f"{artifact.key}: {len(manifest.files)} files, {human_bytes(manifest.size)}, verified. To "
        "have it in Dagster's history (nothing is fetched again): "
        + materialize_command(artifact.key)
    )
