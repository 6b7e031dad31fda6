"""What is known about every artifact without reading its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.rules.apply import LastResult, Signature, last_results, signature
from wmtp_assets.rules.findings import stated
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.store import Store, materialize_command

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
        optional: its absence is no problem.
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


def status_of(store: Store, artifact: Artifact) -> Status:
    """The status of one artifact: manifest, file sizes and times, remembered results of rules."""
    try:
        manifest = store.manifest(artifact)
    except (MissingArtifact, CorruptArtifact, OSError) as error:
        state = _UNREAD.get(type(error), "unreadable")
        absent = "optional, not materialized" if artifact.optional else "not materialized"
        problem = absent if state == "absent" else str(error)
        return Status(
            artifact.key, artifact.kind, state, problem=problem, optional=artifact.optional
        )
    document = manifest.document
    names = {rule.name for rule in rules_of(artifact)}
    results = {
        result.rule: result
        for result in last_results(store, artifact)
        if result.content_sha256 == manifest.content_sha256 and result.rule in names
    }
    now = signature(store, artifact, manifest)
    problem = next(_problems(store, artifact, manifest, now, results), "")
    is_real = stated(document, "source", "endpoint") not in (None, "sample")
    all_applied = results.keys() == names
    return Status(
        name=artifact.key,
        kind=artifact.kind,
        state="attention" if problem else "committed",
        size=manifest.size,
        dtype=document.get("dtype"),
        rows=document.get("rows"),
        source=stated(document, "source", "repo"),
        revision=stated(document, "source", "revision"),
        pinned=stated(document, "source", "pinned") if is_real else None,
        endpoint=stated(document, "source", "endpoint"),
        verified_at=min((r.at for r in results.values()), default=None) if all_applied else None,
        problem=problem or ("" if all_applied else "not verified"),
        optional=artifact.optional,
    )


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
) -> Iterator[str]:
    """What is known to be wrong, the worst first."""
    for name, record in manifest.files.items():
        if name not in now:
            yield f"{name} is missing"
        elif now[name][0] != record.size:
            yield f"{name} has {now[name][0]} bytes, not {record.size}"
    for result in results.values():
        if result.problem:
            yield f"{result.rule}: {result.problem}"
    for result in results.values():
        for name, sign in now.items():
            if result.files.get(name) != sign:
                yield (
                    f"{name} was written since it was verified at {result.at}; "
                    f"run: wmtp verify {artifact.key}"
                )
    for key in artifact.upstream:
        there = store.find_manifest(store.catalogue[key])
        made_from = stated(manifest.document, "upstream", key)
        if there is not None and made_from != there.content_sha256:
            how = (
                f"from another {key} than is there now" if made_from else f"before {key} was there"
            )
            yield f"made {how}; run: {materialize_command(artifact.key)}"
