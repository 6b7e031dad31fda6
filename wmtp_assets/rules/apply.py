"""How a rule is applied to an artifact, here or in the child process, and what is remembered.

The same rules serve Dagster's asset checks, ``wmtp verify`` and the tests.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

from wmtp_assets.base.child import ChildDied, call
from wmtp_assets.base.errors import (
    BadLine,
    CorruptArtifact,
    InvalidInput,
    MissingArtifact,
    SpecError,
)
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.rules.findings import NEEDS, Finding, Outcome, Report, Rule, Subject, is_there
from wmtp_assets.rules.results import Signature, remember, sign, signature
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.store import Store, materialize_command, repair_command

ABSENT = "absent: it is optional, and was not materialized"


def apply_rule(rule: Rule, store: Store, artifact: Artifact, say: Say = silent) -> Outcome:
    """Apply one rule and remember the result. What cannot be read is a finding too.

    An artifact that was committed anew while the rule read it is read again, three times at most.
    An optional one that is absent is skipped.
    """
    if artifact.optional and not is_committed(store, artifact):
        return Outcome(skipped=ABSENT)
    for _ in range(3):
        first = store.find_manifest(artifact)
        before = signature(store, artifact, first) if first else {}
        outcome, manifest = _apply_once(rule, store, artifact, say)
        if manifest is None and not before:
            return outcome
        if _is_at_rest(store, artifact, before):
            if manifest is not None and (outcome.findings or not outcome.skipped):
                _remember(store, artifact, manifest, rule, outcome, before, say)
            return outcome
    report = Report(rule.name, artifact.key, "run again when nobody writes")
    report.add(
        f"{artifact.base}/{artifact.manifest}",
        expected="an artifact at rest",
        found="it was committed anew during each of three readings",
        problem="changing",
    )
    return report.outcome


def apply_in_child(rule: Rule, store: Store, artifact: Artifact, say: Say = silent) -> Outcome:
    """:func:`apply_rule` in the child process: a file that ends it is a finding.

    The rule is pickled, and so its check is a function of a module; to which artifacts it applies
    was asked before.
    """
    try:
        return call(apply_rule, replace(rule, applies=None), store, artifact, say=say)
    except ChildDied as error:
        file = error.reading.removeprefix(f"{store.root}/")
        report = Report(rule.name, artifact.key, repair_command(_owner(store, file, artifact).key))
        report.add(
            file or f"{artifact.base}/{artifact.manifest}",
            expected="a file that can be read",
            found=f"reading it ended with {error.cause}",
        )
        manifest = store.find_manifest(artifact)
        if manifest is not None:
            _remember(store, artifact, manifest, rule, report.outcome, {}, say)
        return report.outcome


def _owner(store: Store, file: str, artifact: Artifact) -> Artifact:
    """Whose file lies at a path below the root; ``artifact`` where that is nobody's."""
    for other in (artifact, *store.catalogue):
        name = file.removeprefix(f"{other.base}/")
        if name != file and other.is_owner(name):
            return other
    return artifact


def is_committed(store: Store, artifact: Artifact) -> bool:
    """Whether there is a manifest; where that cannot be seen, the rules say why."""
    try:
        return is_there(store.manifest_path(artifact))
    except OSError:
        return True


def _is_at_rest(store: Store, artifact: Artifact, before: Signature) -> bool:
    """Whether the manifest is the one that was there ``before``."""
    try:
        return before.get(artifact.manifest) == sign(store.manifest_path(artifact))
    except OSError:
        return False


def _remember(
    store: Store,
    artifact: Artifact,
    manifest: Manifest,
    rule: Rule,
    outcome: Outcome,
    before: Signature,
    say: Say,
) -> None:
    try:
        remember(store, artifact, manifest, rule.name, outcome, before)
    except OSError as error:  # storage may be mounted for reading only
        say(f"{artifact.key} {rule.name}: the result is not remembered: {error}")


def _apply_once(
    rule: Rule, store: Store, artifact: Artifact, say: Say
) -> tuple[Outcome, Manifest | None]:
    """The outcome, and the manifest it is about; None: it could not be read."""
    remedy = materialize_command(artifact.key)
    report = Report(rule.name, artifact.key, remedy, f"{artifact.base}/{artifact.manifest}")
    statement = rule.statement.removesuffix(".")
    manifest = None
    try:
        manifest = store.manifest(artifact)
        missing = [NEEDS[name] for name in rule.needs if find_spec(name) is None]
        if missing:
            report.skip(missing[0])
        else:
            rule.check(Subject(store, artifact, manifest, say), report)
    except MissingArtifact as error:
        report.interrupted(expected="a committed artifact", found=error, problem="missing")
    except BadLine as error:
        report.interrupted(place=f"line {error.line}", expected=statement, found=error.problem)
    except CorruptArtifact as error:
        report.interrupted(expected=statement, found=error, is_committed=False)
    except (InvalidInput, SpecError) as error:
        report.interrupted(expected=statement, found=error)
    except (FileNotFoundError, NotADirectoryError):
        report.interrupted(
            expected="a file", found="nothing", problem="missing", is_committed=False
        )
    except OSError as error:
        report.interrupted(
            expected="readable", found=error.strerror, problem="unreadable", is_committed=False
        )
    # the first finding is the one that is remembered, and the first ten are shown
    report.outcome.findings.sort(key=lambda finding: finding.problem == "warning")
    return report.outcome, manifest


def first_findings(findings: list[Finding], count: int = 10) -> list[dict[str, str]]:
    """The first findings as rows of a table."""
    return [finding.as_row() for finding in findings[:count]]
