"""What is known about every artifact without reading its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import kind_of, rules_of
from wmtp_assets.kinds.staleness import EARLIER, Reason, reasons
from wmtp_assets.rules.apply import LastResult, Signature, last_results, signature
from wmtp_assets.rules.findings import stated, stated_as
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.pulls import pulls
from wmtp_assets.storage.store import Store, materialize_command

EXIT_CODES: Mapping[str, int] = {
    "damaged": 1,
    "absent": 2,
    "unreadable": 4,
    "written": 8,
    "stale": 16,
}
"""Each that occurs counts once, and they add up; 0: nothing is known to be wrong. Written: since a
rule read it. Stale: it must be made again."""

UNVERIFIED = "not verified"
"""What is said of an artifact to which some rule was not applied yet: it is not a problem."""

_UNREAD = {MissingArtifact: "absent", CorruptArtifact: "damaged"}
"""What is so of an artifact without a manifest to read."""


@dataclass(frozen=True)
class Status:
    """One artifact as ``wmtp status`` shows it.

    Attributes:
        size: bytes of its files; None: not committed.
        dtype, rows: where the artifact has such a thing.
        source, revision: repository and commit of the raw bytes.
        pinned: whether the commit was named before it was used; None: the sample, or no source.
        verified_at: UTC time of the oldest of the rules' last results on this content; None: some
            rule was not applied to it yet.
        problem: empty: none is known.
        optional: its absence is not a problem.
        making: how far the steps are that make it, on all hosts; None: none has begun.
        code: the exit codes of what is known to be wrong, added up.
    """

    name: str
    kind: str
    state: str
    size: int | None = None
    dtype: str | None = None
    rows: int | None = None
    source: str | None = None
    revision: str | None = None
    pinned: bool | None = None
    endpoint: str | None = None
    verified_at: str | None = None
    problem: str = ""
    optional: bool = False
    making: object | None = None
    code: int = field(default=0, compare=False)


def status_of(store: Store, artifact: Artifact) -> Status:
    """The status of one artifact: manifest, file sizes and times, remembered results of rules; and
    how far the steps are that make it."""
    status, sharing = _status_of(store, artifact), kind_of(artifact).sharing
    making = sharing.progress(store, artifact) if sharing else None
    if making is None:
        return status
    problem = "; ".join(filter(None, [status.problem, f"being made: {making}"]))
    return replace(status, making=making, problem=problem)


def _status_of(store: Store, artifact: Artifact) -> Status:
    try:
        manifest = store.manifest(artifact)
    except (MissingArtifact, CorruptArtifact, OSError) as error:
        state = _UNREAD.get(type(error), "unreadable")
        absent = "optional, not materialized" if artifact.optional else "not materialized"
        problem = absent if state == "absent" else str(error)
        return Status(
            artifact.key,
            artifact.kind,
            state,
            problem=problem,
            optional=artifact.optional,
            code=0 if state == "absent" and artifact.optional else EXIT_CODES[state],
        )
    document = manifest.document
    names = {rule.name for rule in rules_of(artifact)}
    results = {
        result.rule: result
        for result in last_results(store, artifact)
        if result.content_sha256 == manifest.content_sha256 and result.rule in names
    }
    now = signature(store, artifact, manifest)
    problems = [*_problems(store, artifact, manifest, now, results)]
    problem = next((text for _, text in problems), "") or _without(store, artifact, manifest)
    is_real = stated(document, "source", "endpoint") not in (None, "sample")
    all_applied = results.keys() == names
    return Status(
        name=artifact.key,
        kind=artifact.kind,
        state="attention" if problem else "committed",
        size=manifest.size,
        dtype=stated_as(str, document, "dtype"),
        rows=stated_as(int, document, "rows"),
        source=stated_as(str, document, "source", "repo"),
        revision=stated_as(str, document, "source", "revision"),
        pinned=stated_as(bool, document, "source", "pinned") if is_real else None,
        endpoint=stated_as(str, document, "source", "endpoint"),
        verified_at=min((r.at for r in results.values()), default=None) if all_applied else None,
        problem=problem or ("" if all_applied else UNVERIFIED),
        optional=artifact.optional,
        code=sum({EXIT_CODES[what] for what, _ in problems}),
    )


def exit_code(rows: Iterable[Status]) -> int:
    """The exit code for what is known of some artifacts: a sum of :data:`EXIT_CODES`."""
    return reduce(or_, (row.code for row in rows), 0)


@dataclass(frozen=True)
class Stale:
    """An artifact that must be made again, or will have to be.

    Attributes:
        reasons: why it must be.
        after: what is upstream and must be made again: where its content is another then, this one
            must be too.
    """

    name: str
    reasons: tuple[Reason, ...]
    after: tuple[str, ...]


def stale(store: Store, artifacts: Iterable[Artifact]) -> list[Stale]:
    """What must be made again of some artifacts, upstream first, as far as is known without reading
    files; an optional artifact that was never made is not missed."""
    wanted = {artifact.key for artifact in artifacts}
    found: dict[str, Stale] = {}
    for artifact in store.catalogue:
        why = tuple(reasons(store, artifact, reads=False))
        if artifact.optional and any(reason.why == "never made" for reason in why):
            continue
        after = tuple(key for key in artifact.upstream if key in found)
        if why or after:
            found[artifact.key] = Stale(artifact.key, why, after)
    return [item for item in found.values() if item.name in wanted]


@dataclass(frozen=True)
class FileStatus:
    """One file as ``wmtp status --files`` shows it.

    Attributes:
        file: path below the storage root.
        size, sha256: as committed.
        read_at: UTC time when every byte of it was last read; None: never, as it is now.
        problem: empty: none is known.
    """

    artifact: str
    file: str
    size: int
    sha256: str
    read_at: str | None
    problem: str


def files_status(store: Store, artifact: Artifact) -> list[FileStatus]:
    """The files of a committed artifact: sizes and times now, and when each was last read."""
    try:
        manifest = store.manifest(artifact)
    except (MissingArtifact, CorruptArtifact, OSError) as error:
        is_absent = isinstance(error, MissingArtifact)
        if is_absent and artifact.optional:
            return []
        problem = "not materialized" if is_absent else "the manifest is damaged or unreadable"
        file = f"{artifact.base}/{artifact.manifest}"
        return [FileStatus(artifact.key, file, 0, "", None, problem)]
    results = {result.rule: result for result in last_results(store, artifact)}
    last, now = results.get("sha256"), signature(store, artifact, manifest)
    rows = []
    for name, record in manifest.files.items():
        was, sign = last.files.get(name) if last else None, now.get(name)
        size = sign[0] if sign else None
        problems = {
            "missing": sign is None,
            f"{size} bytes, not {record.size}": size != record.size,
            "never read": was is None,
            "written since it was read": was != sign,
            "damaged": last is not None and name in last.damaged,
        }
        rows.append(
            FileStatus(
                artifact.key,
                f"{artifact.base}/{name}",
                record.size,
                record.sha256,
                last.at if last and was is not None and was == sign else None,
                next((problem for problem, is_so in problems.items() if is_so), ""),
            )
        )
    return rows


def _problems(
    store: Store,
    artifact: Artifact,
    manifest: Manifest,
    now: Signature,
    results: dict[str, LastResult],
) -> Iterator[tuple[str, str]]:
    """What is known to be wrong, the worst first: one of :data:`EXIT_CODES`, and for people."""
    for name, record in manifest.files.items():
        if name not in now:
            yield "absent", f"{name} is missing"
        elif now[name][0] != record.size:
            yield "damaged", f"{name} has {now[name][0]} bytes, not {record.size}"
    for result in results.values():
        if result.problem:
            yield "damaged", f"{result.rule}: {result.problem}"
    for result in results.values():
        for name, sign in now.items():
            if result.files.get(name) != sign:
                yield (
                    "written",
                    f"{name} was written since it was verified at {result.at}; "
                    f"run: wmtp verify {artifact.key}",
                )
    for name in store.edited(artifact, manifest):
        yield (
            "written",
            f"{name} was edited in place since its bytes were last read; "
            f"run: wmtp verify {artifact.key}",
        )
    for reason in reasons(store, artifact, reads=False, makes=False):
        if reason.why == EARLIER:
            yield "stale", f"{reason}; run: wmtp migrate {artifact.key}"
        elif reason.why != "damaged":
            yield "stale", f"{in_words(reason)}; run: {materialize_command(artifact.key)}"


def _without(store: Store, artifact: Artifact, manifest: Manifest) -> str:
    """What an artifact was made from and is not there as it was; empty: nothing, or it was pulled.

    The artifact itself is as its manifest says: nothing is wrong with it, and its upstream has a
    row of its own.
    """
    if artifact.key in pulls(store):
        return ""
    for key in artifact.upstream:
        if stated(manifest.document, "upstream", key) is None:
            continue
        try:
            store.manifest(store.catalogue[key])
        except MissingArtifact:
            return f"made from {key}, which is not there"
        except (CorruptArtifact, OSError):
            return f"made from {key}, whose manifest is damaged or unreadable"
    return ""


def in_words(reason: Reason) -> str:
    """What is known of an artifact that must be made again."""
    key, was_absent, _ = reason.what.partition(" was not there")
    if reason.why != "upstream changed" or " " in key:
        return str(reason)
    return (
        f"made before {key} was there"
        if was_absent
        else f"made from another {key} than is there now"
    )
