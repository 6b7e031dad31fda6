"""``docs/phase1_completion_report.md``: the checklist of the preparation plan, and who approved it.

The state of a rule is what is remembered of its last application to the content that is there. A
report says what was known when it was made; the rule ``current`` compares that with what is known
now (:func:`check_states`). What is known and in no other manifest, the manifest of the report
keeps: states, failures that were put right, publications, and the approvals that people gave.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, MissingArtifact
from wmtp_assets.base.model import Sha256, StrictModel, first_problem
from wmtp_assets.base.progress import Say, human_bytes
from wmtp_assets.catalogue.artifact import TOP_FOLDERS, Artifact
from wmtp_assets.documents.document import DocumentType, Fact, Facts, RulesOf
from wmtp_assets.documents.edited import Text, action_items, plain_text
from wmtp_assets.documents.markdown import NONE, Markdown, code, join, render, shown
from wmtp_assets.rules.apply import LastResult, PutRight, last_results
from wmtp_assets.rules.findings import Report, Subject
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.publications import Publication, publications

R = TypeVar("R", bound=StrictModel)


Role = Literal["reviewer", "product-owner"]
"""Who has to approve a report."""


class Approval(StrictModel):
    """One approval.

    Attributes:
        role: as what; None: given before there were roles.
        at: UTC time.
        sha256: of the report that was approved, without its approvals.
    """

    by: Text = Field(max_length=100)
    role: Role | None = None
    at: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")
    sha256: Sha256
    note: Annotated[str, AfterValidator(lambda text: text and plain_text(text))] = Field(
        default="", max_length=1000
    )


class Issue(PutRight):
    """A failure that was put right, and of what."""

    asset: str
    rule: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.right_at, self.asset, self.rule


APPROVALS = TypeAdapter(list[Approval])
ISSUES = TypeAdapter(list[Issue])
PUBLICATIONS = TypeAdapter(list[Publication])


def parse_recorded(document: Document, key: str, type: TypeAdapter[list[R]], where: str) -> list[R]:
    """What the manifest of a report keeps under a key; nothing where it has no such key.

    Raises:
        InvalidInput: if it says something else; ``where`` names the manifest.
    """
    stated = document.get(key)
    try:
        return type.validate_python([] if stated is None else stated, strict=False)
    except ValidationError as error:
        raise InvalidInput(
            f"{where}: {first_problem(error, key)}; to begin without {key}, take the "
            "file away and make the report again"
        ) from error


def parse_approvals(document: Document, where: str) -> list[Approval]:
    """The approvals that the manifest of a report has.

    Raises:
        InvalidInput: as :func:`parse_recorded`.
    """
    return parse_recorded(document, "approvals", APPROVALS, where)


State = Literal["passed", "failed", "not verified"]
States = Mapping[str, Mapping[str, State]]
"""Asset → blocking rule → what is remembered about it."""


DIRECTORIES, INTEGRITY, BACKUP = "Directories", "Integrity", "Backup"
"""The items that list no artifacts: every one proves the first two, a publication the third."""

DAY = len("YYYY-MM-DD")
"""Characters of a UTC time that name the day."""

MISSING_BACKUP = Markdown("none of this release: `wmtp publish --to URL`, then make the report")

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
    "Tag",
    BACKUP,
)
"""The items of the preparation plan, in its order. Which of them an artifact proves, its kind says;
one that the plan does not have comes last."""


@dataclass(frozen=True)
class Item:
    """An item of the checklist.

    Attributes:
        there: the artifacts that prove it and are there.
        absent: the optional ones that are not there.
        state: of all of them together.
        evidence: in a few words; Markdown.
    """

    title: str
    there: list[Fact]
    absent: list[Artifact]
    state: State
    evidence: Markdown

    @property
    def days(self) -> str:
        """The first and the last day on which content of it was made; empty: it lists none."""
        listed = () if self.title in (DIRECTORIES, INTEGRITY) else self.there
        days = sorted(str(fact.stated("created_at"))[:DAY] for fact in listed)
        return " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""


def items_of(facts: Facts) -> list[Item]:
    """The checklist."""
    artifacts = map(facts.store.catalogue.__getitem__, facts.about.upstream)
    titles = dict.fromkeys((*PLAN, *(artifact.item for artifact in artifacts)))
    return [_item(facts, title) for title in titles]


def _item(facts: Facts, title: str) -> Item:
    states = states_in(facts.remembered)
    there = [fact for fact in facts.there if title in (fact.artifact.item, DIRECTORIES, INTEGRITY)]
    absent = [item for item in facts.absent if title in (item.item, DIRECTORIES, INTEGRITY)]
    if title == BACKUP:
        backups = _backups(facts)
        said = join(f"{it.to} on {it.at[:DAY]}, release {it.version}" for it in backups)
        return Item(title, [], [], "passed" if backups else "not verified", said or MISSING_BACKUP)
    return Item(
        title, there, absent, state_of(there, states), _evidence(title, there, absent, states)
    )


def _backups(facts: Facts) -> list[Publication]:
    """The publications of the release that is there, which compared what lies there with it."""
    where = str(facts.store.manifest_path(facts.about))
    found = parse_recorded(facts.remembered, "publications", PUBLICATIONS, where)
    released = {fact.manifest.content_sha256 for fact in facts.of("release")}
    return [publication for publication in found if publication.release in released]


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
    return {item.title: item.state for item in items_of(facts)}


def body(facts: Facts) -> bytes:
    """The report without its approvals.

    Raises:
        InvalidInput: as :func:`parse_recorded` and :func:`action_items`.
    """
    items = items_of(facts)
    where = str(facts.store.manifest_path(facts.about))
    return render(
        "of_storage/report",
        facts=facts,
        items=items,
        listed=[item for item in items if item.title not in (DIRECTORIES, INTEGRITY, BACKUP)],
        states=states_in(facts.remembered),
        state_of=state_of,
        rules=_rules,
        issues=parse_recorded(facts.remembered, "issues", ISSUES, where),
        day=DAY,
        next_steps=[item for item in action_items(facts.store.catalogue) if item.state == "open"],
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
    approvals = parse_approvals(facts.remembered, str(facts.store.manifest_path(facts.about)))
    now = body_sha256(said)
    approved = {approval.role for approval in approvals if approval.sha256 == now}
    return b"\n".join(
        (
            said,
            render(
                "of_storage/approvals",
                now=now,
                approvals=approvals,
                missing=[role for role in get_args(Role) if role not in approved],
                conditions=dict(_conditions(facts, approved)),
            ),
        )
    )


def _conditions(facts: Facts, approved: Collection[str | None]) -> Iterator[tuple[str, bool]]:
    """What must be so before phase 2 begins, and whether it is."""
    states = checklist(facts)
    for title in (BACKUP, "Tag"):
        yield f"The item {title} of the checklist has passed", states.pop(title) == "passed"
    yield "Every other item of the checklist has passed", {*states.values()} <= {"passed"}
    for role in get_args(Role):
        yield f"This report is approved as {role}", role in approved
    blocking = [item for item in action_items(facts.store.catalogue) if item.blocks_next_phase]
    for item in blocking:
        yield f"Action item: {item.title}", item.state == "closed"
    if not blocking:
        yield "No action item blocks it", True


def _evidence(
    title: str, there: Sequence[Fact], absent: Sequence[Artifact], states: States
) -> Markdown:
    if title == DIRECTORIES:
        tops = Counter(fact.artifact.base.split("/")[0] for fact in there)
        return join(Markdown(f"{code(f'{top}/')} {shown(tops[top])} assets") for top in TOP_FOLDERS)
    if title == INTEGRITY:
        found = Counter(state for fact in there for state in states.get(fact.key, {}).values())
        return join(f"{shown(found[state])} rules {state}" for state in get_args(State))
    size = human_bytes(sum(fact.size for fact in there))
    more = f", {shown(len(absent))} optional ones not there" if absent else ""
    return Markdown(f"{shown(len(there))} assets, {size}{more}")


def _rules(states: Mapping[str, State]) -> Markdown:
    found = Counter(states.values())
    failed = [code(rule) for rule, state in states.items() if state == "failed"]
    said = join(f"{shown(found[state])} {state}" for state in get_args(State) if found[state])
    return Markdown((f"{said}: {join(failed)}" if failed else said) or NONE)


def remember(facts: Facts, rules_of: RulesOf, say: Say) -> Document:
    """What a report says that is made now: states of rules, what failed and was put right, what was
    published, and the approvals and failures that it has."""
    approvals: list[Approval] = []
    issues: list[Issue] = []
    try:
        before = facts.store.manifest(facts.about).document
        path = str(facts.store.manifest_path(facts.about))
        issues = parse_recorded(before, "issues", ISSUES, path)
        approvals = parse_approvals(before, path)
    except MissingArtifact:
        pass
    except (CorruptArtifact, InvalidInput) as error:
        say(f"left out, all approvals: {error}")
    every = {issue.key: issue for issue in (*issues, *_issues(facts))}
    return {
        "states": {fact.key: _states(facts, fact, rules_of) for fact in facts.there},
        "issues": [every[key].model_dump() for key in sorted(every)],
        "publications": [item.model_dump() for item in publications(facts.store)],
        "approvals": [approval.model_dump() for approval in approvals],
    }


def _issues(facts: Facts) -> Iterator[Issue]:
    """What is remembered of failures that were put right; a description that was made again, after
    what it describes changed, is none."""
    for fact in facts.there:
        if not fact.artifact.is_generated:
            for result in last_results(facts.store, fact.artifact):
                for item in result.put_right:
                    yield Issue(asset=fact.key, rule=result.rule, **item.model_dump())


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
