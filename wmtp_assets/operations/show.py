"""Everything that is known about one artifact without reading its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec, hub_page
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.materialize import to_be_made
from wmtp_assets.operations.status import FileStatus, Status, files_status, status_of
from wmtp_assets.rules.apply import last_results, signature
from wmtp_assets.rules.findings import stated, stated_as
from wmtp_assets.storage.files import names_below
from wmtp_assets.storage.manifest import Document, Manifest
from wmtp_assets.storage.store import Store, materialize_command, repair_command

RuleState = Literal["ok", "warning", "failed", "outdated", "not applied"]


@dataclass(frozen=True)
class RuleStatus:
    """A rule and its last result.

    Attributes:
        state: ``outdated``: it was applied to other content, or files were written since.
        at: UTC time of the last result; None: there is none.
        problem: its first finding, a warning too; empty: none.
    """

    rule: str
    statement: str
    blocking: bool
    state: RuleState
    at: str | None
    problem: str


@dataclass(frozen=True)
class Details:
    """One artifact as ``wmtp show`` shows it.

    Attributes:
        description: what it is for.
        folder: absolute path.
        owns: names in it that are the artifact's; empty: all.
        status: as ``wmtp status`` has it.
        files: as ``wmtp status --files`` has them; empty where no manifest can be read.
        source: repository, page, revision and licence; empty: it has none.
        guests: files in its folder that training or a known tool put there.
        facts: dtype, parameters, tensors, rows, splits, as far as it has such things.
        upstream, downstream: asset key → state.
        commands: what makes it, with what it is made from and is absent; verifies and repairs it.
    """

    name: str
    description: str
    folder: str
    owns: tuple[str, ...]
    status: Status
    files: list[FileStatus]
    guests: list[str]
    source: dict[str, Any]
    facts: dict[str, Any]
    upstream: dict[str, str]
    downstream: dict[str, str]
    rules: list[RuleStatus]
    commands: dict[str, str]


def details_of(store: Store, artifact: Artifact) -> Details:
    """What is known about an artifact; where there is no manifest, what its spec says."""
    manifest = store.find_manifest(artifact)
    document = manifest.document if manifest else {}
    return Details(
        name=artifact.key,
        description=artifact.spec.description,
        folder=str(store.folder(artifact)),
        owns=(*artifact.owns, artifact.manifest) if artifact.owns else (),
        status=status_of(store, artifact),
        files=files_status(store, artifact) if manifest else [],
        guests=_guests(store, artifact),
        source=_source(artifact, document),
        facts=_facts(artifact, document),
        upstream={key: status_of(store, store.catalogue[key]).state for key in artifact.upstream},
        downstream={
            item.key: status_of(store, item).state
            for item in store.catalogue
            if artifact.key in item.upstream
        },
        rules=_rules(store, artifact, manifest),
        commands={
            "make": materialize_command(",".join(to_be_made(store, artifact))),
            "verify": f"wmtp verify {artifact.key}",
            "repair": repair_command(artifact.key),
        },
    )


def _guests(store: Store, artifact: Artifact) -> list[str]:
    folder = store.folder(artifact)
    names = (
        path.relative_to(folder).as_posix() for path in names_below(folder, lambda error: None)
    )
    return sorted(filter(artifact.is_guest, names))


def _source(artifact: Artifact, document: Document) -> dict[str, Any]:
    """Where raw bytes came from, or would come from."""
    spec = artifact.spec
    source: dict[str, Any] = {}
    folder: str | None = None
    if isinstance(spec, ModelSpec | DatasetSpec):
        folder = spec.repository.path
        source = {
            "repo": spec.repository.id,
            "type": spec.repository.type,
            "revision": spec.repository.revision,
            "pinned": spec.repository.revision is not None,
            "endpoint": None,
            "license": spec.repository.license,
        }
    if stated_as(str, document, "source", "repo"):
        keys = ("repo", "type", "revision", "pinned", "endpoint", "license")
        source = {
            key: stated_as(bool if key == "pinned" else str, document, "source", key)
            for key in keys
        }
    if not source:
        return {}
    if source["endpoint"] == "folder" or (folder and not source["endpoint"]):
        return {**source, "page": folder or ""}
    is_there = source["revision"] and source["endpoint"] != "sample"
    tree = f"/tree/{source['revision']}" if is_there else ""
    return {**source, "page": hub_page(source["type"], source["repo"]) + tree}


def _facts(artifact: Artifact, document: Document) -> dict[str, Any]:
    tensors = stated_as(dict, document, "checkpoint", "tensors")
    splits = stated_as(dict, document, "splits") or {}
    facts = {
        "dtype": stated_as(str, document, "dtype") or artifact.dtype,
        "from_dtype": stated_as(list, document, "conversion", "from_dtype"),
        "n_params": stated_as(int, document, "n_params"),
        "tensors": len(tensors) if tensors else None,
        "vocab_size": stated_as(int, document, "vocab_size"),
        "value_head": stated_as(str, document, "value_head", "path"),
        "rows": stated_as(int, document, "rows"),
        "splits": {name: said for name, said in splits.items() if isinstance(said, dict)} or None,
        "max_tokens": stated_as(int, document, "max_tokens"),
        "created_at": document.get("created_at"),
        "content_sha256": stated(document, "manifest", "content_sha256"),
    }
    return {key: value for key, value in facts.items() if value is not None}


def _rules(store: Store, artifact: Artifact, manifest: Manifest | None) -> list[RuleStatus]:
    results = {result.rule: result for result in last_results(store, artifact)}
    now = signature(store, artifact, manifest) if manifest else {}
    rows = []
    for rule in rules_of(artifact):
        result, state = results.get(rule.name), "not applied"
        if result is not None:
            is_now = manifest is not None and result.content_sha256 == manifest.content_sha256
            state = "failed" if result.problem else "warning" if result.warning else "ok"
            state = state if is_now and result.files == now else "outdated"
        at = result.at if result else None
        problem = (result.problem or result.warning) if result else ""
        rows.append(RuleStatus(rule.name, rule.statement, rule.blocking, state, at, problem))
    return rows
