"""What a rule returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from wmtp_assets.layout import Artifact, Kind
from wmtp_assets.manifest import Manifest
from wmtp_assets.progress import Say, silent
from wmtp_assets.store import Store

Problem = Literal["corrupt", "missing", "extra", "unreadable", "changing"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        rule, artifact: which rule found it, in which asset.
        problem: its class; decides the exit code of ``wmtp verify``.
        file: path below the storage root.
        place: tensor, line or field inside the file; empty: the file as a whole.
        expected, found: for people.
        remedy: the command or step that mends it.
    """

    rule: str
    artifact: str
    problem: Problem
    file: str
    place: str
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.place}" if self.place else self.file
        return f"{where}: expected {self.expected}, found {self.found}"

    def as_row(self) -> dict[str, str]:
        """As a row of a table."""
        return asdict(self)


@dataclass
class Outcome:
    """What a rule found, and what it looked at.

    Attributes:
        findings: empty: the rule holds.
        evidence: what was read, for people; JSON values.
        skipped: why the rule could not be applied here; empty: it was applied.
    """

    findings: list[Finding] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""


@dataclass(frozen=True)
class Subject:
    """The artifact a rule is applied to; ``say`` receives lines of progress."""

    store: Store
    artifact: Artifact
    manifest: Manifest
    say: Say = silent

    def file(self, name: str) -> str:
        """The path of the artifact's file ``name`` below the root, for a finding."""
        return f"{self.artifact.base}/{name}"


@dataclass(frozen=True)
class Rule:
    """A rule, and the kinds of artifact it applies to.

    Attributes:
        name: also the name of the Dagster asset check.
        statement: one sentence; what holds where there is no finding.
        kinds: the kinds of artifact it applies to.
        check: yields findings through the :class:`Report` it is given.
    """

    name: str
    statement: str
    kinds: frozenset[Kind]
    check: Callable[[Subject, Report], None]


class Report:
    """Collects the findings and the evidence of one rule on one artifact."""

    def __init__(self, rule: str, artifact: str, remedy: str) -> None:
        self._rule, self._artifact, self._remedy = rule, artifact, remedy
        self.outcome = Outcome()

    def add(
        self,
        file: str,
        *,
        expected: object,
        found: object,
        place: str = "",
        problem: Problem = "corrupt",
        remedy: str = "",
    ) -> None:
        """Record a finding; the remedy is, by default, to make the artifact again."""
        self.outcome.findings.append(
            Finding(
                rule=self._rule,
                artifact=self._artifact,
                problem=problem,
                file=file,
                place=place,
                expected=str(expected),
                found=str(found),
                remedy=remedy or self._remedy,
            )
        )

    def require(self, file: str, *, expected: object, found: object, place: str = "") -> None:
        """Record a finding unless ``found`` equals ``expected``."""
        if found != expected:
            self.add(file, expected=expected, found=found, place=place)

    def note(self, **evidence: Any) -> None:
        """Add to what was looked at."""
        self.outcome.evidence.update(evidence)

    def skip(self, why: str) -> None:
        """Say that the rule could not be applied here."""
        self.outcome.skipped = why
