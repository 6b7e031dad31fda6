"""The rules of the generated documents: they say what is so now, and what was released is there."""

from __future__ import annotations

from itertools import takewhile

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.documents.document import document_of
from wmtp_assets.documents.facts import Facts, gather
from wmtp_assets.documents.of_storage.release import differences, parse_release, to_freeze
from wmtp_assets.rules.findings import Report, Rule, Subject, require_regular
from wmtp_assets.storage.files import open_regular


def check_current(subject: Subject, report: Report) -> None:
    """The document equals, byte for byte, one made again from what is there, and so does its copy.

    A report may say of a rule that it was not applied yet when it was since; it may not hide that
    one failed.
    """
    facts = _facts(subject, report)
    report.goes_on_with(subject, subject.artifact.manifest)
    document = document_of(subject.artifact)
    expected = document.make(facts)
    (name,) = subject.artifact.owns
    found = report.reads(subject, name).read_bytes()
    report.note(artifacts=len(facts.there))
    _compare(subject, report, name, expected, found)
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
    for key in release.artifacts:
        is_optional = key in catalogue and catalogue[key].optional
        if key not in there and not is_optional:
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

    for key in subject.artifact.upstream:
        artifact = store.catalogue[key]
        if store.manifest_path(artifact).is_file():
            report.reads(subject, artifact.manifest, artifact)
            store.manifest(artifact)
    return gather(store, subject.artifact, read, subject.manifest.document)


def _compare(subject: Subject, report: Report, name: str, expected: bytes, found: bytes) -> None:
    if expected == found:
        return
    lines = [data.decode(errors="replace").split("\n") for data in (expected, found)]
    same = takewhile(lambda pair: pair[0] == pair[1], zip(*lines, strict=False))
    number = sum(1 for _ in same)
    wanted, actual = (line[number] if number < len(line) else "the end" for line in lines)
    report.add(
        subject.file(name),
        expected=wanted or "an empty line",
        found=actual or "an empty line",
        place=f"line {number + 1}",
    )


def _check_copies(subject: Subject, report: Report, found: bytes) -> None:
    """The copies of the document at the root are the document."""
    for name in subject.artifact.copied:
        path = subject.store.root / name
        try:
            require_regular(path)
            with open_regular(path) as file:
                same = file.readall() == found
        except FileNotFoundError:
            report.add(
                name, expected=f"a copy of {subject.file(name)}", found="nothing", problem="missing"
            )
            continue
        if not same:
            report.add(name, expected=f"a copy of {subject.file(name)}", found="another file")


RULES = (
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
