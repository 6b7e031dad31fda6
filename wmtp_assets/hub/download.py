"""Raw artifacts: what is here and is right is used; what is missing is fetched and verified.

A file is believed for its hash only: the SHA-256 that the hub announces for a file kept in LFS, the
git blob SHA-1 for any other. So it does not matter where the bytes come from: the committed
artifact, what an interrupted download left, a folder that somebody names, or the hub.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.errors import CorruptArtifact, DownloadError, MissingArtifact, StoreError
from wmtp_assets.base.progress import Progress, human_bytes, human_seconds
from wmtp_assets.catalogue.artifact import INTERNAL, Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec
from wmtp_assets.hub.endpoint import open_endpoint
from wmtp_assets.hub.pins import Lock, check_unchanged, pin_of, read_lock
from wmtp_assets.hub.rate import last_rate, remember_rate
from wmtp_assets.hub.remote import MAIN, RemoteFile, RemoteRepository, resolve, wanted_files
from wmtp_assets.hub.transfer import Held, Transfer, verify_held
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.files import BLOCK, HashedFile, open_regular
from wmtp_assets.storage.manifest import Document, FileRecord
from wmtp_assets.storage.store import Store, materialize_command

Downloaded = ModelSpec | DatasetSpec


def raw_name(file: RemoteFile) -> str:
    """Where an upstream file lies in the raw artifact."""
    return f"raw/{file.path}"


def known_files(
    store: Store, artifact: Artifact[Downloaded], lock: Lock, revision: str | None = None
) -> RemoteRepository | None:
    """What is known of the wanted files without asking the hub.

    That is what the lock file says, or the manifest of a committed artifact of the pinned commit;
    offline, and unpinned, that of any. None where there is neither, or the spec wants other files
    than it knows.

    Args:
        revision: the commit that is wanted; None: the pinned one.
    """
    spec = artifact.spec
    pin = revision or pin_of(store.settings, spec, lock)
    if pin is None and not _is_offline(store):
        return None
    for known in (lock.find(spec.repository), committed_files(store, artifact)):
        if known is None or pin not in (None, known.commit):
            continue
        by_path = {file.path: file for file in known.files}
        try:
            paths = wanted_files(spec, by_path)
        except ValueError:
            continue
        return RemoteRepository(known.commit, tuple(by_path[path] for path in paths))
    return None


def _is_offline(store: Store) -> bool:
    """Whether the hub must not be asked; the sample's runs here."""
    from huggingface_hub import is_offline_mode

    return store.settings.source == "hub" and is_offline_mode()


def committed_files(store: Store, artifact: Artifact[Downloaded]) -> RemoteRepository | None:
    """What the hub announced of the committed raw files; None: nothing is committed, or damaged."""
    try:
        source = store.manifest(artifact).document["source"]
        announced = source["announced"].items()
        files = tuple(RemoteFile.of_document(path, entry) for path, entry in announced)
        return RemoteRepository(source["revision"], files)
    except (MissingArtifact, CorruptArtifact, KeyError, TypeError, ValueError, AttributeError):
        return None


@dataclass(frozen=True)
class Places:
    """Where the bytes of raw files may lie already.

    Attributes:
        store, artifact: the raw artifact; what lies in its folder counts, committed or not.
        others: folders with upstream's paths, which somebody named; links in there are followed, as
            the client's cache is made of them.
    """

    store: Store
    artifact: Artifact[Downloaded]
    others: Sequence[Path] = ()

    @property
    def partials(self) -> Path:
        """The folder of what interrupted downloads left."""
        return self.store.scratch(self.artifact) / "partial"

    def candidates(self, file: RemoteFile) -> Iterator[Path]:
        """Regular files of the right size that may be the wanted one."""
        places = [
            self.partials / file.key,
            self.store.path(self.artifact, raw_name(file)),
            *((folder / file.path).resolve() for folder in self.others),
        ]
        for path in places:
            try:
                with open_regular(path) as opened:
                    size = os.fstat(opened.fileno()).st_size
            except OSError:
                continue
            if size == file.size:
                yield path

    def bytes_here(self, file: RemoteFile) -> int:
        """Bytes that need not be fetched, by size alone: nothing is hashed."""
        if any(True for _ in self.candidates(file)):
            return file.size
        partial = self.partials / file.key
        return min(partial.stat().st_size, file.size) if partial.is_file() else 0

    def bytes_to_copy(self, file: RemoteFile) -> int:
        """Bytes that are here, but on another filesystem."""
        device = self.store.internal.stat().st_dev
        here = next(self.candidates(file), None)
        return file.size if here is not None and here.stat().st_dev != device else 0

    def find(
        self, file: RemoteFile, advance: Callable[[int], None], say: Callable[[str], None]
    ) -> Held | None:
        """The wanted file, where it is here and its bytes are right."""
        for path in self.candidates(file):
            held = verify_held(file, path, advance)
            if held is not None:
                return held
            advance(-file.size)
            say(f"{path} has the size of {file.path}, but other bytes: it is not used")
            if path.parent == self.partials:
                path.unlink()
        return None


def build_raw(build: Build[Downloaded]) -> Document:
    """Bring the raw files of a model or dataset together, exactly as upstream has them.

    Raises:
        DownloadError: if a file cannot be had, or is not what the hub announced.
        StoreError: if it will not fit on the disk.
    """
    artifact, store = build.artifact, build.store
    spec = artifact.spec
    lock = read_lock(store.settings)
    places = Places(store, artifact, build.others)
    known = known_files(store, artifact, lock, build.revision)
    _remove_other_partials(places, known)
    held: dict[str, Held] = {}
    if known is not None and all(any(places.candidates(file)) for file in known.files):
        build.say(f"{spec.repository.id} at {known.commit}: all files are here, verifying them")
        _check_fits(build, places, known)
        held = _find_all(build, places, known)
    if known is not None and len(held) == len(known.files):
        remote, kind = known, _committed_endpoint(store, artifact)
    else:
        remote, kind = _fetch_all(build, places, known, held)
    for file in remote.files:
        _place(build, places, file, held[file.path])
    return {
        "name": spec.folder,
        "version": spec.version,
        "format": "upstream",
        "source": {
            "repo": spec.repository.id,
            "type": spec.repository.type,
            "revision": remote.commit,
            "pinned": pin_of(store.settings, spec, lock) is not None,
            "endpoint": kind,
            "license": spec.repository.license,
            "files": {file.path: held[file.path].record.sha256 for file in remote.files},
            "announced": {file.path: file.as_document() for file in remote.files},
        },
    }


def _find_all(build: Build[Downloaded], places: Places, known: RemoteRepository) -> dict[str, Held]:
    progress = Progress(f"verifying {build.artifact.key}", known.size, build.say)
    found = {file.path: places.find(file, progress.advance, build.say) for file in known.files}
    return {path: held for path, held in found.items() if held is not None}


def _committed_endpoint(store: Store, artifact: Artifact[Downloaded]) -> str:
    try:
        return store.manifest(artifact).document["source"]["endpoint"]
    except (MissingArtifact, CorruptArtifact, KeyError):
        return "local"


def _fetch_all(
    build: Build[Downloaded], places: Places, known: RemoteRepository | None, held: dict[str, Held]
) -> tuple[RemoteRepository, str]:
    """Ask the hub, and fetch what is not in ``held``; return what it announced, and its kind."""
    store, artifact = build.store, build.artifact
    spec, retry = artifact.spec, materialize_command(artifact.key)
    lock = read_lock(store.settings)
    with open_endpoint(store.settings, spec.repository) as endpoint:
        pin = build.revision or pin_of(store.settings, spec, lock)
        remote = resolve(endpoint, spec, pin or MAIN, retry)
        check_unchanged(spec.repository, known, remote, "what is known here")
        before = committed_files(store, artifact)
        check_unchanged(spec.repository, before, remote, "the committed artifact")
        _remove_other_partials(places, remote)
        _check_space(build, places, remote)
        progress = Progress(f"downloading {spec.repository.id}", remote.size, build.say)
        advice = _advice(store)
        transfer = Transfer(
            endpoint, spec.repository, remote.commit, places.partials, retry, advice, build.say
        )
        with _timed(build, places, remote):
            for file in remote.files:
                found = held.get(file.path) or places.find(file, progress.advance, build.say)
                held[file.path] = found or transfer.fetch(file, progress.advance)
    return remote, endpoint.kind


def _advice(store: Store) -> str:
    if store.settings.source == "hub":
        return "Run again, and if it happens again, do not trust this endpoint"
    hub = store.settings.root / INTERNAL / "hub"
    return f"The sample hub's files were changed; have them made anew: rm -r '{hub}'"


@contextmanager
def _timed(build: Build[Downloaded], places: Places, remote: RemoteRepository) -> Iterator[None]:
    """Remember how fast the transfer was, for the next plan."""
    missing = sum(file.size - places.bytes_here(file) for file in remote.files)
    started = time.monotonic()
    yield
    if build.store.settings.source == "hub":
        remember_rate(build.store, missing, time.monotonic() - started)


def _check_space(build: Build[Downloaded], places: Places, remote: RemoteRepository) -> None:
    """Say what is to be done; refuse what will not fit.

    Raises:
        StoreError: with bytes to fetch, bytes here and bytes free.
    """
    here = sum(map(places.bytes_here, remote.files))
    missing = remote.size - here
    free = shutil.disk_usage(build.store.internal).free
    repository = build.spec.repository.id
    count = len(remote.files)
    rate = last_rate(build.store)
    peak = remote.size + _replaced(build, remote)
    took = f" (about {human_seconds(missing / rate)} at the last rate)" if rate and missing else ""
    build.say(
        f"{repository} at {remote.commit}: {count} file{'s' * (count != 1)}, "
        f"{human_bytes(remote.size)}; {human_bytes(missing)} to download{took}, "
        f"{human_bytes(here)} here; peak disk {human_bytes(peak)}, {human_bytes(free)} free"
    )
    _check_fits(build, places, remote)


def _replaced(build: Build[Downloaded], remote: RemoteRepository) -> int:
    """Bytes of committed files that are kept as the generation before, beside the new ones."""
    before = committed_files(build.store, build.artifact)
    wanted = {file.key for file in remote.files}
    return sum(file.size for file in before.files if file.key not in wanted) if before else 0


def _check_fits(build: Build[Downloaded], places: Places, remote: RemoteRepository) -> None:
    here = sum(map(places.bytes_here, remote.files))
    missing = remote.size - here
    copied = sum(map(places.bytes_to_copy, remote.files))
    free = shutil.disk_usage(build.store.internal).free
    if missing + copied > free:
        where = f" ({human_bytes(copied)} on another filesystem, to copy)" if copied else ""
        raise StoreError(
            f"{build.artifact.key} will not fit: {human_bytes(missing)} to download, "
            f"{human_bytes(here)} here{where}, {human_bytes(free)} free under {build.store.root}. "
            "Free some space, or move the root with WMTP_STORAGE_ROOT"
        )


def _remove_other_partials(places: Places, remote: RemoteRepository | None) -> None:
    """Remove what was left of files that are no longer wanted."""
    if remote is None or not places.partials.is_dir():
        return
    wanted = {file.key for file in remote.files}
    for path in places.partials.iterdir():
        if path.name not in wanted:
            path.unlink()


def _place(build: Build[Downloaded], places: Places, file: RemoteFile, held: Held) -> None:
    """Put a verified file into the staging folder: by a link, or copied from another filesystem."""
    try:
        build.staged.place(raw_name(file), held.path, held.record, held.parts)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        copied = _copy(places, file, held)
        build.staged.place(raw_name(file), copied.path, copied.record, copied.parts)


def _copy(places: Places, file: RemoteFile, held: Held) -> Held:
    """A copy of a file on the root's filesystem, hashed while it is written."""
    target = places.partials / file.key
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    records: list[FileRecord] = []
    parts: list[str] = []
    with (
        open_regular(held.path) as source,
        HashedFile(target, records.append, _ignore, parts) as to,
    ):
        while block := source.read(BLOCK):
            to.write(block)
    if records[0] != held.record:
        target.unlink()
        raise DownloadError(f"{held.path} changed while it was copied; run again")
    return Held(target, records[0], parts)


def _ignore(size: int) -> None:
    """Progress of a copy is not said."""
