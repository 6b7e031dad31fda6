"""Raw artifacts: what is here and is right is used; what is missing is fetched and verified.

A file is believed for its hash only: the SHA-256 that the hub announces for a file kept in LFS, the
git blob SHA-1 for any other. So it does not matter where the bytes come from: the committed
artifact, what an interrupted download left, a folder that somebody names, or the hub.

``huggingface_hub`` moves the bytes, and retries lost connections and 429. What it gives up on is
tried again by the arrival: answers of 500 and above, and bodies that end early.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.errors import (
    CorruptArtifact,
    DownloadError,
    InvalidInput,
    MissingArtifact,
    WmtpError,
)
from wmtp_assets.base.progress import Progress, human_bytes, human_seconds
from wmtp_assets.catalogue.artifact import INTERNAL, Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, Repository
from wmtp_assets.hub.endpoint import Endpoint, open_endpoint
from wmtp_assets.hub.folder import FolderOrigin
from wmtp_assets.hub.preflight import Judge, Preflight, is_large
from wmtp_assets.hub.remote import (
    MAIN,
    Pins,
    RemoteFile,
    RemoteRepository,
    check_unchanged,
    head_of,
    pin_of,
    read_pins,
    resolve,
    wanted_files,
)
from wmtp_assets.rules.findings import stated
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document, FileRecord, Manifest
from wmtp_assets.storage.store import Store, materialize_command
from wmtp_assets.transfer.arrival import Arrival, Interrupted, Partial
from wmtp_assets.transfer.places import (
    ExpectedFile,
    Held,
    Places,
    download_rate,
    free_space,
    git_sha1_of,
    last_rate,
    remember_rate,
    require_space,
)

RAW = "raw/"
"""Where upstream's files lie in a raw artifact, under their own paths."""

FORESEEN = "would be refused: "
"""Before the reason for which a model would be refused that is not here yet."""

Downloaded = ModelSpec | DatasetSpec


@dataclass(frozen=True)
class HubOrigin:
    """The hub as an origin of bytes: one repository at one commit.

    Attributes:
        retry: the command that resumes after a failure.
        advice: what to do when other bytes arrive than were announced.
    """

    endpoint: Endpoint
    repository: Repository
    commit: str
    retry: str
    advice: str

    def send(self, file: ExpectedFile, target: Partial) -> None:
        """Write what is missing of a file.

        Raises:
            Interrupted: if the connection is lost, or the hub is broken.
            DownloadError: if it fails for good; what arrived is kept.
            OSError: if the local disk refuses.
        """
        from wmtp_assets.hub.client import (
            HfHubHTTPError,
            HTTPError,
            download,
            explain,
            first_line,
            status_of,
        )

        try:
            download(self.endpoint, self.repository, self.commit, file.path, target, file.size)
        except (HTTPError, OSError, RecursionError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the local disk
            # the client calls itself when a line is lost
            lost = ConnectionError("the connection is lost again and again")
            problem = lost if isinstance(error, RecursionError) else error
            here = f"{human_bytes(target.tell())} of {human_bytes(file.size)} are here and kept"
            said = explain(self.endpoint, self.repository, self.commit, problem, self.retry)
            failure = DownloadError(f"{file.path}: {here}. {said}")
            if isinstance(error, HfHubHTTPError) and status_of(error) < 500:
                raise failure from error
            reason = f"{type(problem).__name__}: {first_line(problem)}"
            raise Interrupted(reason, failure) from error

    def mismatch(self, file: ExpectedFile, found: FileRecord | None, path: Path) -> DownloadError:
        """Say that other bytes arrived than were announced."""
        which = f"{file.path} of {self.repository.id} at {self.commit}"
        if found is None:
            return DownloadError(
                f"{which} is longer than the announced {file.size} bytes. It was not kept. "
                f"{self.advice}"
            )
        kind, expected = ("SHA-256", file.sha256) if file.sha256 else ("git SHA-1", file.blob_id)
        actual = found.sha256 if file.sha256 else git_sha1_of(path)
        return DownloadError(
            f"{which} arrived with {kind} {actual} ({found.size} bytes), announced was {expected} "
            f"({file.size} bytes). It was not kept. {self.advice}"
        )


def known_files(
    store: Store, artifact: Artifact[Downloaded], pins: Pins, revision: str | None = None
) -> RemoteRepository | None:
    """What is known of the wanted files without asking the hub.

    That is what the pins say, or the manifest of a committed artifact of the pinned commit;
    offline, and unpinned, that of any. None where there is neither, or the spec wants other files
    than it knows.

    Args:
        revision: the commit that is wanted; None: the pinned one.
    """
    spec = artifact.spec
    pin = revision or pin_of(store.settings, spec, pins)
    if pin is None and not _is_offline(store, spec.repository):
        return None
    for known in (pins.find(spec.repository), committed_files(store, artifact)):
        if known is not None and pin in (None, known.commit):
            by_path = {file.path: file for file in known.files}
            with suppress(ValueError):
                paths = wanted_files(spec, by_path)
                return RemoteRepository(known.commit, tuple(by_path[path] for path in paths))
    return None


def _is_offline(store: Store, repository: Repository) -> bool:
    """Whether the hub must not be asked; the sample's runs here, and a folder is here."""
    from wmtp_assets.hub.client import is_offline_mode

    return store.settings.source == "hub" and not repository.is_folder and is_offline_mode()


def moved(
    store: Store, artifact: Artifact[Downloaded], manifest: Manifest, asks: bool
) -> tuple[str, str] | None:
    """The commit that the raw files are of, and the one that is used now; None: the same.

    Args:
        asks: ask the hub for the head of main where no commit is pinned; False: any is right then.

    Raises:
        DownloadError: if the hub cannot be reached.
    """
    used, spec = str(stated(manifest.document, "source", "revision")), artifact.spec
    now = pin_of(store.settings, spec, read_pins(store.settings, spec.repository))
    if now is None and asks and not _is_offline(store, spec.repository):
        with open_endpoint(store.settings, spec.repository) as endpoint:
            now = head_of(endpoint, spec)
    return (used, now) if now not in (None, used) else None


def proven(artifact: Artifact[Downloaded], manifest: Manifest) -> list[str]:
    """Which settings follow from what a raw manifest says of its source and its files."""
    spec, source = artifact.spec, manifest.document.get("source")
    said = {"repo": spec.repository.id, "type": spec.repository.type}
    said["license"] = spec.repository.license
    names = {"repo": "id", "type": "type", "license": "license"}
    found = [f"repository.{names[k]}" for k, now in said.items() if stated(source, k) == now]
    there = {name.removeprefix(RAW) for name in manifest.files if name.startswith(RAW)}
    with suppress(ValueError):
        if {*wanted_files(spec, there)} == there:
            found += ["files", "splits.*.files"]
    return found


def committed_files(store: Store, artifact: Artifact[Downloaded]) -> RemoteRepository | None:
    """What the hub announced of the committed raw files; None: nothing is committed, or damaged."""
    try:
        source = store.manifest(artifact).document["source"]
        return RemoteRepository.of_document(source["revision"], source["announced"])
    except (MissingArtifact, CorruptArtifact, KeyError, TypeError, ValueError, AttributeError):
        return None


def build_raw(build: Build[Downloaded], judge: Judge) -> Document:
    """Bring the raw files of a model or dataset together, exactly as upstream has them.

    Args:
        judge: refuses a model that nothing can be made from, before its large files are fetched.

    Raises:
        DownloadError: if a file cannot be had, or is not what the hub announced.
        InvalidInput: if the judge refuses them.
        StoreError: if it will not fit on the disk.
    """
    artifact, store = build.artifact, build.store
    spec = artifact.spec
    pins = read_pins(store.settings, spec.repository)
    places = Places(store, artifact, RAW, build.others)
    known = known_files(store, artifact, pins, build.revision)
    held: dict[str, Held] = {}
    if known is not None:
        places.keep_only(known.files)
        if all(any(places.candidates(file)) for file in known.files):
            build.say(f"{spec.repository.id} at {known.commit}: all files are here, verifying them")
            _check_fits(build, places, known)
            progress = Progress(f"verifying {artifact.key}", known.size, build.say)
            found = [places.find(file, progress.advance, build.say) for file in known.files]
            held = {f.path: here for f, here in zip(known.files, found, strict=True) if here}
    if known is not None and len(held) == len(known.files):
        committed = store.find_manifest(artifact)
        endpoint = stated(committed and committed.document, "source", "endpoint")
        remote, kind = known, endpoint or "local"
    else:
        remote, kind = _fetch_all(build, places, known, held, judge)
    for file in remote.files:
        places.place(build.staged, file, held[file.path])
    return {
        "name": spec.folder,
        "version": spec.version,
        "format": "upstream",
        "source": {
            "repo": spec.repository.id,
            "type": spec.repository.type,
            "revision": remote.commit,
            "pinned": pin_of(store.settings, spec, pins) is not None,
            "endpoint": kind,
            "license": spec.repository.license,
            "files": {file.path: held[file.path].record.sha256 for file in remote.files},
            "announced": {file.path: file.as_document() for file in remote.files},
        },
    }


def _fetch_all(
    build: Build[Downloaded],
    places: Places,
    known: RemoteRepository | None,
    held: dict[str, Held],
    judge: Judge,
) -> tuple[RemoteRepository, str]:
    """Ask the hub, and fetch what is not in ``held``, small files first; return what it announced,
    and its kind."""
    store, artifact = build.store, build.artifact
    spec, retry = artifact.spec, materialize_command(artifact.key)
    with open_endpoint(store.settings, spec.repository, build.say) as endpoint:
        pin = build.revision or pin_of(
            store.settings, spec, read_pins(store.settings, spec.repository)
        )
        if known is not None and endpoint.kind == "folder":
            remote = known  # pinned: what is copied is hashed
        else:
            remote = resolve(endpoint, spec, pin or MAIN, retry)
        before = committed_files(store, artifact)
        for old, where in ((known, "what is known here"), (before, "the committed artifact")):
            check_unchanged(spec.repository, old, remote, where)
        places.keep_only(remote.files)
        _check_space(build, places, remote)
        is_folder = endpoint.kind == "folder"
        what = f"{'copying' if is_folder else 'downloading'} {spec.repository.id}"
        progress = Progress(what, remote.size, build.say)
        if is_folder:
            advice = f"If it was changed on purpose: wmtp lock --update {artifact.key}"
            origin = FolderOrigin(Path(endpoint.url), places, advice)
            for file in remote.files:
                if file.path not in held and not any(places.candidates(file)):
                    origin.clone(file)
        else:
            origin = HubOrigin(endpoint, spec.repository, remote.commit, retry, _advice(store))
        arrival = Arrival(places, origin, progress.advance, progress.found, build.say)
        small = [file for file in remote.files if not is_large(file)]
        held |= {f.path: arrival.get(f) for f in small if f.path not in held}
        if build.revision is None:  # else it is what was committed that is put right
            preflight = Preflight(
                store, artifact, RAW, endpoint, spec.repository, remote.commit, judge
            )
            _require_no_refusal(build, places, remote, held, preflight)
        held |= {f.path: arrival.get(f) for f in remote.files if f.path not in held}
    if store.settings.source == "hub" and not is_folder:
        remember_rate(download_rate(store), arrival.fetched, arrival.seconds)
    return remote, endpoint.kind


def _require_no_refusal(
    build: Build[Downloaded],
    places: Places,
    remote: RemoteRepository,
    held: dict[str, Held],
    preflight: Preflight,
) -> None:
    """Judge a repository before the first of its large files is fetched; say what is against it
    where only raw files are wanted.

    Raises:
        InvalidInput: if it is refused; the small files are kept.
    """
    large = _to_judge(build.artifact, places, remote)
    if not large:
        return
    reason = preflight.refusal(
        remote.files, lambda file: held[file.path].path.read_bytes(), build.say
    )
    key = build.artifact.key
    if reason and build.alone:
        build.say(
            f"only {key} is wanted, and is downloaded; what is made from it {FORESEEN}{reason}"
        )
    elif reason:
        raise InvalidInput(
            f"{key} was not downloaded, as it would be refused: {reason}. Small files and parts of "
            f"{', '.join(file.path for file in large[:3])} say so; "
            f"{human_bytes(sum(file.size for file in large))} were not fetched. If upstream is "
            f"right, correct {build.spec.where}, and run again. To have the raw files only: "
            + materialize_command(key)
        )


def _to_judge(
    artifact: Artifact[Downloaded], places: Places, remote: RemoteRepository
) -> list[RemoteFile]:
    """The large files of a model that are not here."""
    if not isinstance(artifact.spec, ModelSpec):
        return []
    large = (file for file in remote.files if is_large(file))
    return [file for file in large if not any(places.candidates(file))]


def foresee(
    store: Store, artifact: Artifact[Downloaded], remote: RemoteRepository, judge: Judge
) -> str:
    """Why an artifact would be refused that is not downloaded yet; empty: nothing is known against
    it, or the hub cannot be asked. Nothing is kept.

    Args:
        remote: its files, as they are known.
        judge: as :func:`build_raw`.
    """
    places, repository = Places(store, artifact, RAW), artifact.spec.repository
    if not _to_judge(artifact, places, remote) or _is_offline(store, repository):
        return ""
    with suppress(WmtpError), open_endpoint(store.settings, repository) as endpoint:
        preflight = Preflight(store, artifact, RAW, endpoint, repository, remote.commit, judge)

        def content(file: ExpectedFile) -> bytes | None:
            here = (path for path in places.candidates(file) if places.verify(file, path))
            path = next(here, None)
            data = path.read_bytes() if path else preflight.fetch(file, 0, file.size)
            return data if data is not None and file.is_content(data) else None

        return preflight.refusal(remote.files, content)
    return ""


def _advice(store: Store) -> str:
    if store.settings.source == "hub":
        return "Run again, and if it happens again, do not trust this endpoint"
    hub = store.settings.root / INTERNAL / "hub"
    return f"The sample hub's files were changed; have them made anew: rm -r '{hub}'"


def _check_space(build: Build[Downloaded], places: Places, remote: RemoteRepository) -> None:
    """Say what is to be done; refuse what will not fit.

    Raises:
        StoreError: with bytes to fetch, bytes here and bytes free.
    """
    missing, count = places.missing(remote.files), len(remote.files)
    rate = last_rate(download_rate(build.store))
    before, wanted = committed_files(build.store, build.artifact), {f.key for f in remote.files}
    # other committed files are kept as the generation before, beside the new ones
    kept = [f.size for f in before.files if f.key not in wanted] if before else []
    peak = remote.size + sum(kept)
    took = f" (about {human_seconds(missing / rate)} at the last rate)" if rate and missing else ""
    build.say(
        f"{build.spec.repository.id} at {remote.commit}: {count} file{'s' * (count != 1)}, "
        f"{human_bytes(remote.size)}; {human_bytes(missing)} to download{took}, "
        f"{human_bytes(remote.size - missing)} here; peak disk {human_bytes(peak)}, "
        f"{human_bytes(free_space(build.store))} free"
    )
    _check_fits(build, places, remote)


def _check_fits(build: Build[Downloaded], places: Places, remote: RemoteRepository) -> None:
    missing, copied = places.missing(remote.files), places.to_copy(remote.files)
    where = f" ({human_bytes(copied)} on another filesystem, to copy)" if copied else ""
    says = f"{human_bytes(missing)} to download, {human_bytes(remote.size - missing)} here{where}"
    require_space(build.store, build.artifact.key, missing + copied, says)
