"""Adopting: raw files that are here already become a raw artifact."""

from __future__ import annotations

from pathlib import Path

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.hub.remote import wanted_files
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.store import Store


def adopt(store: Store, folder: Path, name: str | None, say: Say = silent) -> tuple[str, Manifest]:
    """Verify the files below ``folder``, which has upstream's paths, and commit them; what it
    lacks is downloaded.

    Args:
        name: an asset or folder name; None: the only raw asset that fits.

    Returns:
        The asset's key, and what was committed.

    Raises:
        SpecError: if the files are of no raw asset, or fit several.
        WmtpError: as :func:`wmtp_assets.operations.materialize.materialize`.
    """
    artifact = _choose(store, folder, name)
    return artifact.key, materialize(store, artifact, say, others=[folder.resolve()])


def _choose(store: Store, folder: Path, name: str | None) -> Artifact:
    """The raw artifact whose files a folder holds."""
    raw = [artifact for artifact in store.catalogue if artifact.is_downloaded]
    if name is not None:
        named = [artifact for artifact in store.catalogue.select(name) if artifact.is_downloaded]
        if not named:
            raise SpecError(
                f"{name} has no raw files; those that have: {', '.join(item.key for item in raw)}"
            )
        return named[0]
    names = [item.relative_to(folder).as_posix() for item in folder.rglob("*") if item.is_file()]
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
            f"{folder} fits {', '.join(item.key for item in fitting)}; say which with --as"
        )
    raise SpecError(
        f"{folder} holds the files of no raw asset ({'; '.join(lacking)}). To take what it has, "
        "and download the rest, name the asset with --as"
    )
