"""``docs/phase1_completion_report.md``: the checklist of the preparation plan, and who approved it.

The state of a rule is what is remembered of its last application to the content that is there. A
report says what was known when it was made; the rule ``current`` compares that with what is known
now (:func:`check_states`).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, MissingArtifact
from wmtp_assets.base.model import Sha256, StrictModel, first_problem
from wmtp_assets.base.progress import Say, human_bytes
from wmtp_assets.catalogue.artifact import TOP_FOLDERS, Artifact
from wmtp_assets.documents.document import DocumentType, Fact, Facts, RulesOf
from wmtp_assets.documents.markdown import NONE, Markdown, code, join, render, shown
from wmtp_assets.rules.apply import LastResult, last_results
from wmtp_assets.rules.findings import Report, Subject
from wmtp_assets.storage.manifest import Document


def plain_text(text: str) -> str:
    """Return ``text`` if it is something to read on one line.

    Raises:
        ValueError: if it is blank, begins or ends with white space, or holds a character that is
            invisible, or no character at all.
    """
    if not text or text != text.strip():
        raise ValueError("it is blank, or white space stands around it")
    for letter in text:
        if unicodedata.category(letter)[0] == "C" or (letter.isspace() and letter != " "):
            raise ValueError(f"it holds the character {letter!a}")
    return text


class Approval(StrictModel):
    """One approval.

    Attributes:
        at: UTC time.
        sha256: of the report that was approved, without its approvals.
    """

    by: Annotated[str, AfterValidator(plain_text)] = Field(max_length=100)
    at: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")
    sha256: Sha256
    note: Annotated[str, AfterValidator(lambda text: text and plain_text(text))] = Field(
        default="", max_length=1000
    )


def parse_approvals(stated: Any, where: str) -> list[Approval]:
    """The approvals that the manifest of a report has; none where it says nothing.

    Raises:
        InvalidInput: if it says something else; ``where`` names the manifest.
    """
    try:
        return TypeAdapter(list[Approval]).validate_python(
            [] if stated is None else stated, strict=False
        )
    except ValidationError as error:
        raise InvalidInput(
            f"{where}: {first_problem(error, 'approvals')}; to begin without approvals, take the "
            "file away and make the report again"
        ) from error


State = Literal["passed", "failed", "not verified"]
States = Mapping[str, Mapping[str, State]]
"""Asset → blocking rule → what is remembered about it."""


DIRECTORIES, INTEGRITY = "Directories", "Integrity"
"""The items that every artifact proves, and that list none."""

PLAN = (
    DIRECTORIES,
    "Raw files",
    "Conversions",
    "Micro models",
    "Datasets",
    "Small sets",
    "Statistics",
    INTEGRITY,
    "Documents",
)
"""The items of the preparation plan, in its order. Which of them an artifact proves, its kind says;
one that the plan does not have comes last."""


@dataclass(frozen=True)
class Item:
    """An item of the checklist.

    Attributes:
        there: the artifacts that prove it and are there.
        absent: the optional ones that are not there.
    """

    title: str
    there: list[Fact]
    absent: list[Artifact]


def items_of(facts: Facts) -> list[Item]:
    """The checklist."""
    artifacts = map(facts.store.catalogue.__getitem__, facts.about.upstream)
    titles = dict.fromkeys((*PLAN, *(artifact.item for artifact in artifacts)))
    return [
        Item(
            title,
            [fact for fact in facts.there if title in (fact.artifact.item, DIRECTORIES, INTEGRITY)],
            [item for item in facts.absent if title in (item.item, DIRECTORIES, INTEGRITY)],
        )
        for title in titles
    ]


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
    found: list[State] = ["passed"]
    for fact in facts:
        found += states.get(fact.key, {"": "not verified"}).values()
    return max(found, key=("passed", "not verified", "failed").index)


def checklist(facts: Facts) -> dict[str, State]:
    """The state of each item of the checklist."""
    states = states_in(facts.remembered)
    return {item.title: state_of(item.there, states) for item in items_of(facts)}


def body(facts: Facts) -> bytes:
    """The report without its approvals."""
    items = items_of(facts)
    return render(
        "of_storage/report",
        facts=facts,
        items=items,
        listed=[item for item in items if item.title not in (DIRECTORIES, INTEGRITY)],
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


def _evidence(item: Item, states: States) -> Markdown:
    if item.title == DIRECTORIES:
        tops = Counter(fact.artifact.base.split("/")[0] for fact in item.there)
        return join(Markdown(f"{code(f'{top}/')} {shown(tops[top])} assets") for top in TOP_FOLDERS)
    if item.title == INTEGRITY:
        found = Counter(state for fact in item.there for state in states.get(fact.key, {}).values())
        return join(f"{shown(found[state])} rules {state}" for state in get_args(State))
    size = human_bytes(sum(fact.size for fact in item.there))
    more = f", {shown(len(item.absent))} optional ones not there" if item.absent else ""
    return Markdown(f"{shown(len(item.there))} assets, {size}{more}")


def _rules(states: Mapping[str, State]) -> Markdown:
    found = Counter(states.values())
    failed = [code(rule) for rule, state in states.items() if state == "failed"]
    said = join(f"{shown(found[state])} {state}" for state in get_args(State) if found[state])
    return Markdown((f"{said}: {join(failed)}" if failed else said) or NONE)


def remember(facts: Facts, rules_of: RulesOf, say: Say) -> Document:
    """What a report says that is made now: states of rules, and the approvals it has."""
    approvals: list[Approval] = []
    try:
        before = facts.store.manifest(facts.about).document
        path = str(facts.store.manifest_path(facts.about))
        approvals = parse_approvals(before.get("approvals"), path)
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
    for fact in facts.there:
        for rule, result in _results(facts, fact).items():
            said: Any = stated.get(fact.key, {}).get(rule)
            now = "failed" if result.problem else "passed"
            if said != now and "failed" in (said, now):
                report.add(
                    subject.file(DOCUMENT.file),
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
