"""Applying all rules to artifacts, as ``wmtp verify`` does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import TOP_FOLDERS, Artifact, is_of_a_tool
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.rules.apply import ABSENT, apply_in_child, is_committed
from wmtp_assets.rules.findings import Finding, Outcome, Problem, Report
from wmtp_assets.storage.files import names_below
from wmtp_assets.storage.pulls import pulls
from wmtp_assets.storage.store import Store, materialize_command

EXIT_CODES: Mapping[Problem, int] = {
    "corrupt": 1,
    "missing": 2,
    "extra": 2,
    "unreadable": 4,
    "changing": 8,
    "warning": 0,
}
"""Each code that occurs counts once, and they add up; 0: all good."""


@dataclass(frozen=True)
class Verdict:
    """What one rule said about one artifact."""

    artifact: str
    rule: str
    outcome: Outcome


def verify(
    store: Store,
    artifacts: Iterable[Artifact],
    told: Callable[[Verdict], None] = lambda verdict: None,
    say: Say = silent,
    *,
    asked_for: Collection[str] = (),
    only: Collection[str] = (),
) -> list[Verdict]:
    """Apply every rule to each artifact.

    An artifact that was never committed gets one verdict, from the rule ``committed``.

    Args:
        told: gets each verdict at once.
        say: gets lines of progress.
        asked_for: keys of optional artifacts that somebody asked for: they must be there too.
        only: names of the rules to apply; empty: every one.
    """
    verdicts = []
    for artifact in artifacts:
        if is_committed(store, artifact):
            rules = [rule for rule in rules_of(artifact) if not only or rule.name in only]
            for rule in rules:
                outcome = apply_in_child(rule, store, artifact, say)
                verdicts.append(Verdict(artifact.key, rule.name, outcome))
                told(verdicts[-1])
            continue
        report = Report("committed", artifact.key, materialize_command(artifact.key))
        if artifact.optional and artifact.key not in asked_for:
            report.skip(ABSENT)
        else:
            report.add(
                f"{artifact.base}/{artifact.manifest}",
                expected="a committed artifact",
                found="nothing",
                problem="missing",
            )
        verdicts.append(Verdict(artifact.key, "committed", report.outcome))
        told(verdicts[-1])
    return verdicts


def verify_release(
    store: Store, told: Callable[[Verdict], None], say: Say = silent
) -> list[Verdict]:
    """Compare every byte of what is frozen with the release.

    ``sha256`` compares bytes with manifests, and ``release`` manifests with ``RELEASE.json``.

    Args:
        told, say: as for :func:`verify`.
    """
    judged = to_judge(store)
    frozen = [artifact for artifact in judged if not artifact.is_generated]
    release = [artifact for artifact in judged if artifact.kind == "release"]
    return verify(store, [*release, *frozen], told, say, only=("release", "sha256"))


def to_judge(store: Store) -> list[Artifact]:
    """The artifacts that must be right where nobody named any: all; under a root that something was
    pulled to, what was pulled or is there."""
    pulled = pulls(store)
    return [
        artifact
        for artifact in store.catalogue
        if not pulled or artifact.key in pulled or is_committed(store, artifact)
    ]


def optional_ones(store: Store, names: Iterable[str]) -> set[str]:
    """Keys of the optional artifacts that must be there: those of names that mean no other."""
    selected = (store.catalogue.select(name) for name in names)
    return {item.key for items in selected if all(i.optional for i in items) for item in items}


def strays(store: Store) -> Verdict:
    """Files below the artifact folders that belong to no artifact."""
    report = Report("strays", "", "move it elsewhere")

    def name(path: Path) -> str:
        return path.relative_to(store.root).as_posix()

    def unreadable(error: OSError) -> None:
        report.add(
            name(Path(error.filename)),
            expected="readable",
            found=error.strerror,
            problem="unreadable",
            remedy="make it readable",
        )

    for top in TOP_FOLDERS:
        for path in sorted(map(name, names_below(store.root / top, unreadable))):
            if not is_of_a_tool(path) and not any(
                path.startswith(f"{item.base}/")
                and item.is_owner(path.removeprefix(f"{item.base}/"))
                for item in store.catalogue
            ):
                report.add(
                    path,
                    expected="only files of artifacts",
                    found="a file of none",
                    problem="extra",
                )
    return Verdict("", "strays", report.outcome)


def findings_of(verdicts: Iterable[Verdict]) -> list[Finding]:
    """All findings, in order."""
    return [finding for verdict in verdicts for finding in verdict.outcome.findings]


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """The exit code for what was found: a sum of :data:`EXIT_CODES`."""
    return sum({EXIT_CODES[finding.problem] for finding in findings_of(verdicts)})
