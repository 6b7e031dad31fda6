"""The folders of the storage contract, empty, before anything is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.storage.store import Store


@dataclass(frozen=True)
class Folder:
    """One folder of the contract.

    Attributes:
        path: below the storage root.
        is_new: whether it was not there before.
    """

    path: str
    is_new: bool


def folders_of(artifact: Artifact) -> list[str]:
    """The folders, relative to the root, that an artifact's files lie in.

    What an artifact owns of a folder that it shares is a folder, or a file with a suffix.
    """
    owned = [name for name in artifact.owns if not PurePosixPath(name).suffix]
    return [f"{artifact.base}/{name}" for name in owned] or [artifact.base]


def init(store: Store, artifacts: Iterable[Artifact], *, dry_run: bool = False) -> Iterator[Folder]:
    """Make the folders of artifacts where they are not there; say each, once.

    Args:
        dry_run: make nothing.

    Raises:
        StoreError: if something else lies where a folder must be, or the root cannot be written.
    """
    owners = {path: artifact for artifact in artifacts for path in folders_of(artifact)}
    folders = [Folder(path, not (store.root / path).is_dir()) for path in owners]
    for folder in folders:
        if folder.is_new:
            store.require_place(owners[folder.path])
    for folder in folders:
        if folder.is_new and not dry_run:
            store.make_folder(owners[folder.path], folder.path)
        yield folder
