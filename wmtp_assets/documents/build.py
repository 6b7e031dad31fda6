"""The builders of the documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, MissingArtifact
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.documents.completion import State
from wmtp_assets.documents.documents import Remembered, document_bytes, is_report, remembered_in
from wmtp_assets.documents.facts import Facts, gather
from wmtp_assets.documents.release import freeze, released
from wmtp_assets.rules.findings import Rule
from wmtp_assets.rules.results import last_results
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document, Manifest
from wmtp_assets.storage.store import Store

RulesOf = Callable[[Artifact[Any]], Sequence[Rule[Any]]]

_FORMATS = {"md": "markdown", "json": "json"}


def no_rules(artifact: Artifact[Any]) -> tuple[Rule[Any], ...]:
    """Of documents that say nothing about rules."""
    return ()


def build_document(build: Build[Any], rules_of: RulesOf = no_rules) -> Document:
    """Write a document from the manifests of what it is about.

    Args:
        rules_of: the rules that apply to an artifact.

    Raises:
        InvalidInput: as :func:`document_bytes`, and :func:`freeze` for a release.
    """
    store, artifact = build.store, build.artifact
    facts = gather(store, artifact, store.read)
    (name,) = artifact.owns
    more: Document = {}
    if artifact.kind == "release":
        data = freeze(facts, released(store, artifact))
    else:
        remembered = remember(facts, rules_of, build.say)
        data = document_bytes(facts, remembered)
        if is_report(artifact):
            more["states"] = remembered.states
            more["approvals"] = [approval.model_dump() for approval in remembered.approvals]
    build.staged.write(name, data)
    return {
        "name": artifact.key,
        "version": artifact.spec.version,
        "format": _FORMATS[name.rsplit(".", 1)[-1]],
        **more,
    }


def remember(facts: Facts, rules_of: RulesOf, say: Say = silent) -> Remembered:
    """What a report says that is made now: states of rules, and the approvals it has."""
    if not is_report(facts.about):
        return Remembered()
    store, about = facts.store, facts.about
    states = {
        fact.key: _states(store, fact.artifact, fact.manifest, rules_of(fact.artifact))
        for fact in facts.there
    }
    try:
        document = store.manifest(about).document
        before = remembered_in(document, str(store.manifest_path(about)))
    except MissingArtifact:
        return Remembered(states)
    except (CorruptArtifact, InvalidInput) as error:
        say(f"left out, all approvals: {error}")
        return Remembered(states)
    return Remembered(states, before.approvals)


def _states(
    store: Store, artifact: Artifact[Any], manifest: Manifest, rules: Sequence[Rule[Any]]
) -> dict[str, State]:
    """What is remembered about the blocking rules of an artifact, as it is now."""
    results = {
        result.rule: result
        for result in last_results(store, artifact)
        if result.content_sha256 == manifest.content_sha256
    }
    states: dict[str, State] = {}
    for rule in rules:
        result = results.get(rule.name)
        if result is not None and result.problem:
            states[rule.name] = "failed"
        elif rule.blocking:
            states[rule.name] = "passed" if result is not None else "not verified"
    return states
