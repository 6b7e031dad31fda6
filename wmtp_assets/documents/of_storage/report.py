"""``docs/phase1_completion_report.md``: the checklist of the preparation plan, and who approved it.

The state of a rule is what is remembered of its last application to the content that is there. A
report says what was known when it was made; the rule ``current`` compares that with what is known
now (:func:`check_states`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, MissingArtifact
from wmtp_assets.base.progress import Say, human_bytes
from wmtp_assets.catalogue.artifact import TOP_FOLDERS, Artifact
from wmtp_assets.documents.approvals import Approval, parse_approvals
from wmtp_assets.documents.document import DocumentType, RulesOf
from wmtp_assets.documents.facts import Fact, Facts
from wmtp_assets.documents.markdown import NONE, Markdown, code, join, render, shown
from wmtp_assets.rules.findings import Report, Subject
from wmtp_assets.rules.results import LastResult, last_results
from wmtp_assets.storage.manifest import Document

State = Literal["passed", "failed", "not verified"]
States = Mapping[str, Mapping[str, State]]
"""Asset → blocking rule → what is remembered about it."""


@dataclass(frozen=True)
class Item:
    """An item of the checklist: what it says, and the artifacts that prove it.

    Attributes:
        kinds: of artifact; None: all artifacts prove it, and none is listed below it.
    """

    title: str
    kinds: tuple[str, ...] | None = None

    @property
    def is_listed(self) -> bool:
        """Whether its artifacts are listed below it."""
        return self.kinds is not None

    def holds(self, artifact: Artifact) -> bool:
        """Whether an artifact proves it."""
        return self.kinds is None or artifact.kind in self.kinds

    def of(self, facts: Facts) -> list[Fact]:
        """The artifacts that prove it and are there."""
        return [fact for fact in facts.there if self.holds(fact.artifact)]

    def absent(self, facts: Facts) -> list[Artifact]:
        """The optional ones that are not there."""
        return [artifact for artifact in facts.absent if self.holds(artifact)]


_DIRECTORIES, _INTEGRITY = Item("Directories"), Item("Integrity")

CHECKLIST = (
    _DIRECTORIES,
    Item("Raw files", ("raw",)),
    Item("Conversions", ("tokenizer", "safetensors")),
    Item("Micro models", ("micro",)),
    Item("Datasets", ("processed", "pairs", "tests")),
    Item("Small sets", ("small",)),
    Item("Statistics", ("stats",)),
    _INTEGRITY,
    Item("Documents", ("parameters", "card", "croissant", "document", "release")),
)
"""The preparation plan, in its order."""


def states_in(document: Document) -> States:
    """The states that the manifest of a report has; what is none is left out."""
    states = document.get("states")
    return {
        key: {rule: state for rule, state in rules.items() if state in get_args(State)}
        for key, rules in (states.items() if isinstance(states, dict) else ())
        if isinstance(rules, dict)
    }


def state_of(facts: Sequence[Fact], states: States) -> State:
    """The state of some artifacts together: one that failed is a failure of all."""
    found = [
        state for fact in facts for state in states.get(fact.key, {"": "not verified"}).values()
    ]
    if "failed" in found:
        return "failed"
    return "not verified" if "not verified" in found else "passed"


def checklist(facts: Facts) -> dict[str, State]:
    """The state of each item of the checklist."""
    states = states_in(facts.remembered)
    return {item.title: state_of(item.of(facts), states) for item in CHECKLIST}


def body(facts: Facts) -> bytes:
    """The report without its approvals."""
    return render(
        "of_storage/report",
        facts=facts,
        items=CHECKLIST,
        states=states_in(facts.remembered),
        state_of=state_of,
        evidence=_evidence,
        rules=_rules,
    )


def body_sha256(body: bytes) -> str:
    """What is approved: the SHA-256 of the report without its approvals."""
    return hashlib.sha256(body).hexdigest()


def completion_report(facts: Facts) -> bytes:
    """The document.

    Raises:
        InvalidInput: as :func:`parse_approvals`.
    """
    said = body(facts)
    approvals = parse_approvals(
        facts.remembered.get("approvals"), str(facts.store.manifest_path(facts.about))
    )
    return b"\n".join(
        (said, render("of_storage/approvals", now=body_sha256(said), approvals=approvals))
    )


def _evidence(item: Item, facts: Facts, states: States) -> Markdown:
    there = item.of(facts)
    if item is _DIRECTORIES:
        tops = Counter(fact.artifact.base.split("/")[0] for fact in there)
        return join(Markdown(f"{code(f'{top}/')} {shown(tops[top])} assets") for top in TOP_FOLDERS)
    if item is _INTEGRITY:
        found = Counter(state for fact in there for state in states.get(fact.key, {}).values())
        return join(f"{shown(found[state])} rules {state}" for state in get_args(State))
    size = human_bytes(sum(fact.size for fact in there))
    absent = len(item.absent(facts))
    more = f", {shown(absent)} optional ones not there" if absent else ""
    return Markdown(f"{shown(len(there))} assets, {size}{more}")


def _rules(states: Mapping[str, State]) -> Markdown:
    found = Counter(states.values())
    failed = [code(rule) for rule, state in states.items() if state == "failed"]
    said = join(f"{shown(found[state])} {state}" for state in get_args(State) if found[state])
    return Markdown((f"{said}: {join(failed)}" if failed else said) or NONE)


def remember(facts: Facts, rules_of: RulesOf, say: Say) -> Document:
    """What a report says that is made now: states of rules, and the approvals it has."""
    approvals: list[Approval] = []
    path = facts.store.manifest_path(facts.about)
    try:
        before = facts.store.manifest(facts.about).document
        approvals = parse_approvals(before.get("approvals"), str(path))
    except MissingArtifact:
        pass
    except (CorruptArtifact, InvalidInput) as error:
        say(f"left out, all approvals: {error}")
    return {
        "states": {fact.key: _states(facts, fact, rules_of) for fact in facts.there},
        "approvals": [approval.model_dump() for approval in approvals],
    }


def _results(facts: Facts, fact: Fact) -> dict[str, LastResult]:
    """What is remembered about the rules of an artifact, as it is now."""
    return {
        result.rule: result
        for result in last_results(facts.store, fact.artifact)
        if result.content_sha256 == fact.manifest.content_sha256
    }


def _states(facts: Facts, fact: Fact, rules_of: RulesOf) -> dict[str, State]:
    """The state of each blocking rule of an artifact, and of those that failed."""
    results = _results(facts, fact)
    states: dict[str, State] = {}
    for rule in rules_of(fact.artifact):
        result = results.get(rule.name)
        if result is not None and result.problem:
            states[rule.name] = "failed"
        elif rule.blocking:
            states[rule.name] = "passed" if result is not None else "not verified"
    return states


def check_states(subject: Subject, report: Report, facts: Facts) -> None:
    """A report may say of a rule that it was not applied yet when it was since; it may not hide
    that one failed."""
    stated = states_in(facts.remembered)
    (name,) = subject.artifact.owns
    for fact in facts.there:
        for rule, result in _results(facts, fact).items():
            said: Any = stated.get(fact.key, {}).get(rule)
            now = "failed" if result.problem else "passed"
            if said != now and "failed" in (said, now):
                report.add(
                    subject.file(name),
                    expected=f"{now}, as of {result.at}",
                    found=said or "nothing",
                    place=f"{rule} of {fact.key}",
                )


DOCUMENT = DocumentType(
    "phase1_completion_report.md",
    completion_report,
    is_of_documents=True,
    recorded=("approvals",),
    remember=remember,
    check=check_states,
)
