"""Fetching published artifacts into a storage root: verified, resumed, committed as any other.

What ``MANIFEST.json`` says is compared with the catalogue of this machine: an artifact writes only
where it would if it were made here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, PublishError, SpecError
from wmtp_assets.base.progress import Progress, Say, human_bytes, silent
from wmtp_assets.base.settings import SOURCE_VARIABLE, timestamp
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.destinations.changes import is_newer, read_published
from wmtp_assets.destinations.destination import READINGS, Destination, read_rest
from wmtp_assets.destinations.listing import MANIFEST, Listing, SentArtifact, SentFile
from wmtp_assets.documents.of_storage.release import parse_release, released
from wmtp_assets.operations.value_head import recorded_heads
from wmtp_assets.rules.findings import as_text
from wmtp_assets.storage import manifest, signatures
from wmtp_assets.storage.files import fsync_folder, replace_file
from wmtp_assets.storage.manifest import FileRecord, Manifest
from wmtp_assets.storage.pulls import Pull, pulls, remember_pull
from wmtp_assets.storage.scratch import remove_scratch
from wmtp_assets.storage.signatures import Trust
from wmtp_assets.storage.store import Staged, Store
from wmtp_assets.transfer.arrival import Arrival, Partial
from wmtp_assets.transfer.places import ExpectedFile, Held, Places, require_space


@dataclass(frozen=True)
class Pulled:
    """An artifact that was fetched.

    Attributes:
        size: bytes of its files.
        fetched: bytes that came from the destination; the others were here.
        release: which one it came from; None: nothing was released there.
        signer: who signed it; empty: nobody asked.
    """

    key: str
    files: int
    size: int
    fetched: int
    content_sha256: str
    release: str | None
    signer: str

    @property
    def checked(self) -> str:
        """What is known of it, for people."""
        release = f"of release {self.release}" if self.release else "of no release"
        signer = f"signed by {self.signer}" if self.signer else "no signature was asked for"
        return f"every byte hashed; {release}; {signer}"


def read_listing(destination: Destination) -> Listing:
    """What is published.

    Raises:
        PublishError: if nothing is, or it cannot be read.
    """
    listing = read_published(destination)
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
        missing += Places(store, artifact, in_parts=False).missing(names.values(), is_hashed=True)
    first, *others = [artifact.key for artifact in artifacts]
    more = f" and {len(others)} more" if others else ""
    require_space(store, f"{first}{more}", missing, f"{human_bytes(missing)} to fetch")


def require_forward(store: Store, artifacts: Sequence[Artifact], listing: Listing) -> None:
    """Refuse artifacts of an older release than those that are here came from.

    Raises:
        PublishError: naming both.
    """
    came, here = pulls(store), _released_here(store)
    for artifact in artifacts:
        published = listing.artifacts[artifact.key]
        committed = store.find_manifest(artifact)
        if committed is None or committed.content_sha256 == published.content_sha256:
            continue
        last = came.get(artifact.key)
        is_of_it = last is not None and last.content_sha256 == committed.content_sha256
        releases = [last.release if last and is_of_it else None, *here.get(artifact.key, ())]
        for release in filter(None, releases):
            if is_newer(release, published.release):
                older = f"release {published.release}" if published.release else "no release"
                raise PublishError(
                    f"{artifact.key} is here of release {as_text(release)}, and published of "
                    f"{as_text(older)}: it would go back. {FORWARD}"
                )


FORWARD = "Nothing was fetched; if it must go back: --downgrade"


def _released_here(store: Store) -> dict[str, list[str]]:
    """Key of an artifact → the version of the release here that has what is committed."""
    found: dict[str, list[str]] = {}
    for about in store.catalogue.of_kind("release"):
        with suppress(CorruptArtifact, InvalidInput):
            release = released(store, about)
            for key, frozen in release.artifacts.items() if release else ():
                manifest = (
                    store.find_manifest(store.catalogue[key]) if key in store.catalogue else None
                )
                if release and manifest and manifest.content_sha256 == frozen.content_sha256:
                    found[key] = [release.version]
            if release:
                found[about.key] = [release.version]
    return found


def _require_later(store: Store, artifact: Artifact, described: Manifest) -> None:
    """Refuse what was made earlier than what is committed here.

    Raises:
        PublishError: naming both times.
    """
    committed = store.find_manifest(artifact)
    if committed is None or committed.content_sha256 == described.content_sha256:
        return
    here, there = (str(it.document["created_at"]) for it in (committed, described))
    if there < here:
        raise PublishError(
            f"{artifact.key} is here as it was made at {as_text(here)}, and published as it was "
            f"made at {as_text(there)}: it would go back. {FORWARD}"
        )


def require_signed(
    store: Store,
    artifacts: Sequence[Artifact],
    destination: Destination,
    listing: Listing,
    trust: Trust,
) -> dict[str, str]:
    """Who signed each artifact as it is published; nothing is fetched but signatures and release.

    The release must be signed, and have the content that is published of each.

    Raises:
        PublishError: if something is signed by nobody who is believed, or is not of the release.
    """
    (about,) = store.catalogue.of_kind("release")
    (name,) = about.owns
    if about.key not in listing.artifacts:
        raise PublishError(
            f"no release is published at {destination.name}, so none is signed. Nothing was "
            f"fetched; publish it there: wmtp publish NAME {about.key} --to URL"
        )
    signers = {about.key: _signer(about, destination, listing, trust)}
    path = f"{about.base}/{name}"
    release = parse_release(
        _fetch(destination, path, listing.artifacts[about.key].files.get(path)),
        f"{destination.name}/{path}",
    )
    for artifact in artifacts:
        if artifact.key != about.key:
            signers[artifact.key] = _signer(artifact, destination, listing, trust)
            frozen = release.artifacts.get(artifact.key)
            published = listing.artifacts[artifact.key]
            if frozen is None or frozen.content_sha256 != published.content_sha256:
                raise PublishError(
                    f"{artifact.key} at {destination.name} is not what release "
                    f"{as_text(release.version)} has, which {signers[about.key]} signed. {UNSIGNED}"
                )
    return signers


UNSIGNED = "Nothing was fetched; publish it again, signed: wmtp sign, wmtp publish"


def _signer(artifact: Artifact, destination: Destination, listing: Listing, trust: Trust) -> str:
    """Who signed what is published of an artifact."""
    published = listing.artifacts[artifact.key]
    where = f"{destination.name}/{artifact.signature}"
    sent = published.files.get(artifact.signature)
    if sent is None:
        raise PublishError(f"{artifact.key} is not signed at {destination.name}. {UNSIGNED}")
    files = {
        name: published.files[f"{artifact.base}/{name}"].record
        for name in _names(artifact, published, destination.name)
    }
    try:
        return trust.verify(_fetch(destination, artifact.signature, sent), files, where)
    except CorruptArtifact as error:
        raise PublishError(f"{error}. Nothing was fetched") from error


def _fetch(destination: Destination, path: str, sent: SentFile | None) -> bytes:
    """A small published file.

    Raises:
        PublishError: if it is not the one that is published.
    """
    if sent is not None and sent.size <= signatures.MAX_SIZE:
        data = b"".join(read_rest(destination, path, 0, sent.size))
        if signatures.record_of(data) == sent.record:
            return data
    raise PublishError(
        f"{path} at {destination.name} is not what {MANIFEST} names. Publish it again, then run "
        "this again"
    )


def pull(
    store: Store,
    artifact: Artifact,
    destination: Destination,
    listing: Listing,
    say: Say = silent,
    *,
    signer: str = "",
    downgrade: bool = False,
) -> Pulled:
    """Fetch what is missing of an artifact, verify every byte, and commit it.

    Args:
        signer: who signed it, as :func:`require_signed` found.
        downgrade: it may be older than what is here.

    Raises:
        PublishError: if what is published contradicts itself or the catalogue, another value head
            lies here than is published, other bytes come than ``MANIFEST.json`` names, or the
            destination refuses. What is committed here is as before; what arrived of a file is
            kept, and the next call resumes it.
        StoreError: if the disk is full or refuses, something lies where a folder must be, or the
            root belongs to the other source.
    """
    published = listing.artifacts[artifact.key]
    names = _names(artifact, published, destination.name)
    # the published manifest comes with the files, so that nobody wants hashes of parts
    places = Places(store, artifact, in_parts=False)
    progress = Progress(f"fetching {artifact.key}", sum(f.size for f in names.values()), say)
    origin = _Origin(destination, artifact.base)
    arrival = Arrival(places, origin, progress.advance, progress.found, say, READINGS)
    with store.stage(artifact, say) as staged:
        require_room(store, [artifact], destination, listing, say)
        _require_own_guests(places, names)
        places.keep_only(names.values())
        own = arrival.get(names[artifact.manifest])
        data = own.path.read_bytes()
        described = _described(data, artifact, published, names, destination.name)
        if not downgrade:
            _require_later(store, artifact, described)
        signature = published.files.get(artifact.signature)
        signed = _fetch(destination, artifact.signature, signature) if signature else None
        wanted = [*described.files, *(name for name in artifact.guests if name in names)]
        held = {artifact.manifest: own} | {name: arrival.get(names[name]) for name in wanted}
        if all(found.path == places.committed(names[name]) for name, found in held.items()):
            say(f"{artifact.key}: all of it is here already, and verified")
        else:
            for name in described.files:
                places.place(staged, names[name], held[name])
            _commit(places, staged, described, data, names, held, say)
        for name in artifact.copied:
            store.write_at_root(name, store.read(artifact, name))
        if artifact.copied:
            fsync_folder(store.root)
        if signed is not None:
            store.write_at_root(artifact.signature, signed)
        remove_scratch(store, artifact, say)
        _remember(store, artifact, destination, described, published.release, signer)
    return Pulled(
        artifact.key,
        len(described.files),
        described.size,
        arrival.fetched,
        described.content_sha256,
        published.release,
        signer,
    )


def _remember(
    store: Store,
    artifact: Artifact,
    destination: Destination,
    described: Manifest,
    release: str | None,
    signer: str,
) -> None:
    """Keep how it came here; what is known already of the same content stays known."""
    last = pulls(store).get(artifact.key)
    now = Pull(
        source=destination.name,
        at=timestamp(),
        content_sha256=described.content_sha256,
        release=release,
        signer=signer,
    )
    if last is None or now != last.model_copy(update={"at": now.at}):
        remember_pull(store, artifact.key, now)


@dataclass(frozen=True)
class _Origin:
    """A destination as an origin of bytes.

    Attributes:
        base: the artifact's folder there.
    """

    destination: Destination
    base: str

    def send(self, file: ExpectedFile, target: Partial) -> None:
        """Write what is missing of a file; a block is written while the next one comes."""
        path = f"{self.base}/{file.path}"
        with ThreadPoolExecutor(1) as beside:
            writing = None
            for block in read_rest(self.destination, path, target.tell(), file.size):
                if writing is not None:
                    writing.result()
                writing = beside.submit(target.write, block)
            if writing is not None:
                writing.result()

    def mismatch(self, file: ExpectedFile, found: FileRecord | None, path: Path) -> PublishError:
        """Say that other bytes came than are published."""
        has = f"SHA-256 {found.sha256}" if found else "more bytes"
        return PublishError(
            f"{self.base}/{file.path} at {self.destination.name} has {has}, {MANIFEST} names "
            f"{file.sha256}. It was not kept. Somebody publishes there now, or was cut off while "
            "files were put in their places, or it is damaged: publish it again, then run this "
            "again"
        )


def _names(artifact: Artifact, published: SentArtifact, where: str) -> dict[str, ExpectedFile]:
    """The published files of an artifact, by their names in its folder.

    Raises:
        PublishError: if one of them would lie where the artifact has no files.
    """
    names: dict[str, ExpectedFile] = {}
    for path, file in published.files.items():
        name = path.removeprefix(f"{artifact.base}/")
        if name != path and artifact.is_owner(name):
            names[name] = ExpectedFile(name, file.size, file.sha256)
        elif path not in artifact.copied and path != artifact.signature:
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


def _require_own_guests(places: Places, names: Mapping[str, ExpectedFile]) -> None:
    """What training put beside the artifact here is nobody's to replace: it may be the only copy.

    Raises:
        PublishError: if a value head lies here that is not the published one, or that is recorded
            here and not there.
    """
    store, artifact = places.store, places.artifact
    committed = store.find_manifest(artifact)
    recorded = recorded_heads(artifact, committed.document) if committed else {}
    here = [name for name in artifact.guests if os.path.lexists(store.path(artifact, name))]
    for name in here:
        path, published = store.path(artifact, name), names.get(name)
        if published is not None and not places.verify(published, path):
            raise PublishError(
                f"{path} is another value head than the published one, and may be the only copy: "
                "it is not replaced, and nothing was fetched. Move it away, then run this again"
            )
        if published is None and name in recorded:
            raise PublishError(
                f"{path} is recorded in {artifact.manifest} here, and {artifact.key} is published "
                "without a value head: the record would be lost, so nothing was fetched. If it "
                f"may be: wmtp value-head {artifact.spec.folder} --forget (the file stays), then "
                "run this again"
            )


def _described(
    data: bytes,
    artifact: Artifact,
    published: SentArtifact,
    names: Mapping[str, ExpectedFile],
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
    guests = {name: names[name].sha256 for name in artifact.guests if name in names}
    others = {artifact.manifest, *artifact.guests}
    files = {name: (f.size, f.sha256) for name, f in names.items() if name not in others}
    if (
        files != {name: (record.size, record.sha256) for name, record in described.files.items()}
        or described.content_sha256 != published.content_sha256
        or described.document.get("asset", artifact.key) != artifact.key
        or recorded_heads(artifact, described.document) != guests
    ):
        raise PublishError(
            f"{where}: {MANIFEST} and {artifact.base}/{artifact.manifest} contradict each other "
            f"about {artifact.key}. Nothing was taken; publish it again"
        )
    return described


def _commit(
    places: Places,
    staged: Staged,
    described: Manifest,
    data: bytes,
    names: Mapping[str, ExpectedFile],
    held: Mapping[str, Held],
    say: Say,
) -> None:
    """Commit, then give the manifest the bytes that were published: it has another time else."""
    store, artifact = places.store, places.artifact
    _require_own_guests(places, names)  # training may have put one there since
    store.commit(artifact, staged, described.description, say)
    with store.lock(artifact.unit, say):
        for name in held.keys() & {*artifact.guests}:
            _place_guest(places, names[name], held[name].path)
        draft = store.internal / "amended" / artifact.key  # where a kill leaves nothing beside it
        replace_file(draft, data)
        draft.replace(store.manifest_path(artifact))
        fsync_folder(store.folder(artifact))
    store.hashed(artifact, described, store.sign(artifact, [artifact.manifest]), say)


def _place_guest(places: Places, file: ExpectedFile, held: Path) -> None:
    """Give a fetched value head its name, if nobody put another there in between."""
    target = places.committed(file)
    if held == target:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(held, target)
    except FileExistsError:
        if not places.verify(file, target):
            raise PublishError(
                f"{target} was just put there, and is another value head than the published "
                "one: it is not replaced. Move it away, then run this again"
            ) from None
    fsync_folder(target.parent)
