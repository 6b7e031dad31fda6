"""Fetching published artifacts into a storage root: verified, resumed, committed as any other.

What ``MANIFEST.json`` says is compared with the catalogue of this machine: an artifact writes only
where it would if it were made here.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact, SpecError, StoreError
from wmtp_assets.base.progress import Progress, Say, human_bytes, silent
from wmtp_assets.base.settings import ROOT_VARIABLE, SOURCE_VARIABLE
from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.destinations.changes import read_published
from wmtp_assets.destinations.destination import Destination, read_on
from wmtp_assets.destinations.errors import PublishError
from wmtp_assets.destinations.listing import MANIFEST, Listing, SentArtifact, SentFile
from wmtp_assets.rules.findings import stated
from wmtp_assets.storage import manifest
from wmtp_assets.storage.files import HashedFile, fsync_folder, hash_file, replace_file
from wmtp_assets.storage.manifest import FileRecord, Manifest
from wmtp_assets.storage.store import Staged, Store


@dataclass(frozen=True)
class Pulled:
    """An artifact that was fetched.

    Attributes:
        size: bytes of its files.
        fetched: bytes that came from the destination; the others were here.
    """

    key: str
    files: int
    size: int
    fetched: int
    content_sha256: str


def read_listing(destination: Destination) -> Listing:
    """What is published.

    Raises:
        PublishError: if nothing is, or it cannot be read.
    """
    listing = read_published(destination).listing
    if listing is None:
        raise PublishError(
            f"nothing is published at {destination.name}: it has no {MANIFEST}. Look at the URL, "
            "or publish there first: wmtp publish --to URL"
        )
    return listing


def choose(store: Store, listing: Listing, names: Sequence[str]) -> list[Artifact]:
    """The artifacts that the names mean, upstream first.

    A folder's name means those of its artifacts that are published.

    Raises:
        SpecError: for an unknown name, or if what is published is of the other source.
        PublishError: if nothing that a name means is published.
    """
    if listing.source != store.settings.source:
        raise SpecError(
            f"what is published there is of the source {listing.source!r}, but {SOURCE_VARIABLE} "
            f"is {store.settings.source!r}. Set {SOURCE_VARIABLE}={listing.source}"
        )
    wanted: set[str] = set()
    for name in names:
        found = {item.key for item in store.catalogue.select(name)} & listing.artifacts.keys()
        if not found:
            raise PublishError(
                f"{name} is not published there; that is: {', '.join(listing.artifacts)}"
            )
        wanted |= found
    return [artifact for artifact in store.catalogue if artifact.key in wanted]


def require_room(
    store: Store,
    artifacts: Sequence[Artifact],
    destination: Destination,
    listing: Listing,
    say: Say = silent,
) -> None:
    """Refuse, before the first byte of any artifact, what will not fit or has no place here.

    Raises:
        PublishError: if what is published contradicts the catalogue.
        StoreError: saying what is missing, or what is in the way.
    """
    missing = 0
    for artifact in artifacts:
        names = _names(artifact, listing.artifacts[artifact.key], destination.name)
        store.recover(artifact, say)
        store.require_place(artifact)
        missing += _missing(store, artifact, names)
    there = next(path for path in (store.internal, *store.internal.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if missing > free:
        first, *others = [artifact.key for artifact in artifacts]
        more = f" and {len(others)} more" if others else ""
        raise StoreError(
            f"{first}{more} will not fit: {human_bytes(missing)} to fetch, {human_bytes(free)} "
            f"free under {store.root}. Free some space, or move the root with {ROOT_VARIABLE}"
        )


def pull(
    store: Store,
    artifact: Artifact,
    destination: Destination,
    listing: Listing,
    say: Say = silent,
) -> Pulled:
    """Fetch what is missing of an artifact, verify every byte, and commit it.

    Raises:
        PublishError: if what is published contradicts itself or the catalogue, another value head
            lies here than is published, other bytes come than ``MANIFEST.json`` names, or the
            destination refuses. What is committed here is as before; what arrived of a file is
            kept, and the next call goes on with it.
        StoreError: if the disk is full or refuses, something lies where a folder must be, or the
            root belongs to the other source.
    """
    published = listing.artifacts[artifact.key]
    names = _names(artifact, published, destination.name)
    fetch = _Fetch(store, artifact, destination, names, say)
    with store.stage(artifact, say) as staged:
        require_room(store, [artifact], destination, listing, say)
        _require_own_guests(store, artifact, names)
        data = fetch.get(artifact.manifest).read_bytes()
        described = _described(data, artifact, published, names, destination.name)
        held = {name: fetch.get(name) for name in (*described.files, *_guests(artifact, names))}
        if fetch.is_all_committed():
            say(f"{artifact.key}: all of it is here already, and verified")
        else:
            for name, record in described.files.items():
                _place(staged, name, held[name], record)
            _commit(store, artifact, staged, described, data, names, held, say)
        for name in artifact.copied:
            replace_file(store.root / name, store.read(artifact, name))
        if artifact.copied:
            fsync_folder(store.root)
        shutil.rmtree(store.scratch(artifact), ignore_errors=True)
    size, content = described.size, described.content_sha256
    return Pulled(artifact.key, len(described.files), size, fetch.fetched, content)


def _names(artifact: Artifact, published: SentArtifact, where: str) -> dict[str, SentFile]:
    """The published files of an artifact, by their names in its folder.

    Raises:
        PublishError: if one of them would lie where the artifact has no files.
    """
    names: dict[str, SentFile] = {}
    for path, file in published.files.items():
        name = path.removeprefix(f"{artifact.base}/")
        if name != path and artifact.is_owner(name):
            names[name] = file
        elif path not in artifact.copied:
            raise PublishError(
                f"{where}/{MANIFEST} says that {path} is of {artifact.key}, which has its files in "
                f"{artifact.base}/. It was made by another version of this project, or is not to "
                "be trusted; nothing was fetched"
            )
    if artifact.manifest not in names:
        raise PublishError(f"{where}/{MANIFEST} names no {artifact.manifest} of {artifact.key}")
    if names[artifact.manifest].size > manifest.MAX_SIZE:
        raise PublishError(f"{where}: {artifact.manifest} of {artifact.key} is far too long")
    return names


def _guests(artifact: Artifact, names: Iterable[str]) -> list[str]:
    return [name for name in artifact.guests if name in names]


def _require_own_guests(store: Store, artifact: Artifact, names: Mapping[str, SentFile]) -> None:
    """What training put beside the artifact here is nobody's to replace: it may be the only copy.

    Raises:
        PublishError: if a value head lies here that is not the published one, or that is recorded
            here and not there.
    """
    for name in artifact.guests:
        path, published = store.path(artifact, name), names.get(name)
        if not os.path.lexists(path):
            continue
        if published is not None:
            if not _holds(path, published):
                raise PublishError(
                    f"{path} is another value head than the published one, and may be the only "
                    "copy: it is not replaced, and nothing was fetched. Move it away, then run "
                    "this again"
                )
        elif _recorded_head(store, artifact) == name:
            raise PublishError(
                f"{path} is recorded in {artifact.manifest} here, and {artifact.key} is published "
                "without a value head: the record would be lost, so nothing was fetched. If it "
                f"may be: wmtp value-head {artifact.spec.folder} --forget (the file stays), then "
                "run this again"
            )


def _holds(path: Path, file: SentFile) -> bool:
    """Whether a regular file lies there with these bytes."""
    try:
        return path.lstat().st_size == file.size and hash_file(path) == file.record
    except OSError:
        return False


def _recorded_head(store: Store, artifact: Artifact) -> object:
    try:
        return stated(store.manifest(artifact).document, "value_head", "path")
    except (MissingArtifact, CorruptArtifact):
        return None


def _described(
    data: bytes,
    artifact: Artifact,
    published: SentArtifact,
    names: Mapping[str, SentFile],
    where: str,
) -> Manifest:
    """The artifact's own manifest; it must say what ``MANIFEST.json`` says.

    Raises:
        PublishError: where they differ.
    """
    try:
        described = manifest.parse(data, f"{where}/{artifact.base}/{artifact.manifest}")
    except CorruptArtifact as error:
        raise PublishError(f"{error}. Nothing was taken; publish {artifact.key} again") from error
    others = {artifact.manifest, *artifact.guests}
    files = {name: file.record for name, file in names.items() if name not in others}
    if (
        files != described.files
        or described.content_sha256 != published.content_sha256
        or described.document.get("asset", artifact.key) != artifact.key
        or _heads(described, artifact) != {n: names[n].sha256 for n in _guests(artifact, names)}
    ):
        raise PublishError(
            f"{where}: {MANIFEST} and {artifact.base}/{artifact.manifest} contradict each other "
            f"about {artifact.key}. Nothing was taken; publish it again"
        )
    return described


def _heads(described: Manifest, artifact: Artifact) -> dict[str, object]:
    """Guest → SHA-256, as a manifest records them."""
    record = stated(described.document, "value_head")
    if VALUE_HEAD not in artifact.guests or stated(record, "path") != VALUE_HEAD:
        return {}
    return {VALUE_HEAD: stated(record, "sha256")}


def _partials(store: Store, artifact: Artifact) -> Path:
    """Where what arrived of files is kept, each under its hash."""
    return store.scratch(artifact) / "pull"


def _missing(store: Store, artifact: Artifact, names: Mapping[str, SentFile]) -> int:
    """Bytes that are to be fetched: neither committed here nor left of a pull that was cut off.

    Files that the manifest here records are not hashed for that.
    """
    try:
        committed = store.manifest(artifact).files
    except (MissingArtifact, CorruptArtifact, OSError):
        committed = {}
    missing: dict[str, int] = {}  # one of the same bytes under two names is fetched once
    for name, file in names.items():
        path = store.path(artifact, name)
        if name in committed:
            is_here = committed[name] == file.record and _size(path) == file.size
        else:
            is_here = _holds(path, file)
        if not is_here:
            left = _size(_partials(store, artifact) / file.sha256)
            missing[file.sha256] = file.size - (left if 0 <= left <= file.size else 0)
    return sum(missing.values())


def _size(path: Path) -> int:
    """Of a file; -1: there is none."""
    try:
        found = path.lstat()
    except OSError:
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


class _Fetch:
    """Fetches the files of one artifact.

    Attributes:
        fetched: bytes that came from the destination.
    """

    def __init__(
        self,
        store: Store,
        artifact: Artifact,
        destination: Destination,
        names: Mapping[str, SentFile],
        say: Say,
    ) -> None:
        self._store, self._artifact, self._destination = store, artifact, destination
        self._names, self._say = names, say
        self._folder = _partials(store, artifact)
        size = sum(file.size for file in names.values())
        self._progress = Progress(f"fetching {artifact.key}", size, say)
        self._held: dict[str, Path] = {}
        self.fetched = 0

    def is_all_committed(self) -> bool:
        """Whether every file lay in its place already."""
        return all(
            path == self._store.path(self._artifact, name) for name, path in self._held.items()
        )

    def get(self, name: str) -> Path:
        """Where a file lies that is the published one: committed here, or fetched.

        Raises:
            PublishError: if it cannot be had.
        """
        file, committed = self._names[name], self._store.path(self._artifact, name)
        with suppress(OSError):
            if committed.lstat().st_size == file.size and hash_file(committed) == file.record:
                self._progress.advance(file.size)
                self._held[name] = committed
                return committed
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / file.sha256
        _remove_unusable(partial, file.size)
        is_left = partial.exists()
        found = self._fetch(name, file, partial)
        if found != file.record and is_left:  # what was left here may be what is damaged
            partial.unlink()
            found = self._fetch(name, file, partial)
        if found != file.record:
            partial.unlink()
            raise PublishError(
                f"{self._artifact.base}/{name} at {self._destination.name} has SHA-256 "
                f"{found.sha256}, {MANIFEST} names {file.sha256}. It was not kept. Somebody "
                "publishes there now, or was cut off while files were put in their places, or it "
                "is damaged: publish it again, then run this again"
            )
        self._held[name] = partial
        return partial

    def _fetch(self, name: str, file: SentFile, partial: Path) -> FileRecord:
        """What the partial file holds when all of it came."""
        records: list[FileRecord] = []
        with HashedFile(partial, records.append, self._progress.advance, resume=True) as target:
            if target.tell():
                self._say(f"going on with {name}: {human_bytes(target.tell())} are here")
            path = f"{self._artifact.base}/{name}"
            for block in read_on(self._destination, path, target.tell(), file.size):
                target.write(block)
                self.fetched += len(block)
        return records[0]


def _remove_unusable(path: Path, size: int) -> None:
    """Remove a partial file that is too long, or is another's as well."""
    with suppress(FileNotFoundError):
        found = path.lstat()
        if found.st_size > size or found.st_nlink > 1 or not stat.S_ISREG(found.st_mode):
            path.unlink()


def _place(staged: Staged, name: str, path: Path, record: FileRecord) -> None:
    if name not in staged.files:
        staged.place(name, path, record, [])


def _commit(
    store: Store,
    artifact: Artifact,
    staged: Staged,
    described: Manifest,
    data: bytes,
    names: Mapping[str, SentFile],
    held: Mapping[str, Path],
    say: Say,
) -> None:
    """Commit, then give the manifest the bytes that were published: it has another time else."""
    _require_own_guests(store, artifact, names)  # training may have put one there meanwhile
    sealed = ("created_at", "manifest", "self_sha256")
    said = {key: value for key, value in described.document.items() if key not in sealed}
    store.commit(artifact, staged, said, say)
    with store.lock(artifact.unit, say):
        for name in _guests(artifact, held):
            _place_guest(held[name], store.path(artifact, name), names[name])
        draft = store.internal / "amended" / artifact.key  # where a kill leaves nothing beside it
        replace_file(draft, data)
        draft.replace(store.manifest_path(artifact))
        fsync_folder(store.folder(artifact))


def _place_guest(held: Path, target: Path, file: SentFile) -> None:
    """Give a fetched value head its name, if nobody put another there meanwhile."""
    if held == target:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(held, target)
    except FileExistsError:
        if not _holds(target, file):
            raise PublishError(
                f"{target} was put there meanwhile, and is another value head than the published "
                "one: it is not replaced. Move it away, then run this again"
            ) from None
    fsync_folder(target.parent)
