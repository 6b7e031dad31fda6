"""A result is recalled as long as nothing that the rule read changed, and never a failure."""

from __future__ import annotations

import pytest

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.checkpoints.beside import VALUE_HEAD, record_value_head
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.verify import verify
from wmtp_assets.rules import memory
from wmtp_assets.rules.apply import recall
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


def test_value_head_that_training_wrote_is_looked_at(store: Store) -> None:
    """It is in no list of files, and no stray: whether it is there, another or gone."""
    import torch
    from safetensors.torch import save_file

    micro = store.catalogue["micro_mtp"]
    own(store, micro)
    for rule in ("sha256", "value_head"):
        assert apply(store, micro, rule).findings == []
    assert "value_head" in recalled(store, micro)
    head = store.path(micro, VALUE_HEAD)
    save_file({"value_head.weight": torch.zeros(512, 2)}, head)
    assert "value_head" not in recalled(store, micro)
    assert apply(store, micro, "value_head").findings
    save_file({"value_head.weight": torch.zeros(512, 1)}, head)
    record_value_head(store, micro, 512, None)
    for rule in ("sha256", "value_head"):
        assert apply(store, micro, rule).findings == []
    assert "value_head" in recalled(store, micro)
    damage(head, flip(200))
    assert "value_head" not in recalled(store, micro)
    assert apply(store, micro, "value_head").findings
    head.unlink()
    assert apply(store, micro, "value_head").findings


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


def test_verify_reads_every_byte(store: Store, small: Artifact) -> None:
    """``wmtp verify`` is the proof: what is remembered is none."""
    assert all(verdict.outcome.remembered == "" for verdict in verify(store, [small]))


def test_same_content_made_again_is_recalled(store: Store, small: Artifact) -> None:
    """A commit hashes what it writes: the manifest is the same, and so are the bytes."""
    materialize(store, small)
    assert recalled(store, small) == ALL
