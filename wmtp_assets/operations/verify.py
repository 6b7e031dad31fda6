"""Applying all rules to artifacts, as ``wmtp verify`` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import (
    FIRST_VERSION,
    INTERNAL,
    SIGNATURES,
    TOP_FOLDERS,
    Artifact,
    is_of_a_tool,
)
from wmtp_assets.destinations.listing import MANIFEST
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.rules.apply import ABSENT, apply_each, is_committed
from wmtp_assets.rules.findings import Finding, Outcome, Problem, Report
from wmtp_assets.storage.files import names_below
from wmtp_assets.storage.pulls import pulls
from wmtp_assets.storage.store import Store, materialize_command

SAMPLE = "sample"
"""Below the root of the hub: the root of the sample."""

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
            for rule, outcome in apply_each(rules, store, artifact, say):
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
    """What lies under the root, and below the artifact folders, and belongs to no artifact that is
    there: files, empty folders, and links in place of folders."""
    report = Report("strays", "", "move it elsewhere")

    def name(path: Path) -> str:
        return path.relative_to(store.root).as_posix()

    def unreadable(error: OSError) -> None:
        if _is_of_a_filesystem(name(Path(error.filename))):
            return
        report.add(
            name(Path(error.filename)),
            expected="readable",
            found=error.strerror,
            problem="unreadable",
            remedy="make it readable",
        )

    _at_root(store, report, unreadable)
    owners = [item for item in to_judge(store) if not item.optional or is_committed(store, item)]
    for top in TOP_FOLDERS:
        folder = store.root / top
        if folder.is_symlink() or not folder.is_dir():
            continue
        for path in sorted(map(name, [*names_below(folder, unreadable), *_empty_below(folder)])):
            is_harmless = is_of_a_tool(path) or _is_of_a_filesystem(path)
            if is_harmless or any(_is_in_place(item, path) for item in owners):
                continue
            absent = [item for item in store.catalogue if _is_in_place(item, path)]
            is_folder = not (store.root / path).is_symlink() and (store.root / path).is_dir()
            if is_folder and (absent or _is_of_the_contract(store, path)):
                continue  # as wmtp init makes it
            what = "an empty folder" if is_folder else "a file"
            report.add(
                path,
                expected=f"nothing: {absent[0].key} is not there"
                if absent
                else "only files of artifacts",
                found=f"{what} of none",
                problem="extra",
            )
    return Verdict("", "strays", report.outcome)


def _at_root(store: Store, report: Report, unreadable: Callable[[OSError], None]) -> None:
    """What lies directly below the root: our folders, copies of documents, and nothing else."""
    folders = {*TOP_FOLDERS, INTERNAL, SIGNATURES}
    files = {MANIFEST, *(name for item in store.catalogue for name in item.copied)}
    signatures = {item.signature for item in store.catalogue}
    try:
        there = sorted(store.root.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        unreadable(error)
        return
    for path in there:
        is_folder = path.is_dir() and not path.is_symlink()
        if path.name in folders and not is_folder:
            found = "a link" if path.is_symlink() else "a file"
            report.add(path.name, expected="a folder", found=found, problem="extra")
        elif path.name not in (*folders, *files, *FIRST_VERSION, SAMPLE) and not (
            is_of_a_tool(path.name) or _is_of_a_filesystem(path.name)
        ):
            found = "a folder of nobody" if is_folder else "a file of nobody"
            report.add(path.name, expected="only what is ours", found=found, problem="extra")
    folder = store.root / SIGNATURES
    if folder.is_symlink():
        return
    for path in sorted(names_below(folder, unreadable)):
        name = path.relative_to(store.root).as_posix()
        if name not in signatures and not is_of_a_tool(name):
            report.add(name, expected="only signatures", found="a file of none", problem="extra")


def _is_in_place(artifact: Artifact, path: str) -> bool:
    """Whether a path below the root is where files of an artifact lie."""
    name = path.removeprefix(f"{artifact.base}/")
    return name != path and artifact.is_owner(name)


def _is_of_the_contract(store: Store, path: str) -> bool:
    """Whether a folder is above, or is, one that artifacts have their files in."""
    return any(f"{item.base}/".startswith(f"{path}/") for item in store.catalogue)


def _is_of_a_filesystem(path: str) -> bool:
    """Whether a file or folder is one that a filesystem makes itself, or that keeps a folder in
    git."""
    return any(part in ("lost+found", ".snapshot", ".gitkeep") for part in path.split("/")) or any(
        part.startswith(".nfs") for part in path.split("/")
    )


def _empty_below(folder: Path) -> Iterator[Path]:
    """The empty folders below a folder; those that cannot be read are left to others."""
    for parent, folders, files in os.walk(folder):
        if not folders and not files and Path(parent) != folder:
            yield Path(parent)


def findings_of(verdicts: Iterable[Verdict]) -> list[Finding]:
    """All findings, in order."""
    return [finding for verdict in verdicts for finding in verdict.outcome.findings]


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """The exit code for what was found: a sum of :data:`EXIT_CODES`."""
    return sum({EXIT_CODES[finding.problem] for finding in findings_of(verdicts)})
