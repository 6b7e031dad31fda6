"""What a rule is given, and what it returns."""

from __future__ import annotations

import posixpath
import reprlib
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from wmtp_assets.base.child import reading
from wmtp_assets.base.errors import CorruptArtifact, InvalidInput
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.base.strict_json import MAX_SIZE, parse_object, read_small
from wmtp_assets.base.text import printable
from wmtp_assets.catalogue.artifact import Artifact, S
from wmtp_assets.catalogue.specs import Spec
from wmtp_assets.storage.build import InStore
from wmtp_assets.storage.manifest import Document, FileRecord, Manifest
from wmtp_assets.storage.store import materialize_command, repair_command

R = TypeVar("R", bound=Spec)

Problem = Literal["corrupt", "missing", "extra", "unreadable", "changing", "warning"]

MAX_FINDINGS = 1000
"""Findings of one rule that are kept; the others are only counted."""

MAX_MORE = 16 << 20
"""Bytes that a file may have more than twice what was committed, and is still read by rules."""

MAX_TEXT = 1000
"""Characters of a finding's text; what a damaged file holds may be of any length."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        rule, artifact: which rule found it, in which asset.
        problem: its class; decides the exit code of ``wmtp verify``.
        file: path below the storage root.
        place: tensor, line or field inside the file; empty: the file as a whole.
        expected, found: for people.
        remedy: the command or step that repairs it.
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
        more: how many findings were counted and not kept.
        evidence: what was read, for people; JSON values.
        skipped: why the rule could not be applied here; empty: it was applied.
    """

    findings: list[Finding] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""
    more: int = 0
    remembered: str = ""

    @property
    def count(self) -> int:
        """Findings in all."""
        return len(self.findings) + self.more


def is_warning(outcome: Outcome) -> bool:
    """Whether all that was found are warnings; also where nothing was found."""
    return all(finding.problem == "warning" for finding in outcome.findings)


def stated(document: Any, *keys: str) -> Any:
    """What a JSON document says at ``keys``; None where it says nothing."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


T = TypeVar("T")


def stated_as(kind: type[T], document: Any, *keys: str) -> T | None:
    """As :func:`stated`, where what is said is of a type; None also where it is of another."""
    value = stated(document, *keys)
    return value if type(value) is kind else None


@dataclass(frozen=True)
class Subject(InStore[S]):
    """The artifact a rule is applied to; ``say`` receives lines of progress."""

    manifest: Manifest
    say: Say = silent

    def file(self, name: str) -> str:
        """The path of the artifact's file ``name`` below the root, for a finding."""
        return posixpath.normpath(f"{self.artifact.base}/{name}")

    def stated(self, *keys: str) -> Any:
        """What the manifest says at ``keys``; None where it says nothing."""
        return stated(self.manifest.document, *keys)


NEEDS = {
    "sentencepiece": "sentencepiece is not installed: pip install sentencepiece",
    "tokenizers": "needs tokenizers: pip install 'wmtp_assets[platform]'",
    "pyarrow": "needs pyarrow: pip install 'wmtp_assets[platform]'",
}
"""What a rule says that is skipped for want of a library."""


@dataclass(frozen=True)
class Rule(Generic[R]):
    """A rule, and the kinds of artifact it applies to.

    Attributes:
        name: also the name of the Dagster asset check.
        statement: one sentence; what holds where there is no finding.
        kinds: the kinds of artifact it applies to; empty: every one.
        check: yields findings through the :class:`Report` it is given.
        blocking: False: its findings are warnings, which stop nothing; upstream itself has them.
        needs: libraries without which it is skipped; see :data:`NEEDS`.
        applies: to which artifacts of those kinds; to the others there is nothing to say.
    """

    name: str
    statement: str
    kinds: tuple[str, ...]
    check: Callable[[Subject[R], Report], None]
    blocking: bool = True
    needs: tuple[str, ...] = ()
    applies: Callable[[Artifact[R]], bool] | None = None

    @property
    def expected(self) -> str:
        """The statement as a finding has it: in the middle of a sentence."""
        return self.statement[0].lower() + self.statement[1:].removesuffix(".")

    def is_for(self, artifact: Artifact[Any]) -> bool:
        """Whether the rule applies to ``artifact``."""
        return (not self.kinds or artifact.kind in self.kinds) and (
            self.applies is None or self.applies(artifact)
        )


class _Nothing:
    def __str__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()
_SHORT = reprlib.Repr()
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = 8
_SHORT.maxstring = 200


def as_text(value: object) -> str:
    """``value`` for people: short, on one line, and printable on any terminal."""
    text = _SHORT.repr(value) if isinstance(value, dict | list | tuple | set) else str(value)
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}…"
    return printable(text, keep="")


def differences(expected: Any, found: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: the place, what is expected there, what was found.

    Unlike for ``==``, 1, 1.0 and true differ, as they do in a file.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys(), key=str):
            yield from differences(
                expected.get(key, _NOTHING),
                found.get(key, _NOTHING),
                f"{place}.{key}" if place else str(key),
            )
    elif type(found) is not type(expected) or found != expected:
        yield place, expected, found


def is_there(path: Path) -> bool:
    """Whether anything is at ``path``, be it a link that leads nowhere.

    Raises:
        OSError: if that cannot be seen.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def require_regular(path: Path, committed: FileRecord | None = None) -> None:
    """Require a regular file: opening a pipe can wait forever, and a link leads anywhere.

    Args:
        committed: its size; one that is a little longer is read, to say what is wrong with it.

    Raises:
        CorruptArtifact: if ``path`` is something else, or far larger than it was committed.
        OSError: if it is not there, or cannot be looked at.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise CorruptArtifact(f"{path} is not a regular file: {stat.filemode(status.st_mode)}")
    if committed and status.st_size > 2 * committed.size + MAX_MORE:
        raise CorruptArtifact(
            f"{path} has {status.st_size} bytes, but was committed with {committed.size}"
        )


class Report:
    """Collects the findings and the evidence of one rule on one artifact.

    Args:
        remedy: the command or step that repairs the artifact.
        reading: the file that the rule reads first, below the root.

    Attributes:
        owner: key of the asset whose file is being read.
    """

    def __init__(self, rule: str, artifact: str, remedy: str, reading: str = "") -> None:
        self._rule, self._artifact, self._remedy = rule, artifact, remedy
        self._reading, self.owner = reading, artifact
        self.outcome = Outcome()

    def reads(self, subject: Subject[Spec], name: str, of: Artifact[Spec] | None = None) -> Path:
        """Where the file ``name`` lies, of the subject unless another artifact is given.

        An error that interrupts the rule from here on is a finding about this file.

        Raises:
            CorruptArtifact: if it is not a regular file, or far larger than the committed one: a
                sparse file of any size costs nothing.
            OSError: if it is not there.
        """
        self.goes_on_with(subject, name, of)
        path = subject.store.path(of or subject.artifact, name)
        manifest = subject.store.find_manifest(of) if of else subject.manifest
        require_regular(path, manifest.files.get(name) if manifest else None)
        return path

    def goes_on_with(
        self, subject: Subject[Spec], name: str, of: Artifact[Spec] | None = None
    ) -> None:
        """Say which of several files that are read in turn is read from here on."""
        owner = of or subject.artifact
        self._reading = f"{owner.base}/{name}"
        reading(self._reading)
        self.owner = owner.key

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
        kept = self.outcome.findings
        if len(kept) >= MAX_FINDINGS and any(item.problem == problem for item in kept):
            self.outcome.more += 1
            return
        kept.append(
            Finding(
                rule=self._rule,
                artifact=self._artifact,
                problem=problem,
                file=as_text(file),
                place=as_text(place),
                expected=as_text(expected),
                found=as_text(found),
                remedy=remedy or self._remedy,
            )
        )

    def interrupted(
        self,
        *,
        expected: object,
        found: object,
        place: str = "",
        problem: Problem = "corrupt",
        is_committed: bool = True,
        remedy: str = "",
    ) -> None:
        """Record that the rule could not continue with the file it was reading.

        Args:
            is_committed: False: it is not as it was committed, so that it can be repaired.
            remedy: where making or repairing the file is none.
        """
        command = materialize_command if is_committed else repair_command
        self.add(
            self._reading,
            expected=expected,
            found=found,
            place=place,
            problem=problem,
            remedy=remedy or command(self.owner),
        )

    def require(self, file: str, *, expected: object, found: object, place: str = "") -> None:
        """Record a finding for each place where ``found`` differs from ``expected``."""
        for where, wanted, actual in differences(expected, found, place):
            self.add(file, expected=wanted, found=actual, place=where)

    def note(self, **evidence: Any) -> None:
        """Add to what was looked at."""
        self.outcome.evidence.update(evidence)

    def skip(self, why: str) -> None:
        """Say that the rule could not be applied here."""
        self.outcome.skipped = why


def has_library(report: Report, name: str) -> bool:
    """Whether a library is installed; where not, the rule is skipped."""
    if find_spec(name) is None:
        report.skip(NEEDS[name])
        return False
    return True


def read_file(
    subject: Subject[Spec],
    report: Report,
    name: str,
    of: Artifact[Spec] | None = None,
    max_size: int = MAX_SIZE,
) -> bytes:
    """A small file of the subject, unless another artifact is given.

    Raises:
        InvalidInput: if it is larger than ``max_size`` bytes.
    """
    path = report.reads(subject, name, of)
    try:
        return read_small(path, max_size)
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}") from error


def read_document(
    subject: Subject[Spec], report: Report, name: str, of: Artifact[Spec] | None = None
) -> Document:
    """A JSON file of the subject, unless another artifact is given.

    Raises:
        InvalidInput: if it is none.
    """
    path = report.reads(subject, name, of)
    try:
        return parse_object(read_small(path))
    except ValueError as error:
        raise InvalidInput(f"not JSON: {error}") from error
