"""The rules of the generated documents: they say what is so now, and what was released is there."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import yaml

from wmtp_assets.base.yaml_file import read_yaml
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.documents.document import Facts, document_of, gather
from wmtp_assets.documents.of_storage.release import differences, parse_release, to_freeze
from wmtp_assets.rules.findings import Report, Rule, Subject, require_regular
from wmtp_assets.storage.files import open_regular
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.pulls import pulls


def check_current(subject: Subject, report: Report) -> None:
    """The document equals, byte for byte, one made again from what is there, and so does its copy.

    A report may say of a rule that it was not applied yet when it was since; it may not hide that
    one failed.
    """
    facts = _facts(subject, report)
    report.goes_on_with(subject, subject.artifact.manifest)
    document = document_of(subject.artifact)
    report.note(artifacts=[fact.key for fact in facts.there])
    for name, expected in document.files(facts).items():
        path = report.reads(subject, name)
        found = path.read_bytes()
        if expected != found:
            compare = _compare_fields if path.suffix == ".yaml" else _compare_lines
            compare(report, subject.file(name), expected, path)
        if name == document.file:
            _check_copies(subject, report, found)
    document.check(subject, report, facts)


def check_release(subject: Subject, report: Report) -> None:
    """Every artifact that is there has the content that was released under its version."""
    facts = _facts(subject, report)
    (name,) = subject.artifact.owns
    data = report.reads(subject, name).read_bytes()
    release = parse_release(data, str(subject.store.path(subject.artifact, name)))
    report.note(artifacts=len(to_freeze(facts)), version=release.version)
    file = subject.file(name)
    report.require(
        file, expected=subject.artifact.spec.version, found=release.version, place="version"
    )
    for item in differences(facts, release):
        report.add(
            file,
            expected=item.expected,
            found=item.found,
            place=f"artifacts.{item.key}",
            remedy=item.remedy,
        )
    there, catalogue = {fact.key for fact in facts.there}, subject.store.catalogue
    pulled = pulls(subject.store)
    for key in release.artifacts:
        is_needless = (pulled and key not in pulled) or (
            key in catalogue and catalogue[key].optional
        )
        if key not in there and not is_needless:
            report.add(
                file,
                expected="an artifact that is there, as it was released",
                found="nothing",
                place=f"artifacts.{key}",
                problem="missing",
            )
    _check_copies(subject, report, data)


def _facts(subject: Subject, report: Report) -> Facts:
    """What the document is about; an error on the way is a finding about the file that is read."""
    store = subject.store

    def read(artifact: Artifact, name: str) -> bytes:
        report.reads(subject, name, artifact)
        return store.read(artifact, name)

    def manifest_of(artifact: Artifact) -> Manifest:
        report.reads(subject, artifact.manifest, artifact)
        return store.manifest(artifact)

    return gather(store, subject.artifact, read, manifest_of, subject.manifest.document)


def _compare_fields(report: Report, file: str, expected: bytes, path: Path) -> None:
    before = report.outcome.count
    report.require(file, expected=yaml.safe_load(expected), found=read_yaml(path))
    if report.outcome.count == before:
        report.add(file, expected="the file as it is made", found="the same values, edited by hand")


def _compare_lines(report: Report, file: str, expected: bytes, path: Path) -> None:
    lines = [data.decode(errors="replace").split("\n") for data in (expected, path.read_bytes())]
    same = (one == other for one, other in zip(*lines, strict=False))
    number = next((i for i, is_same in enumerate(same) if not is_same), min(map(len, lines)))
    wanted, actual = (line[number] if number < len(line) else "the end" for line in lines)
    report.add(
        file,
        expected=wanted or "an empty line",
        found=actual or "an empty line",
        place=f"line {number + 1}",
    )


def _check_copies(subject: Subject, report: Report, found: bytes) -> None:
    """The copies of the document at the root are the document."""
    for name in subject.artifact.copied:
        path = subject.store.root / name
        add = partial(report.add, expected=f"a copy of {subject.file(name)}")
        try:
            require_regular(path)
            with open_regular(path) as file:
                if file.read(len(found) + 1) != found:
                    add(name, found="another file")
        except FileNotFoundError:
            add(name, found="nothing", problem="missing")


RULES = (
    Rule(
        "current",
        "The snapshot holds the parameters of every model that is there, as they are now.",
        ("parameters",),
        check_current,
    ),
    Rule(
        "current",
        "The document is what is made of the artifacts as they are now, its copy at the root is "
        "the same, and it hides no failed rule.",
        ("card", "croissant", "document"),
        check_current,
    ),
    Rule(
        "release",
        "Every artifact that is there has the content that was released under its version.",
        ("release",),
        check_release,
    ),
)
