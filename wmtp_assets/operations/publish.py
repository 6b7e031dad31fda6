"""``wmtp publish``: which artifacts are sent, that every rule holds on them, and the sending."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from wmtp_assets.base.errors import CorruptArtifact, PublishError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.base.settings import timestamp
from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.destinations.changes import Plan, make_plan
from wmtp_assets.destinations.destination import FOLDER, Destination
from wmtp_assets.destinations.journal import key_of
from wmtp_assets.destinations.listing import Local, Outgoing
from wmtp_assets.destinations.sending import DEFAULT, Done, Options, transmit
from wmtp_assets.documents.of_storage.release import released
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.licences import require_permission
from wmtp_assets.operations.value_head import recorded_heads
from wmtp_assets.operations.verify import verify
from wmtp_assets.rules.apply import is_committed
from wmtp_assets.rules.findings import is_warning
from wmtp_assets.storage import manifest, pieces
from wmtp_assets.storage.files import PART, open_regular
from wmtp_assets.storage.manifest import FileRecord, Manifest
from wmtp_assets.storage.publications import Publication, remember_publication
from wmtp_assets.storage.signatures import hashes_of, read_signature, record_of, signed_files
from wmtp_assets.storage.store import Store


def to_publish(store: Store, include_local_small: bool) -> list[Artifact]:
    """What is published where nothing is named: all that is committed, but what is for tests on one
    machine."""
    return [
        artifact
        for artifact in store.catalogue
        if is_committed(store, artifact) and (include_local_small or not artifact.is_local)
    ]


def named(store: Store, names: Iterable[str], include_local_small: bool = False) -> list[Artifact]:
    """The artifacts that are named; of a folder the optional ones only where they are there, and
    what exists for tests on one machine only where there is nothing else.

    Raises:
        SpecError: for an unknown name.
    """
    wanted: set[str] = set()
    for name in names:
        found = store.catalogue.select(name)
        with_small = include_local_small or all(artifact.is_local for artifact in found)
        wanted |= {
            artifact.key
            for artifact in found
            if artifact.key == name
            or (
                (not artifact.optional or is_committed(store, artifact))
                and (with_small or not artifact.is_local)
            )
        }
    return [artifact for artifact in store.catalogue if artifact.key in wanted]


def addressed(
    store: Store, url: str, artifacts: Sequence[Artifact] | None, options: Options, say: Say
) -> list[tuple[str, Sequence[Artifact] | None]]:
    """Where which artifacts are published: all to one URL, or, where it names ``{folder}``, those
    of each folder to one of its own.

    Args:
        artifacts: as :func:`plan_publication` has it.

    Raises:
        PublishError: if none of them is in a folder.
    """
    if FOLDER not in url:
        return [(url, artifacts)]
    chosen = to_publish(store, options.include_local_small) if artifacts is None else artifacts
    units: dict[str, list[Artifact]] = {}
    for artifact in chosen:
        units.setdefault(artifact.spec.unit if artifact.spec.top else "", []).append(artifact)
    rest = units.pop("", [])
    if rest:
        say(
            f"in no folder of a model or dataset, and so not sent: {', '.join(a.key for a in rest)}"
        )
    if not units:
        raise PublishError("nothing of what is meant is in a folder of a model or dataset")
    return [
        (url.replace(FOLDER, unit.rpartition("/")[2]), members) for unit, members in units.items()
    ]


def committed_files(store: Store, artifact: Artifact) -> tuple[Manifest, dict[str, FileRecord]]:
    """The manifest of a committed artifact, and what is published and signed of it: its files, the
    manifest itself, and a value head that it records; by their names in its folder.

    Raises:
        MissingArtifact: if it is not materialized.
        CorruptArtifact: if its manifest was changed, or what it records beside is none.
    """
    store.manifest(artifact)  # says what is wrong where there is none
    path = store.manifest_path(artifact)
    with open_regular(path) as file:
        data = file.read(manifest.MAX_SIZE + 1)
    committed = manifest.parse(data, str(path))
    return committed, {
        **committed.files,
        **_value_head(store, artifact, committed),
        artifact.manifest: FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest()),
    }


def read_local(store: Store, artifact: Artifact, say: Say = silent) -> Local:
    """The committed artifact and its files, with its signature.

    Raises:
        MissingArtifact, CorruptArtifact: as :func:`committed_files`.
    """
    committed, records = committed_files(store, artifact)
    by_path = {f"{artifact.base}/{name}": record for name, record in records.items()}
    by_path |= {name: committed.files[name] for name in artifact.copied}
    by_path |= _signature(store, artifact, records, say)
    files = tuple(
        Outgoing(artifact.key, path, store.root / path, record) for path, record in by_path.items()
    )
    return Local(artifact, str(artifact.spec.version), committed.content_sha256, files)


def _signature(
    store: Store, artifact: Artifact, records: dict[str, FileRecord], say: Say
) -> dict[str, FileRecord]:
    """The signature of an artifact, if it is one of the files that are there now."""
    try:
        data = read_signature(store, artifact)
    except OSError as error:
        raise CorruptArtifact(f"{artifact.signature} cannot be read: {error.strerror}") from error
    if data is None:
        return {}
    if signed_files(data) != hashes_of(records):
        say(
            f"{artifact.signature} is not published: it is none of {artifact.key} as it is now. "
            "Sign it again: wmtp sign"
        )
        return {}
    return {artifact.signature: record_of(data)}


def _value_head(store: Store, artifact: Artifact, committed: Manifest) -> dict[str, FileRecord]:
    """The value head that training put beside the checkpoint and the manifest records; it may be
    none."""
    heads = recorded_heads(artifact, committed.document)
    path = store.path(artifact, VALUE_HEAD)
    try:
        return {
            name: FileRecord(size=path.lstat().st_size, sha256=sha256)
            for name, sha256 in heads.items()
        }
    except (OSError, ValueError) as error:
        raise CorruptArtifact(
            f"{path} is recorded in {artifact.manifest}, but is not there as recorded. Put it "
            f"back, or: wmtp value-head {artifact.spec.folder} --forget"
        ) from error


def require_rules(store: Store, artifacts: Sequence[Artifact], say: Say = silent) -> None:
    """Apply every rule to the artifacts, now.

    Raises:
        PublishError: naming the first that does not hold, or could not be applied for want of a
            library; warnings stop nothing.
    """
    asked_for = {artifact.key for artifact in artifacts}
    verdicts = verify(store, artifacts, say=say, asked_for=asked_for)
    failed = [verdict for verdict in verdicts if not is_warning(verdict.outcome)]
    if failed:
        first, *others = failed
        finding = first.outcome.findings[0]
        more = f" ({len(others)} more rules fail)" if others else ""
        raise PublishError(
            f"nothing was sent: {first.artifact} does not pass the rule {first.rule}: {finding}"
            f"{more}. Remedy: {finding.remedy}"
        )
    blocking = {
        (item.key, rule.name) for item in artifacts for rule in rules_of(item) if rule.blocking
    }
    for verdict in verdicts:
        if verdict.outcome.skipped and (verdict.artifact, verdict.rule) in blocking:
            raise PublishError(
                f"nothing was sent: the rule {verdict.rule} was not applied to {verdict.artifact}, "
                f"so nobody knows whether it holds: {verdict.outcome.skipped}"
            )


def plan_publication(
    store: Store,
    artifacts: Sequence[Artifact] | None,
    destination: Destination,
    options: Options = DEFAULT,
    say: Say = silent,
) -> Plan:
    """What :func:`publish` would do; nothing is written.

    Args:
        artifacts: what is published; None: all that is committed, but, unless
            ``options.include_local_small``, not what exists for tests on one machine.

    Raises:
        MissingArtifact, CorruptArtifact: if an artifact is not there, or its manifest was changed.
        PublishError: as :func:`wmtp_assets.operations.licences.require_permission`.
        CorruptArtifact, InvalidInput: as :func:`wmtp_assets.documents.of_storage.release.released`.
        PublishError: as :func:`wmtp_assets.destinations.changes.make_plan`.
    """
    if artifacts is None:
        missing = [a.key for a in store.catalogue if not a.optional and not is_committed(store, a)]
        if missing:
            say(f"not materialized here, and so not sent: {', '.join(missing)}")
    every = to_publish(store, options.include_local_small) if artifacts is None else artifacts
    chosen = [artifact for artifact in every if artifact.key not in options.drop]
    if not chosen and not options.drop:
        raise PublishError(
            f"under {store.root} are only small splits and micro models, which exist for tests on "
            "one machine: there is nothing else to publish. To publish them too: wmtp "
            "publish --include-local-small --to URL"
            if to_publish(store, True)
            else f"nothing of what is meant is materialized under {store.root}: there is nothing "
            "to publish. Make it: make materialize, or make materialize SELECT='+NAME' for what is "
            "optional"
        )
    require_permission(store, chosen, destination, is_accepted=options.is_accepted)
    releases = (released(store, artifact) for artifact in store.catalogue.of_kind("release"))
    plan = make_plan(
        destination,
        [read_local(store, artifact, say) for artifact in chosen],
        store.settings.source,
        next((release.version for release in releases if release), None),
        options.how,
        drop=options.drop,
        downgrade=options.downgrade,
        overwrite=options.overwrite,
        say=say,
    )
    if artifacts is None:
        _say_kept(store, plan, say)
    return plan


def _say_kept(store: Store, plan: Plan, say: Say) -> None:
    """Say what stays published although it is not here."""
    known = [store.catalogue[key] for key in plan.others if key in store.catalogue]
    unknown = [key for key in plan.others if key not in store.catalogue]
    kept = [artifact.key for artifact in known if not is_committed(store, artifact)]
    if kept:
        say(f"published, not committed here, and kept as it is: {', '.join(kept)}")
    if unknown:
        say(
            f"published, not known to this version of the project, and kept as it is: "
            f"{', '.join(unknown)}. To publish it no longer: --drop {unknown[0]}"
        )


def publish(
    store: Store,
    artifacts: Sequence[Artifact] | None,
    destination: Destination,
    options: Options = DEFAULT,
    say: Say = silent,
) -> Done:
    """Send what is new or changed, verify it, and write ``MANIFEST.json``.

    Every rule is applied first to the artifacts of which something is sent. Until all payload is
    there, a failure leaves the destination as it was; what was sent is kept out of sight, and the
    next call resumes it.

    Args, Raises: as :func:`plan_publication`; and
        PublishError: if a rule does not hold, a file changes while it is read, somebody else
            publishes at the same time, or the destination refuses.
    """
    store.require_internals()
    with store.lock(
        f"publish-{key_of(destination.key)}", lambda line: say(f"{destination.name}: {line}")
    ):
        plan = plan_publication(store, artifacts, destination, options, say)
        sending = {file.artifact for file in plan.outgoing}
        chosen = [local.artifact for local in plan.locals if local.artifact.key in sending]
        require_rules(store, chosen, say)
        outgoing = tuple(_with_parts(store, plan, sending))
        done = transmit(store, destination, replace(plan, outgoing=outgoing), options, say)
        if artifacts is None and not options.drop and options.how != "size":
            _remember(store, destination, plan, say)
        return done


def _with_parts(store: Store, plan: Plan, keys: Collection[str]) -> Iterator[Outgoing]:
    """The files to send, with the hashes of their parts where an artifact has such and the rules
    found, now or before, that they agree with those of its files.

    Args:
        keys: of the artifacts of which something is sent.
    """
    known: dict[str, tuple[str, ...]] = {}
    for local in (local for local in plan.locals if local.artifact.key in keys):
        artifact = local.artifact
        committed = store.manifest(artifact)
        is_planned = committed.content_sha256 == local.content_sha256
        record = committed.files.get(artifact.pieces)
        if record is None or not is_planned or not store.agrees(artifact, committed):
            continue
        data = store.read(artifact, artifact.pieces)
        if record_of(data) == record:
            found = pieces.parse(data, committed.files, str(store.path(artifact, artifact.pieces)))
            known |= {f"{artifact.base}/{n}": pieces.parts_of(found[n], PART) for n in found}
    for file in plan.outgoing:
        yield replace(file, parts=known.get(file.path, ()))


def _remember(store: Store, destination: Destination, plan: Plan, say: Say) -> None:
    """Keep that all of a release lies at the destination: for the completion report, a backup."""
    for local in plan.locals:
        if local.artifact.kind == "release":
            publication = Publication(
                to=destination.name,
                at=timestamp(),
                version=local.version,
                release=local.content_sha256,
            )
            try:
                remember_publication(store, key_of(destination.key), publication)
            except OSError as error:  # storage may be mounted for reading only
                say(f"{destination.name}: that it was published is not remembered: {error}")
