"""What is published: the artifacts of a selection, and the files of each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.destinations.errors import PublishError
from wmtp_assets.destinations.outgoing import Outgoing
from wmtp_assets.documents.of_storage.release import released
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.verify import verify
from wmtp_assets.rules.apply import is_committed
from wmtp_assets.rules.findings import Rule, is_warning, stated
from wmtp_assets.storage import manifest
from wmtp_assets.storage.files import open_regular
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import Store


@dataclass(frozen=True)
class Local:
    """An artifact as it is committed here."""

    artifact: Artifact
    version: str
    content_sha256: str
    files: tuple[Outgoing, ...]


def is_local_small(artifact: Artifact) -> bool:
    """Whether it exists for tests on one machine: small splits, micro models and their cards."""
    return artifact.is_local


def to_publish(store: Store, *, include_local_small: bool = False) -> list[Artifact]:
    """What is published where nothing is named: all that is committed, but what is for tests on one
    machine."""
    return [
        artifact
        for artifact in store.catalogue
        if is_committed(store, artifact) and (include_local_small or not is_local_small(artifact))
    ]


def named(
    store: Store, names: Iterable[str], *, include_local_small: bool = False
) -> list[Artifact]:
    """The artifacts that are named; of a folder the optional ones only where they are there, and
    what exists for tests on one machine only where there is nothing else.

    Raises:
        SpecError: for an unknown name.
    """
    wanted: set[str] = set()
    for name in names:
        found = store.catalogue.select(name)
        with_small = include_local_small or all(map(is_local_small, found))
        wanted |= {
            artifact.key
            for artifact in found
            if artifact.key == name
            or (
                (not artifact.optional or is_committed(store, artifact))
                and (with_small or not is_local_small(artifact))
            )
        }
    return [artifact for artifact in store.catalogue if artifact.key in wanted]


def read_local(store: Store, artifact: Artifact) -> Local:
    """The committed artifact and its files.

    Raises:
        MissingArtifact: if it is not materialized.
        CorruptArtifact: if its manifest was changed, or what it records beside is none.
    """
    store.manifest(artifact)  # says what is wrong where there is none
    path = store.manifest_path(artifact)
    with open_regular(path) as file:
        data = file.read(manifest.MAX_SIZE + 1)
    committed = manifest.parse(data, str(path))
    own = FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    records = {**committed.files, **_value_head(store, artifact, committed), artifact.manifest: own}
    files = [
        Outgoing(artifact.key, f"{artifact.base}/{name}", store.path(artifact, name), record)
        for name, record in records.items()
    ]
    files += [
        Outgoing(artifact.key, name, store.root / name, committed.files[name])
        for name in artifact.copied
    ]
    return Local(
        artifact,
        str(artifact.spec.version),
        committed.content_sha256,
        tuple(files),
    )


def _value_head(
    store: Store, artifact: Artifact, committed: manifest.Manifest
) -> dict[str, FileRecord]:
    """The value head that training put beside the checkpoint and the manifest records; it may be
    none."""
    record = stated(committed.document, "value_head")
    if VALUE_HEAD not in artifact.guests or stated(record, "path") != VALUE_HEAD:
        return {}
    path = store.path(artifact, VALUE_HEAD)
    try:
        size = path.lstat().st_size
        return {VALUE_HEAD: FileRecord(size=size, sha256=stated(record, "sha256"))}
    except (OSError, ValueError) as error:
        raise CorruptArtifact(
            f"{path} is recorded in {artifact.manifest}, but is not there as recorded. Put it "
            f"back, or: wmtp value-head {artifact.spec.folder} --forget"
        ) from error


def release_of(store: Store) -> str | None:
    """The version of the release that is committed here; None: nothing was released.

    Raises:
        CorruptArtifact, InvalidInput: as :func:`wmtp_assets.documents.of_storage.release.released`.
    """
    for artifact in store.catalogue.of_kind("release"):
        release = released(store, artifact)
        return release.version if release else None
    return None


def is_newer(version: str, than: str | None) -> bool:
    """Whether a release's version is higher: numbers as numbers; ``-rc1`` is before what it leads
    to, ``+build`` means nothing, and no release is the lowest."""
    if than is None:
        return True
    return _order(version) > _order(than)


def _order(version: str) -> tuple[list[int], bool, list[tuple[bool, int, str]]]:
    main, _, rest = version.partition("+")[0].partition("-")
    numbers = [int(number) for number in re.findall(r"[0-9]{1,9}", main)]
    while numbers and not numbers[-1]:
        numbers.pop()
    words = re.findall(r"[0-9]{1,9}|[A-Za-z]+", rest)
    return (
        numbers,
        not rest,
        [(not word.isdigit(), int(word) if word.isdigit() else 0, word) for word in words],
    )


def require_rules(store: Store, artifacts: Sequence[Artifact], say: Say = silent) -> None:
    """Apply every rule to the artifacts, now.

    Raises:
        PublishError: naming the first that does not hold, or could not be applied for want of a
            library; warnings stop nothing.
    """
    asked_for = {artifact.key for artifact in artifacts}
    verdicts = verify(store, artifacts, lambda verdict: None, say, asked_for=asked_for)
    failed = [verdict for verdict in verdicts if not is_warning(verdict.outcome)]
    if failed:
        first = failed[0]
        finding = first.outcome.findings[0]
        more = f" ({len(failed) - 1} more rules fail)" if len(failed) > 1 else ""
        raise PublishError(
            f"nothing was sent: {first.artifact} does not pass the rule {first.rule}: {finding}"
            f"{more}. Remedy: {finding.remedy}"
        )
    blocking = {(item.key, rule.name) for item in artifacts for rule in _blocking(item)}
    for verdict in verdicts:
        if verdict.outcome.skipped and (verdict.artifact, verdict.rule) in blocking:
            raise PublishError(
                f"nothing was sent: the rule {verdict.rule} was not applied to {verdict.artifact}, "
                f"so nobody knows whether it holds: {verdict.outcome.skipped}"
            )


def _blocking(artifact: Artifact) -> Iterator[Rule]:
    return (rule for rule in rules_of(artifact) if rule.blocking)
