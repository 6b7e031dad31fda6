"""What ``wmtp status`` knows without reading a byte of the artifacts: and that is said at once."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DEFS_FOLDER
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.status import Status, status_of
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.rules import test_processed
from wmtp_assets_tests.light import hide
from wmtp_assets_tests.rules.cases import (
    apply,
    edit_manifest,
    edit_split,
    edit_split_row,
    untouched,
)
from wmtp_assets_tests.trees import damage, flip, own, remove_optional, reseal

FIRST, SECOND = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the day on which rules are applied."""

    def set_day(at: str) -> None:
        day = int(at[8:10])
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(1_767_225_600 + (day - 1) * 86_400))

    set_day(FIRST)
    return set_day


@pytest.fixture
def micro(store: Store) -> Artifact:
    """With files of its own: those of the good tree are linked by other tests."""
    micro = store.catalogue["micro_mtp"]
    own(store, micro)
    damage(store.manifest_path(micro), lambda data: data)
    return micro


def verify(store: Store, artifact: Artifact) -> None:
    for rule in rules_of(artifact):
        apply_rule(rule, store, artifact)


def test_absent_artifact(empty_store: Store) -> None:
    """Nothing is known about it, and asking makes nothing."""
    for artifact in empty_store.catalogue:
        assert status_of(empty_store, artifact) == Status(
            artifact.key,
            artifact.kind,
            "absent",
            problem="optional, not materialized" if artifact.optional else "not materialized",
            optional=artifact.optional,
        )
    assert not empty_store.root.exists()


def test_damaged_optional_artifact_is_still_an_optional_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would be counted among those that must be there: 20 of 20 where there are 19."""
    artifact = store.catalogue["starling_rm_raw"]
    assert status_of(store, artifact).optional
    damage(store.manifest_path(artifact), flip(20))
    status = status_of(store, artifact)
    assert (status.state, status.optional) == ("damaged", True)

    def refuse(store: Store, artifact: Artifact) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Store, "manifest", refuse)
    status = status_of(store, artifact)
    assert (status.state, status.optional) == ("unreadable", True)
    assert not status_of(store, store.catalogue["humaneval_raw"]).optional


def test_snapshot_that_was_made_before_an_optional_model_appeared(store: Store) -> None:
    """The training repository copies the snapshot: a model that it lacks is one nobody can name."""
    remove_optional(store)
    snapshot, starling = (
        store.catalogue[key] for key in ("parameter_snapshot", "starling_rm_safetensors")
    )
    verify(store, snapshot)
    assert status_of(store, snapshot).problem == ""
    for artifact in store.catalogue:
        if artifact.spec == starling.spec:
            materialize(store, artifact)
    status = status_of(store, snapshot)
    assert status.state == "attention"
    assert status.problem == (
        "made before starling_rm_safetensors was there; "
        "run: dagster asset materialize --select 'parameter_snapshot'"
    )
    materialize(store, snapshot)
    verify(store, snapshot)
    status = status_of(store, snapshot)
    assert (status.state, status.problem) == ("committed", "")


def test_committed_and_not_yet_verified(store: Store, micro: Artifact) -> None:
    """What the manifest says; that no rule was applied is said too."""
    status = status_of(store, micro)
    manifest = store.manifest(micro)
    source = manifest.document["source"]
    assert status == Status(
        name="micro_mtp",
        kind="micro",
        state="committed",
        size=manifest.size,
        dtype="float16",
        rows=None,
        source="facebook/multi-token-prediction",
        revision=source["revision"],
        endpoint="sample",
        verified_at=None,
        problem="not verified",
    )
    assert status_of(store, store.catalogue["humaneval_processed"]).rows == 164
    assert asdict(status)["state"] == "committed"


def test_some_rules_are_not_all(store: Store, micro: Artifact) -> None:
    """'Verified' means all of them."""
    for rule in rules_of(micro)[:-1]:
        apply_rule(rule, store, micro)
    status = status_of(store, micro)
    assert (status.verified_at, status.problem) == (None, "not verified")


def test_verified_at_is_the_oldest_of_the_rules(
    store: Store, micro: Artifact, clock: Callable[[str], None]
) -> None:
    """One rule that was applied today does not make yesterday's results today's."""
    verify(store, micro)
    clock(SECOND)
    apply(store, micro, "dtype")
    status = status_of(store, micro)
    assert (status.state, status.verified_at, status.problem) == ("committed", FIRST, "")
    verify(store, micro)
    assert status_of(store, micro).verified_at == SECOND


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.utime(path, ns=(1, 1)),
        lambda path: damage(path, flip(0)),
        lambda path: damage(path, lambda data: data),
    ],
    ids=["touched", "another byte", "replaced by the same bytes"],
)
def test_write_since_the_verification_is_shown_at_once(
    store: Store, micro: Artifact, change: Callable[[Path], None]
) -> None:
    """The size is the same, but somebody wrote: the remembered 'ok' is not about this."""
    path = store.path(micro, "configs/config.json")
    damage(path, lambda data: data)  # a file of its own, so that touching it is allowed
    verify(store, micro)
    assert status_of(store, micro).problem == ""
    change(path)
    status = status_of(store, micro)
    assert status.state == "attention"
    assert status.problem.startswith("configs/config.json was written since it was verified at ")
    assert status.problem.endswith("; run: wmtp verify micro_mtp")
    verify(store, micro)
    assert "was written" not in status_of(store, micro).problem


def test_rewritten_in_place_with_its_old_time_is_still_shown(store: Store, micro: Artifact) -> None:
    """``cp -p`` or ``rsync -t`` of another file of that size gives it another inode; where the
    filesystem gives the old one again, the time of the change tells."""
    path = store.path(micro, "configs/config.json")
    verify(store, micro)
    before = path.stat()
    damage(path, flip(0))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    problem = status_of(store, micro).problem
    assert "was written since" in problem or "was edited in place since" in problem


@pytest.mark.parametrize("name", ["configs/config.json", "metadata.json"])
def test_edited_in_place_with_its_old_time_is_still_shown(
    store: Store, micro: Artifact, name: str
) -> None:
    """Size, time and inode are as before: only the time of the last change tells, which nobody can
    set."""
    verify(store, micro)
    path = store.path(micro, name)
    before = path.stat()
    with path.open("r+b") as file:
        file.write(path.read_bytes()[:1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_ino == before.st_ino
    status = status_of(store, micro)
    assert status.problem.startswith(f"{name} was edited in place since its bytes were last read")
    assert status.code == 8
    verify(store, micro)
    assert "edited in place" not in status_of(store, micro).problem


def test_our_own_links_are_no_writes(store: Store, micro: Artifact) -> None:
    """Another artifact of the folder is committed, which links the files of this one anew."""
    verify(store, micro)
    materialize(store, store.catalogue["micro_mtp_card"])
    assert status_of(store, micro).problem == ""


def test_made_from_what_is_gone_is_said(store: Store, micro: Artifact) -> None:
    """The artifact is as its manifest says, and is not made again; that it could not be is said."""
    verify(store, micro)
    parent = store.catalogue["meta_llama_mtp_safetensors"]
    damage(store.manifest_path(parent), flip(20))
    status = status_of(store, micro)
    assert status.problem == (
        "made from meta_llama_mtp_safetensors, whose manifest is damaged or unreadable"
    )
    assert (status.state, status.code) == ("attention", 0)
    store.manifest_path(parent).unlink()
    problem = status_of(store, micro).problem
    assert problem == "made from meta_llama_mtp_safetensors, which is not there"


def test_manifest_written_anew_is_shown(store: Store, micro: Artifact) -> None:
    """The files are the same; what is said about them is not."""
    verify(store, micro)
    edit_manifest(n_params=1)(store, micro)
    assert status_of(store, micro).problem.startswith("metadata.json was written since")


def test_file_of_another_size_needs_no_verification_to_be_seen(
    store: Store, micro: Artifact
) -> None:
    """The manifest knows the size."""
    path = store.path(micro, "configs/config.json")
    size = path.stat().st_size
    damage(path, lambda data: data[:-1])
    status = status_of(store, micro)
    assert (status.state, status.problem) == (
        "attention",
        f"configs/config.json has {size - 1} bytes, not {size}",
    )


@pytest.mark.parametrize("is_verified", [False, True])
def test_missing_file_is_seen(store: Store, micro: Artifact, is_verified: bool) -> None:
    """Whether it was verified once or never."""
    if is_verified:
        verify(store, micro)
    store.path(micro, "tokenizer/tokenizer.model").unlink()
    status = status_of(store, micro)
    assert (status.state, status.problem) == (
        "attention",
        "tokenizer/tokenizer.model is missing",
    )


def test_damaged_manifest_is_seen(store: Store, micro: Artifact) -> None:
    """Then nothing it says is shown."""
    damage(store.manifest_path(micro), flip(30))
    status = status_of(store, micro)
    assert (status.state, status.size, status.dtype) == ("damaged", None, None)
    assert "metadata.json" in status.problem


def test_remembered_failure_is_shown_until_the_rule_passes(store: Store, micro: Artifact) -> None:
    """Nobody has to scroll back for it."""
    path = store.path(micro, "configs/config.json")
    good = path.read_bytes()
    damage(path, lambda data: data.replace(b"float16", b"float32"))
    verify(store, micro)
    status = status_of(store, micro)
    assert status.state == "attention"
    assert status.problem == (
        "dtype: models_v2/micro-mtp/configs/config.json: torch_dtype: "
        "expected float16, found float32"
    )
    damage(path, lambda data: good)
    assert status_of(store, micro).problem == status.problem
    verify(store, micro)
    assert status_of(store, micro).problem == ""


def test_warning_is_no_problem(store: Store) -> None:
    """It cannot be repaired here: shown as a problem it would be one forever."""
    processed = store.catalogue["mbpp_processed"]
    verify(store, processed)
    assert apply(store, processed, "contamination").findings
    status = status_of(store, processed)
    assert (status.state, status.problem) == ("committed", "")
    assert status.verified_at is not None


def test_damage_is_shown_before_warnings(store: Store) -> None:
    """Of all findings one is remembered, and ten are shown: not those that can wait."""
    processed = store.catalogue["mbpp_processed"]
    damage(store.path(processed, "index/test.parquet"), lambda data: data[:-9])
    reseal(store, processed)
    edit_split_row("validation", 1, instruction=f"Write {test_processed.CHAIN}")(store, processed)
    first, *others = apply(store, processed, "text_twins").findings
    assert (first.problem, first.file) == ("corrupt", f"{processed.base}/index/test.parquet")
    assert {item.problem for item in others} == {"warning"}
    status = status_of(store, processed)
    assert (status.state, status.problem) == ("attention", f"text_twins: {first}")


def test_result_about_former_content_does_not_count(store: Store) -> None:
    """After a new commit the artifact is unverified, whatever was known about the old one."""
    small = store.catalogue["humaneval_small"]
    processed = store.catalogue["humaneval_processed"]
    verify(store, small)
    assert status_of(store, small).verified_at is not None
    edit_split("test", lambda rows: rows[:9])(store, processed)
    materialize(store, small)
    status = status_of(store, small)
    assert (status.state, status.verified_at, status.problem) == (
        "committed",
        None,
        "not verified",
    )


def test_result_of_a_rule_that_is_no_more_does_not_count(store: Store, micro: Artifact) -> None:
    """A failure that no rule can take back would be shown forever."""
    verify(store, micro)
    folder = store.root / ".wmtp/verified/micro_mtp"
    text = (folder / "dtype.json").read_text()
    (folder / "former.json").write_text(
        text.replace('"rule":"dtype"', '"rule":"former"').replace(
            '"problem":""', '"problem":"something"'
        )
    )
    assert '"something"' in (folder / "former.json").read_text()
    assert status_of(store, micro).problem == ""


def test_skipped_rules_leave_it_unverified(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sentencepiece only a part can be verified, and a part is not all."""
    hide(monkeypatch, "pyarrow", "sentencepiece")
    stats = store.catalogue["humaneval_stats"]
    verify(store, stats)
    assert status_of(store, stats).problem == "not verified"


def test_damaged_records_are_as_good_as_none(store: Store, micro: Artifact) -> None:
    """The memory is lost, not the command."""
    verify(store, micro)
    for path in (store.root / ".wmtp/verified/micro_mtp").iterdir():
        damage(path, lambda data: data[:-3])
    status = status_of(store, micro)
    assert (status.state, status.problem) == ("committed", "not verified")


def test_made_from_another_upstream_is_shown(store: Store) -> None:
    """New rows upstream and the old small split beside them: somebody would train on a mixture."""
    processed, small = (store.catalogue[f"humaneval_{part}"] for part in ("processed", "small"))
    verify(store, small)
    assert status_of(store, small).problem == ""
    edit_manifest(version="v9")(store, processed)
    assert status_of(store, small).problem == ""
    damage(store.path(processed, "processed/test.jsonl"), lambda data: data + b"\n")
    reseal(store, processed)
    assert status_of(store, small).problem == (
        "made from another humaneval_processed than is there now; "
        "run: dagster asset materialize --select 'humaneval_small'"
    )


def test_manifest_without_source_has_a_status(store: Store, micro: Artifact) -> None:
    """Of another version of this project, perhaps; what it does not say is left blank."""
    edit_manifest(source=..., dtype=...)(store, micro)
    status = status_of(store, micro)
    assert (status.source, status.revision, status.endpoint, status.dtype) == (None,) * 4
    assert status.size == store.manifest(micro).size


def test_status_reads_no_artifact_file_and_writes_none(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers at once for 50 GB, also while others write."""
    for artifact in store.catalogue:
        verify(store, artifact)
    opened: list[str] = []
    real_open, real_io_open = os.open, io.open

    def noting(path: Any, *others: Any, **more: Any) -> int:
        opened.append(os.fspath(path))
        return real_open(path, *others, **more)

    def noting_io(path: Any, *others: Any, **more: Any) -> Any:
        opened.append(str(path))
        return real_io_open(path, *others, **more)

    before = untouched(store)
    monkeypatch.setattr(os, "open", noting)
    monkeypatch.setattr(io, "open", noting_io)
    problems = {status_of(store, artifact).problem for artifact in store.catalogue}
    monkeypatch.undo()
    assert problems == {""}
    assert untouched(store) == before
    manifests = {str(store.manifest_path(artifact)) for artifact in store.catalogue}
    assert manifests <= set(opened)
    others = set(opened) - manifests
    edited = {str(path) for path in (DEFS_FOLDER / "reports").rglob("*.yaml")}
    assert all("/.wmtp/verified/" in path or path in edited for path in others), others
