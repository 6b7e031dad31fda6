"""The memory of verification: complete while it is whole, and never more than a memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules import apply as record
from wmtp_assets.rules.apply import (
    LastResult,
    PutRight,
    apply_rule,
    last_results,
    sign,
    signature,
)
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.light import hide
from wmtp_assets_tests.rules.cases import apply, edit_manifest, edit_split, rule_of
from wmtp_assets_tests.trees import damage, flip

AT = "2026-01-01T00:00:00Z"


@pytest.fixture
def small(store: Store, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """The small artifact, on a day that is known."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    return store.catalogue["humaneval_small"]


def folder(store: Store, artifact: Artifact) -> Path:
    return store.root / ".wmtp/verified" / artifact.key


def test_nothing_is_remembered_before_a_rule_was_applied(store: Store, small: Artifact) -> None:
    """What the commit hashed is known, and is not a result; looking makes none."""
    assert last_results(store, small) == []
    assert [path.name for path in folder(store, small).iterdir()] == ["files.json"]


def test_result_is_remembered_with_time_content_and_files(store: Store, small: Artifact) -> None:
    """Time for the person, content and files to see whether it still speaks of what is there."""
    apply(store, small, "schema")
    manifest = store.manifest(small)
    expected = LastResult(
        rule="schema",
        at=AT,
        content_sha256=manifest.content_sha256,
        problem="",
        files=signature(store, small, manifest),
    )
    assert last_results(store, small) == [expected]
    assert expected.files.keys() == {"test_small.jsonl", "schema.json", "metadata.json"}
    status = store.path(small, "test_small.jsonl").stat()
    assert expected.files["test_small.jsonl"] == [
        status.st_size,
        status.st_mtime_ns,
        status.st_ino,
    ]


def test_failure_is_remembered_and_replaced_by_success(store: Store, small: Artifact) -> None:
    """The last result counts, in both directions."""
    path = store.path(small, "test_small.jsonl")
    good = path.read_bytes()
    damage(path, flip(0))
    outcome = apply(store, small, "schema")
    assert [result.problem for result in last_results(store, small)] == [str(outcome.findings[0])]
    damage(path, lambda data: good)
    apply(store, small, "schema")
    assert [result.problem for result in last_results(store, small)] == [""]


def test_failures_that_were_put_right_are_kept(store: Store, small: Artifact) -> None:
    """A good result does not make one forget what was wrong, and how it was put right."""
    path = store.path(small, "test_small.jsonl")
    good = path.read_bytes()
    problems = []
    for _ in range(2):
        damage(path, flip(0))
        apply(store, small, "schema")
        problems.append(str(apply(store, small, "schema").findings[0]))
        damage(path, lambda data: good)
        apply(store, small, "schema")
    apply(store, small, "schema")
    expected = [
        PutRight(found_at=AT, right_at=AT, problem=problem, is_same_content=True)
        for problem in problems
    ]
    (result,) = last_results(store, small)
    assert [*result.put_right] == expected


def test_each_rule_has_a_result_of_its_own(store: Store, small: Artifact) -> None:
    """One rule's success must not hide that another was never applied."""
    for name in ("schema", "sha256"):
        apply(store, small, name)
    assert [result.rule for result in last_results(store, small)] == ["schema", "sha256"]
    assert last_results(store, store.catalogue["humaneval_stats"]) == []


def test_skipped_rule_is_not_remembered(
    store: Store, small: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """'Verified at' may not count what was not done."""
    hide(monkeypatch, "pyarrow")
    stats = store.catalogue["humaneval_stats"]
    assert apply(store, stats, "recount").skipped
    assert last_results(store, stats) == []


def test_skipped_rule_that_found_something_is_remembered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hashes alone showed is known, whatever could not be looked at."""
    hide(monkeypatch, "sentencepiece")
    micro = store.catalogue["micro_mtp"]
    edit_manifest(tokenizer_shared_with=None)(store, micro)
    outcome = apply(store, micro, "tokenizer")
    assert outcome.skipped and outcome.findings
    assert [result.problem for result in last_results(store, micro)] == [str(outcome.findings[0])]


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff",
    b"{}",
    b"[" * 100_000,
    b'{"rule": "schema", "at": "x", "content_sha256": "y", "problem": ""}',
    b'{"rule": "schema", "at": "x", "content_sha256": "y", "problem": "", "files": []}',
    b'{"rule": "schema", "at": "x", "content_sha256": "y", "problem": "", "files": {"a": 1}}',
    b'{"rule": "schema", "at": 5, "content_sha256": "y", "problem": "", "files": {}}',
    b'{"rule": "schema", "at": "x", "content_sha256": "y", "problem": null, "files": {}}',
]


@pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_record_is_ignored_and_left_there(
    store: Store, small: Artifact, data: bytes
) -> None:
    """A crash of ``wmtp status`` over a memory would be absurd; deleting is not a reader's task."""
    apply(store, small, "schema")
    apply(store, small, "sha256")
    path = folder(store, small) / "schema.json"
    damage(path, lambda _: data)
    assert [result.rule for result in last_results(store, small)] == ["sha256"]
    assert path.read_bytes() == data


def test_what_is_no_record_is_ignored(store: Store, small: Artifact) -> None:
    """Folders, links to nowhere, and what a killed writer left behind."""
    apply(store, small, "schema")
    (folder(store, small) / "folder.json").mkdir()
    (folder(store, small) / "link.json").symlink_to("nowhere")
    (folder(store, small) / ".sha256.json.17.0123abcd").write_bytes(b"{")
    assert [result.rule for result in last_results(store, small)] == ["schema"]


def test_record_of_a_former_version_is_replaced(store: Store, small: Artifact) -> None:
    """Applying the rule again repairs it; nobody has to clean up."""
    apply(store, small, "schema")
    path = folder(store, small) / "schema.json"
    path.write_bytes(b'{"at": "2020"}')
    apply(store, small, "schema")
    assert [result.at for result in last_results(store, small)] == [AT]


def test_signature_leaves_out_what_cannot_be_seen(store: Store, small: Artifact) -> None:
    """A missing file has no size; that it is missing is the caller's to say."""
    manifest = store.manifest(small)
    store.path(small, "test_small.jsonl").unlink()
    assert signature(store, small, manifest).keys() == {"schema.json", "metadata.json"}


@pytest.mark.parametrize(
    "change",
    [
        lambda path: damage(path, lambda data: data),
        lambda path: damage(path, lambda data: data + b"x"),
        lambda path: os.utime(path, ns=(0, 0)),
    ],
    ids=["replaced by the same bytes", "longer", "touched"],
)
def test_signature_changes_with_every_write(
    store: Store, small: Artifact, change: Callable[[Path], None]
) -> None:
    """Size, time and inode: one of them shows each way in which a file is written."""
    path = store.path(small, "test_small.jsonl")
    damage(path, lambda data: data)  # a file of its own, so that touching it is allowed
    before = sign(path)
    change(path)
    assert sign(path) != before


def test_result_of_former_content_is_kept_apart(store: Store, small: Artifact) -> None:
    """A remembered success must not vouch for what was committed since."""
    apply(store, small, "schema")
    before = last_results(store, small)[0].content_sha256
    processed = store.catalogue["humaneval_processed"]
    edit_split("test", lambda rows: rows[:100])(store, processed)
    materialize(store, small)
    assert store.manifest(small).content_sha256 != before
    assert last_results(store, small)[0].content_sha256 == before


def test_storage_that_cannot_be_written_can_be_verified(
    store: Store, small: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shared storage is often mounted for reading only; the result is then told, not kept."""

    def refuse(path: Path, data: bytes) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(record, "replace_file", refuse)
    said: list[str] = []
    outcome = apply_rule(rule_of(small, "schema"), store, small, said.append)
    assert outcome.findings == []
    assert outcome.evidence == {"rows": 32}
    assert len(said) == 1
    assert said[0].startswith("humaneval_small schema: the result is not remembered: ")
    assert "Read-only file system" in said[0]
    assert last_results(store, small) == []
