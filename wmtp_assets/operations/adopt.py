"""Adopting: raw files that are here already become a raw artifact."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from shlex import quote

from wmtp_assets.base.errors import InvalidInput, SpecError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.base.strict_json import open_waiting_for_none, read_small
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.hub.remote import wanted_files
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.mounts import resolved
from wmtp_assets.storage.store import Store

POINTER = b"version https://git-lfs.github.com/spec/v1\n"
POINTER_SIZE = 1024
"""Bytes that a pointer is shorter than."""


def adopt(store: Store, folder: Path, name: str | None, say: Say = silent) -> tuple[str, Manifest]:
    """Verify the files below ``folder``, which has upstream's paths, and commit them; what it
    lacks is downloaded.

    Args:
        name: an asset or folder name; None: the only raw asset that fits.

    Returns:
        The asset's key, and what was committed.

    Raises:
        SpecError: if the files are of no raw asset, or fit several.
        InvalidInput: if they are pointers of Git LFS, and nothing may be downloaded.
        WmtpError: as :func:`wmtp_assets.operations.materialize.materialize`.
    """
    folder = _snapshot(store, folder, name)
    artifact = _choose(store, folder, name)
    _name_pointers(artifact, folder, say)
    return artifact.key, materialize(store, artifact, say, others=[resolved(folder)])


def _snapshot(store: Store, folder: Path, name: str | None) -> Path:
    """The folder with upstream's paths, in the cache of ``huggingface_hub`` or one repository of it
    (``models--owner--name/snapshots/<commit>/``); any other folder as it is.

    Raises:
        SpecError: if the cache holds several that may be meant.
    """
    raw = [artifact for artifact in store.catalogue if artifact.is_downloaded]
    if name is not None:
        raw = [artifact for artifact in store.catalogue.select(name) if artifact.is_downloaded]
    repositories = [
        there
        for artifact in raw
        for repository in [artifact.spec.repository]
        for there in [folder / f"{repository.type}s--{repository.id.replace('/', '--')}"]
        if there.is_dir()
    ]
    if len(repositories) > 1:
        raise SpecError(
            f"{folder} is a cache with several repositories: "
            f"{', '.join(item.name for item in repositories)}. Name one of these folders"
        )
    place = repositories[0] if repositories else folder
    if not (place / "snapshots").is_dir() or not (place / "blobs").is_dir():
        return folder
    snapshots = sorted(item for item in (place / "snapshots").iterdir() if item.is_dir())
    with suppress(OSError, ValueError):
        head = place / "snapshots" / read_small(place / "refs/main").decode().strip()
        snapshots = [head] if head in snapshots else snapshots
    if len(snapshots) != 1:
        said = ", ".join(item.name for item in snapshots) or "none"
        raise SpecError(
            f"{place} is a repository in the cache of huggingface_hub, with the snapshots: {said}. "
            f"Adopt one of them: wmtp adopt {place}/snapshots/COMMIT"
        )
    return snapshots[0]


def _name_pointers(artifact: Artifact, folder: Path, say: Say) -> None:
    """Say which files are what a clone without git-lfs holds in their place: they will be
    downloaded.

    Raises:
        InvalidInput: if nothing is to be downloaded.
    """
    from wmtp_assets.hub.client import is_offline_mode

    names = [item.relative_to(folder).as_posix() for item in folder.rglob("*") if item.is_file()]
    pointers = [name for name in sorted(names) if _is_pointer(folder / name)]
    if not pointers:
        return
    more = f" and {len(pointers) - 3} more" if len(pointers) > 3 else ""
    what = (
        f"{folder}: {', '.join(pointers[:3])}{more}: pointers of Git LFS, not the files "
        "themselves; the clone was made without git-lfs"
    )
    pull = f"git -C {quote(str(folder))} lfs pull"
    if is_offline_mode():
        raise InvalidInput(
            f"{what}, and HF_HUB_OFFLINE is set. Fetch them where there is a network, and adopt "
            f"again: {pull}"
        )
    say(f"{what}. {artifact.key} downloads them anew; to fetch them there instead: {pull}")


def _is_pointer(path: Path) -> bool:
    """Whether a file is a pointer of Git LFS: github.com/git-lfs/git-lfs, docs/spec.md."""
    with suppress(OSError), open_waiting_for_none(path) as file:
        return file.read(POINTER_SIZE).startswith(POINTER) and file.tell() < POINTER_SIZE
    return False


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
