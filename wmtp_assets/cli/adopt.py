"""``wmtp adopt``: take raw files that are here already into the layout."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.progress import Say, Terminal, human_bytes
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.cli.common import json_option, open_store, print_json
from wmtp_assets.cli.complete import complete_names
from wmtp_assets.hub.remote import wanted_files
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store, materialize_command


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
    artifact = _artifact(store, path, name)
    with ExitStack() as stack:
        say: Say = lambda line: click.echo(line, err=True)  # noqa: E731
        if sys.stderr.isatty():
            say = stack.enter_context(Terminal(Console(stderr=True)))
        manifest = materialize(store, artifact, say, others=[path.resolve()])
    if as_json:
        document = {"artifact": artifact.key, "files": len(manifest.files), "size": manifest.size}
        print_json(document | {"content_sha256": manifest.content_sha256})
        return
    click.echo(
        f"{artifact.key}: {len(manifest.files)} files, {human_bytes(manifest.size)}, verified. To "
        "have it in Dagster's history (nothing is fetched again): "
        + materialize_command(artifact.key)
    )


def _artifact(store: Store, path: Path, name: str | None) -> Artifact:
    """The raw artifact that PATH holds.

    Raises:
        SpecError: if it is none, or fits several.
    """
    raw = [artifact for artifact in store.catalogue if artifact.is_downloaded]
    if name is not None:
        named = [artifact for artifact in store.catalogue.select(name) if artifact.is_downloaded]
        if not named:
            raise SpecError(
                f"{name} has no raw files; those that have: {', '.join(item.key for item in raw)}"
            )
        return named[0]
    names = [item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file()]
    fitting, lacking = [], []
    for artifact in raw:
        try:
            wanted_files(artifact.spec, names)
            fitting.append(artifact)
        except ValueError as error:
            lacking.append(f"{artifact.key}: {error}")
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise SpecError(
            f"{path} fits {', '.join(item.key for item in fitting)}; say which with --as"
        )
    raise SpecError(
        f"{path} holds the files of no raw asset ({'; '.join(lacking)}). To take what it has, and "
        "download the rest, name the asset with --as"
    )
