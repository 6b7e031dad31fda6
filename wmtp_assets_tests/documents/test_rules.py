"""The rules of the generated documents: what they say is so now, and what was released is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules.apply import apply_rule, remember, signature
from wmtp_assets.storage.store import Store, materialize_command
from wmtp_assets_tests.examples import line_in
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.rules.cases import (
    KEY,
    STATEMENT,
    Case,
    Damage,
    apply,
    edit_json,
    edit_manifest,
    elsewhere,
    remove,
    rewrite,
    then,
)
from wmtp_assets_tests.trees import damage, flip, remove_optional

REPORT = "phase1_completion_report.md"
CARD = "micro-mtp/README.md"
CROISSANT = "mbpp/croissant.json"
SOME = ".+"


def replaced(name: str, old: bytes, new: bytes) -> Damage:
    """Replace the first ``old`` in a document, which must be there, and seal."""

    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return rewrite(name, change)


def copy_at_root(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change the copy of a document at the root."""
    return lambda store, artifact: damage(store.root / name, change)


def copied(store: Store, artifact: Artifact) -> None:
    """Copy the document to the root."""
    (name,) = artifact.owns
    damage(store.root / name, lambda data: store.path(artifact, name).read_bytes())


def only_file_of(key: str, name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change a file of another artifact and nothing that vouches for it."""
    return lambda store, artifact: damage(store.path(store.catalogue[key], name), change)


def verified(key: str) -> Damage:
    """Apply the rules of an artifact, and remember what they find."""

    def act(store: Store, artifact: Artifact) -> None:
        for rule in rules_of(store.catalogue[key]):
            apply_rule(rule, store, store.catalogue[key])

    return act


def made_again(store: Store, artifact: Artifact) -> None:
    """Make the document from what is there."""
    materialize(store, artifact)


def line(example: str, text: str, after: int = 0) -> str:
    """The line of a document that has ``text`` in it, as a finding names it."""
    return f"line {line_in(example, text) + after}"


def current(name: str, damage: Damage, file: str, place: str, **more: Any) -> Case:
    kind = more.pop("kind", "document")
    expected, found = more.pop("expected", SOME), more.pop("found", SOME)
    return Case(name, "current", kind, damage, file, place, expected, found, **more)


def of_release(
    name: str, damage: Damage, place: str, expected: str, found: str, **more: Any
) -> Case:
    file = more.pop("file", "RELEASE.json")
    return Case(name, "release", "release", damage, file, place, expected, found, **more)


def edit_release(key: str, **changes: Any) -> Damage:
    """Change what is frozen of an artifact (``...``: remove), and seal."""

    def change(data: bytes) -> bytes:
        document = json.loads(data)
        if changes.get("gone"):
            del document["artifacts"][key]
        else:
            document["artifacts"][key] = {**document["artifacts"]["micro_mtp"], **changes}
        return (json.dumps(document, indent=2) + "\n").encode()

    return rewrite("RELEASE.json", change)


FROZEN = r"\d+ files of \d+ bytes with SHA-256 [0-9a-f]{64}"
WAS = rf"{FROZEN}, as version v2\.0\.0 was released"
MICRO_STATS = "../datasets_v2/mbpp/stats"

CASES = [
    current(
        "a number in the card edited by hand",
        replaced("README.md", b"24,908,288", b"24,908,289"),
        "README.md",
        line(CARD, "| numbers |"),
        kind="card",
        expected=r"\| numbers \| 24,908,288 \|",
        found=r"\| numbers \| 24,908,289 \|",
    ),
    current(
        "the model was made again from another revision",
        elsewhere("micro_mtp", edit_manifest(source__revision="0" * 40)),
        "README.md",
        line(CARD, "| revision |"),
        kind="card",
        expected=r"\| revision \| `0{40}` \|",
        findings=-1,  # the bill of materials says otherwise, too
    ),
    current(
        "the model is damaged: that is what must be repaired",
        only_file_of("micro_mtp", "metadata.json", flip(20)),
        "metadata.json",
        "",
        kind="card",
        expected=STATEMENT["current", "card"],
        found=r".*metadata\.json: .*",
        remedy="micro_mtp",
    ),
    current(
        "a line was added to the card",
        rewrite("README.md", lambda data: data + b"checked\n"),
        "README.md",
        line(CARD, "To verify it", 1),
        kind="card",
        expected="an empty line",
        found="checked",
    ),
    current(
        "the card of a dataset gives train as test",
        replaced("README.md", b"path: index/test.parquet", b"path: index/train.parquet"),
        "README.md",
        "line 23",
        kind="card",
        key="mbpp_card",
        expected=r"    path: index/test\.parquet",
        found=r"    path: index/train\.parquet",
    ),
    current(
        "the licence of a dataset edited by hand",
        edit_json("croissant.json", license="MIT"),
        "croissant.json",
        line(CROISSANT, '"license"'),
        kind="croissant",
        expected='  "license": "CC-BY-4.0",',
        found='  "license": "MIT",',
    ),
    current(
        "the rows are others than it has the hash of",
        elsewhere("mbpp_processed", rewrite("processed/train.jsonl", lambda data: data + b"\n")),
        "croissant.json",
        line(CROISSANT, '"contentSize"'),
        kind="croissant",
        expected=r'      "contentSize": "\d+ B",',
    ),
    current(
        "a state edited by hand",
        replaced(REPORT, b"**not verified**", b"**passed**"),
        REPORT,
        line(REPORT, "| Directories |"),
        found=r"\| 1 \| Directories \| .* \| \*\*passed\*\* \|",
    ),
    current(
        "an approval that nobody gave",
        replaced(REPORT, b"Nobody has approved it yet", b"Ada has approved it"),
        REPORT,
        line(REPORT, "Nobody has"),
        found="Ada has approved it: .*",
    ),
    current(
        "an artifact is another one than it tells of",
        elsewhere("mbpp_small", rewrite("test_small.jsonl", lambda data: data + b"\n")),
        REPORT,
        line(REPORT, "| Small sets |"),
        expected=r"\| 6 \| Small sets \| .* \| 2025-11-13 to 2026-01-01 \| .*",
    ),
    current(
        "a rule failed since it was made",
        then(
            only_file_of("mbpp_small", "test_small.jsonl", flip(9)),
            verified("mbpp_small"),
        ),
        REPORT,
        "sha256 of mbpp_small",
        expected="failed, as of .*Z",
        found="not verified",
        findings=-1,
    ),
    current(
        "a rule that failed when it was made holds again",
        then(
            only_file_of("mbpp_small", "test_small.jsonl", flip(9)),
            verified("mbpp_small"),
            made_again,
            only_file_of("mbpp_small", "test_small.jsonl", flip(9)),
            verified("mbpp_small"),
        ),
        REPORT,
        "sha256 of mbpp_small",
        expected="passed, as of .*Z",
        found="failed",
        findings=-1,
    ),
    current(
        "approvals that are none",
        edit_manifest(approvals=["Ada"]),
        "phase1_completion_report.metadata.json",
        "",
        expected=STATEMENT["current", "document"],
        found=r".*: approvals\.0: .*",
    ),
    current(
        "a dataset's count edited by hand in the readme",
        then(replaced("README.md", b"6,038", b"6,039"), copied),
        "README.md",
        line("README.md", "| `codecontests_processed` |"),
        key="storage_readme",
    ),
    current(
        "the copy at the root was edited",
        copy_at_root("README.md", flip(9)),
        "../README.md",
        "",
        key="storage_readme",
        expected="a copy of docs/README.md",
        found="another file",
    ),
    current(
        "the copy at the root is gone",
        lambda store, artifact: (store.root / "README.md").unlink(),
        "../README.md",
        "",
        key="storage_readme",
        expected="a copy of docs/README.md",
        found="nothing",
        problem="missing",
    ),
    current(
        "statistics are not JSON",
        elsewhere("mbpp_stats", lambda store, artifact: _no_json(store, artifact)),
        f"{MICRO_STATS}/*_summary.json",
        "",
        key="migration_notes",
        expected=STATEMENT["current", "document"],
        found="mbpp_stats: .*: column 1: .*",
        remedy="mbpp_stats",
    ),
    of_release(
        "an artifact changed under its version",
        elsewhere("mbpp_small", rewrite("test_small.jsonl", lambda data: data + b"\n")),
        "artifacts.mbpp_small",
        WAS,
        FROZEN,
        advice="if the change is wanted, raise version in the defs.yaml of mbpp and run: "
        + materialize_command("mbpp_small,storage_release"),
    ),
    of_release(
        "what was frozen was edited",
        then(edit_release("micro_ref", size=1), copied),
        "artifacts.micro_ref",
        WAS,
        FROZEN,
        advice="if the change is wanted, raise version in the defs.yaml of micro_ref and run: "
        + materialize_command("micro_ref,storage_release"),
    ),
    of_release(
        "an artifact of a version that was not released",
        elsewhere("mbpp_small", edit_manifest(version="v2.0.1")),
        "artifacts.mbpp_small",
        r"version v2\.0\.0, as released",
        r"version v2\.0\.1",
    ),
    of_release(
        "an artifact that was not there when it was released",
        then(edit_release("starling_rm_safetensors", gone=True), copied),
        "artifacts.starling_rm_safetensors",
        "an artifact that was released",
        r"version v2\.0\.0, which was not there then",
    ),
    of_release(
        "a required artifact is gone",
        elsewhere("mbpp_small", remove("metadata.json")),
        "artifacts.mbpp_small",
        "an artifact that is there, as it was released",
        "nothing",
        problem="missing",
    ),
    of_release(
        "a version that the spec does not have",
        then(edit_json("RELEASE.json", version="v1.0.0"), copied),
        "version",
        r"v2\.0\.0",
        r"v1\.0\.0",
    ),
    of_release(
        "the copy at the root was edited",
        copy_at_root("RELEASE.json", flip(9)),
        "",
        "a copy of docs/RELEASE.json",
        "another file",
        file="../RELEASE.json",
    ),
    of_release(
        "it is not a release",
        rewrite("RELEASE.json", lambda data: b"[]\n"),
        "",
        STATEMENT["release", "release"],
        r".*RELEASE\.json: a list, not an object",
    ),
    of_release(
        "a size that is not a number",
        edit_release("micro_ref", size="1"),
        "",
        STATEMENT["release", "release"],
        r".*RELEASE\.json: artifacts\.micro_ref\.size: .*",
    ),
]


def _no_json(store: Store, artifact: Artifact) -> None:
    (path,) = store.folder(artifact).glob("*_summary.json")
    rewrite(path.name, lambda data: b"no JSON\n")(store, artifact)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_damage_is_found(store: Store, case: Case) -> None:
    """People read these documents instead of the manifests: they must not say what is not so."""
    case.check(store)


@pytest.mark.long
def test_report_stays_right_while_rules_are_applied(store: Store) -> None:
    """Checks run every night: what was 'not verified' may have passed since, and nobody has to
    make the report again for that."""
    report = store.catalogue[KEY["document"]]
    for key in report.upstream:
        for rule in rules_of(store.catalogue[key]):
            apply_rule(rule, store, store.catalogue[key])
    assert apply(store, report, "current").findings == []
    materialize(store, report)
    assert b"0 rules failed, 0 rules not verified" in store.read(report, REPORT)
    assert apply(store, report, "current").findings == []


def test_memory_of_another_content_is_none(store: Store) -> None:
    """That a rule held for rows that were there before says nothing about those there now."""
    small = store.catalogue["mbpp_small"]
    manifest = store.manifest(small)
    outcome = apply(store, small, "sha256")
    changed = respec(store, "mbpp", small={"seed": 1})
    materialize(changed, changed.catalogue["mbpp_small"])
    remember(store, small, manifest, "sha256", outcome, signature(store, small, manifest))
    report = store.catalogue[KEY["document"]]
    materialize(store, report)
    states = store.manifest(report).document["states"]["mbpp_small"]
    assert set(states.values()) == {"not verified"}


def test_release_without_the_optional_artifacts(store: Store) -> None:
    """What was never there is not missing; what appears is to be released, and then it is."""
    release = store.catalogue[KEY["release"]]
    remove_optional(store)
    assert apply(store, release, "release").findings == []
    for artifact in store.catalogue:
        if artifact.optional and artifact.spec.name == "starling_rm":
            materialize(store, artifact)
    found = apply(store, release, "release").findings
    assert [item.place for item in found] == [
        f"artifacts.starling_rm_{part}" for part in ("raw", "tokenizer", "safetensors")
    ]
    assert {item.remedy for item in found} == {materialize_command("storage_release")}
    materialize(store, release)
    assert apply(store, release, "release").findings == []
