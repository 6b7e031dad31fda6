"""A result is recalled as long as nothing that the rule read changed, and never a failure."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.checkpoints.beside import files_of, record_value_head
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.verify import verify
from wmtp_assets.rules import memory
from wmtp_assets.rules.apply import apply_rule, recall
from wmtp_assets.rules.findings import NEEDS, Report, Subject
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.rules.cases import apply, edit_manifest, rule_of
from wmtp_assets_tests.trees import damage, flip, own

UPSTREAM = ("meta_llama_mtp_tokenizer", "mbpp_raw", "mbpp_processed")


@pytest.fixture
def small(store: Store) -> Artifact:
    """MBPP's small splits, whose rules were applied, and those of what they read."""
    small = store.catalogue["mbpp_small"]
    for artifact in (*(store.catalogue[key] for key in UPSTREAM), small):
        own(store, artifact)
        for rule in rules_of(artifact):
            apply(store, artifact, rule.name)
    return small


def recalled(store: Store, artifact: Artifact) -> set[str]:
    """The rules whose result is recalled."""
    return {rule.name for rule in rules_of(artifact) if recall(rule, store, artifact)}


ALL = {"sha256", "schema", "membership", "made_with"}


def test_result_is_recalled_with_its_time_and_evidence(store: Store, small: Artifact) -> None:
    """Its status must stay shown, and when it was found: also warnings, in full."""
    assert recalled(store, small) == ALL
    rule = rule_of(small, "membership")
    outcome, again = recall(rule, store, small), apply(store, small, "membership")
    assert outcome is not None
    assert outcome.remembered.endswith("Z") and again.remembered == ""
    assert outcome.evidence == again.evidence
    processed = store.catalogue["mbpp_processed"]
    warned = recall(rule_of(processed, "text_twins"), store, processed)
    assert warned is not None
    assert warned.findings == apply(store, processed, "text_twins").findings != []


def test_what_a_rule_read_of_another_artifact_counts(store: Store, small: Artifact) -> None:
    """``membership`` reads the processed rows: damage there is damage here."""
    rows = store.path(store.catalogue["mbpp_processed"], "processed/test.jsonl")
    damage(rows, lambda data: data.replace(b"e", b"a"))
    assert recalled(store, small) == ALL - {"membership"}
    assert apply(store, small, "membership").findings


@pytest.mark.parametrize("what", ["file", "stray", "manifest", "spec", "program"])
def test_nothing_is_recalled_after_a_change(
    store: Store, small: Artifact, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Each of them can make a rule fail that held."""
    if what == "file":
        damage(store.path(small, "test_small.jsonl"), lambda data: data)
    elif what == "stray":
        store.path(small, "notes.txt").write_text("mine")
    elif what == "manifest":
        edit_manifest(rows=1)(store, small)
    elif what == "spec":
        store = respec(store, "mbpp", description="Another.")
    else:
        monkeypatch.setattr(memory, "program", lambda: "another")
    assert recalled(store, store.catalogue["mbpp_small"]) == set()


def test_failure_is_not_recalled(store: Store, small: Artifact) -> None:
    """It is applied again, so that it goes away when its cause does."""
    path = store.path(small, "test_small.jsonl")
    good = path.read_bytes()
    damage(path, flip(20))
    assert apply(store, small, "sha256").findings
    assert "sha256" not in recalled(store, small)
    damage(path, lambda data: good)
    assert apply(store, small, "sha256").findings == []
    assert "sha256" in recalled(store, small)


def test_rule_that_reads_more_than_artifacts_is_not_recalled(store: Store) -> None:
    """The README's copy at the root is in no manifest; nobody would see it change."""
    readme = store.catalogue["storage_readme"]
    own(store, readme)
    assert apply(store, readme, "sha256").findings == []
    assert apply(store, readme, "current").findings == []
    assert recalled(store, readme) == {"sha256"}


def test_what_training_put_there_counts(store: Store) -> None:
    """A value head is in no manifest's list of files, and a rule compares it with what is recorded:
    one that appears, is replaced or goes makes that rule fail."""
    model = store.catalogue["micro_ref"]
    own(store, model)
    for rule in rules_of(model):
        apply(store, model, rule.name)
    assert "value_head" in recalled(store, model)
    head = store.path(model, VALUE_HEAD)
    width = json.loads(store.read(model, files_of(model).params))["dim"]
    head.write_bytes(save({"v_head.weight": torch.ones(width, 1)}))
    assert "value_head" not in recalled(store, model)
    record_value_head(store, model, width, "run-1")
    assert apply(store, model, "value_head").findings == []
    assert "value_head" in recalled(store, model)
    status = head.stat()
    damage(head, flip(-1))
    os.utime(head, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "value_head" not in recalled(store, model)
    assert apply(store, model, "value_head").findings
    head.unlink()
    assert "value_head" not in recalled(store, model)


def test_rule_that_was_not_applied_whole_is_not_recalled(
    store: Store, small: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have warned before it found that a library is not installed, which may be soon."""
    rule = rule_of(small, "membership")

    def check(subject: Subject, report: Report) -> None:
        rule.check(subject, report)
        report.add("a file", expected="more", found="less", problem="warning")
        report.skip(NEEDS["pyarrow"])

    partly = replace(rule, check=check)
    assert apply_rule(partly, store, small).skipped
    assert recall(partly, store, small) is None


def test_another_parser_is_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether ``tokenizers`` and ``sentencepiece`` read alike depends on which they are."""
    before = memory.program.__wrapped__()
    assert before == memory.program()
    monkeypatch.setattr(memory, "version", lambda library: "0.0.1")
    assert memory.program.__wrapped__() != before


def test_verify_reads_every_byte(store: Store, small: Artifact) -> None:
    """``wmtp verify`` is the proof: what is remembered is none."""
    assert all(verdict.outcome.remembered == "" for verdict in verify(store, [small]))


def test_same_content_made_again_is_recalled(store: Store, small: Artifact) -> None:
    """A commit hashes what it writes: the manifest is the same, and so are the bytes."""
    materialize(store, small)
    assert recalled(store, small) == ALL
