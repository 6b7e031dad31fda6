"""``docs/phase1_completion_report.md``: the checklist of the preparation plan, and who approved it.

The state of a rule is what is remembered of its last application to the content that is there. A
report says what was known when it was made; the rule ``current`` compares that with what is known
now (``documents/rules.py``).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.catalogue.artifact import TOP_FOLDERS, Artifact
from wmtp_assets.catalogue.specs import MicroSpec
from wmtp_assets.documents.approvals import Approval
from wmtp_assets.documents.facts import Fact, Facts, heading
from wmtp_assets.documents.markdown import NONE, code, escape, page, paragraph, shown, table

State = Literal["passed", "failed", "not verified"]
States = Mapping[str, Mapping[str, State]]
"""Asset → blocking rule → what is remembered about it."""

APPROVALS = "## Approvals"

_MEANING: Mapping[State, str] = {
    "passed": "every blocking rule was applied to this content, and holds",
    "failed": "a rule found something",
    "not verified": "some rule was not applied to this content yet",
}


@dataclass(frozen=True)
class Item:
    """An item of the checklist: what it says, and the kinds of artifact that prove it."""

    title: str
    kinds: tuple[str, ...]

    def covers(self, artifact: Artifact[Any]) -> bool:
        """Whether an artifact is among those that prove the item."""
        return not self.kinds or artifact.kind in self.kinds


_ALL: tuple[str, ...] = ()
"""Every kind."""

CHECKLIST = (
    Item("Directories", _ALL),
    Item("Raw files", ("raw",)),
    Item("Conversions", ("tokenizer", "safetensors")),
    Item("Micro models", ("micro",)),
    Item("Datasets", ("processed", "pairs", "tests")),
    Item("Small sets", ("small",)),
    Item("Statistics", ("stats",)),
    Item("Integrity", _ALL),
    Item("Documents", ("parameters", "card", "croissant", "document", "release")),
)
"""The preparation plan, in its order."""

_DIRECTORIES, _INTEGRITY = CHECKLIST[0], CHECKLIST[-2]


def states_in(document: Any) -> States:
    """The states that the manifest of a report has; what is none is left out."""
    states = document if isinstance(document, dict) else {}
    return {
        key: {rule: state for rule, state in rules.items() if state in get_args(State)}
        for key, rules in states.items()
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


def checklist(facts: Facts, states: States) -> dict[str, State]:
    """The state of each item of the checklist."""
    return {item.title: state_of(facts.of(*item.kinds), states) for item in CHECKLIST}


def body(facts: Facts, states: States) -> bytes:
    """The report without its approvals."""
    return page([*_body(facts, states)])


def completion_report(facts: Facts, states: States, approvals: Sequence[Approval]) -> bytes:
    """The document."""
    said = body(facts, states)
    return said + b"\n" + page([*_approvals(said, approvals)])


def body_sha256(body: bytes) -> str:
    """What is approved: the SHA-256 of the report without its approvals."""
    return hashlib.sha256(body).hexdigest()


def _body(facts: Facts, states: States) -> Iterator[str]:
    yield from heading(facts, "Completion report of the preparation")
    yield "## Checklist"
    yield ""
    yield from table(
        ("right:", "item", "evidence", "state"),
        (
            (str(number), item.title, _evidence(item, facts, states), f"**{state}**")
            for number, (item, state) in enumerate(
                zip(CHECKLIST, checklist(facts, states).values(), strict=True), 1
            )
        ),
    )
    yield from (f"- **{state}**: {meaning}." for state, meaning in _MEANING.items())
    yield ""
    yield from paragraph(
        "Rules that warn count in no state. `wmtp verify` applies every rule; make the report "
        "again to see the states it left."
    )
    for item in CHECKLIST:
        if item not in (_DIRECTORIES, _INTEGRITY):
            yield from _artifacts(item, facts, states)


def _evidence(item: Item, facts: Facts, states: States) -> str:
    there = facts.of(*item.kinds)
    if item is _DIRECTORIES:
        tops = Counter(fact.artifact.base.split("/")[0] for fact in there)
        return ", ".join(f"{code(f'{top}/')} {shown(tops[top])} assets" for top in TOP_FOLDERS)
    if item is _INTEGRITY:
        found = Counter(state for fact in there for state in states.get(fact.key, {}).values())
        return ", ".join(f"{shown(found[state])} rules {state}" for state in get_args(State))
    size = human_bytes(sum(fact.size for fact in there))
    absent = sum(item.covers(artifact) for artifact in facts.absent)
    more = f", {shown(absent)} optional ones not there" if absent else ""
    return f"{shown(len(there))} assets, {size}{more}"


def _artifacts(item: Item, facts: Facts, states: States) -> Iterator[str]:
    yield f"## {item.title}"
    yield ""
    yield from table(
        ("asset", "evidence", "SHA-256 of its content", "rules", "state"),
        (
            (
                code(fact.key),
                "; ".join(_evidence_of(fact)),
                code(fact.content_sha256),
                _rules(states.get(fact.key, {})),
                state_of([fact], states),
            )
            for fact in facts.of(*item.kinds)
        ),
    )
    absent = [artifact.key for artifact in facts.absent if item.covers(artifact)]
    if absent:
        yield from paragraph(f"Optional, and not there: {', '.join(map(code, absent))}.")


def _evidence_of(fact: Fact) -> Iterator[str]:
    count = len(fact.files)
    yield f"{shown(count)} file{'s' * (count != 1)}, {shown(fact.size)} bytes"
    if revision := fact.stated("source", "revision"):
        yield f"{code(fact.stated('source', 'repo'))} at {code(str(revision)[:8])}"
    if (numbers := fact.counted("n_params")) is not None:
        cast_from = shown(fact.listed("conversion", "from_dtype"))
        yield f"{shown(numbers)} numbers, {shown(fact.stated('dtype'))}, from {cast_from}"
    if isinstance(fact.artifact.spec, MicroSpec) and fact.artifact.kind == "micro":
        yield f"limit {shown(fact.artifact.spec.max_bytes)} bytes"
    if (rows := fact.counted("rows")) is not None:
        yield f"{shown(rows)} rows"


def _rules(states: Mapping[str, State]) -> str:
    found = Counter(states.values())
    failed = [rule for rule, state in states.items() if state == "failed"]
    said = [f"{shown(found[state])} {state}" for state in get_args(State) if found[state]]
    return ", ".join(said) + (f": {', '.join(map(code, failed))}" if failed else "") or NONE


def _approvals(said: bytes, approvals: Sequence[Approval]) -> Iterator[str]:
    now = body_sha256(said)
    yield APPROVALS
    yield ""
    yield from paragraph(f"What is approved is this report up to here, SHA-256 {code(now)}.")
    if approvals:
        yield from table(
            ("by", "at", "of", "note"),
            (
                (
                    escape(approval.by),
                    escape(approval.at),
                    "this report"
                    if approval.sha256 == now
                    else f"an earlier state, {code(approval.sha256)}",
                    escape(approval.note) or NONE,
                )
                for approval in approvals
            ),
        )
    else:
        yield "Nobody has approved it yet: `wmtp approve --by NAME`."
