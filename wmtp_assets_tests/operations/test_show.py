"""What is known about one artifact, in every state that it can be in."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.operations.show import details_of
from wmtp_assets.operations.status import status_of
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.quick import quick
from wmtp_assets_tests.rules.cases import KEY
from wmtp_assets_tests.trees import damage, flip, reseal, tree

KEYS = [artifact.key for artifact in load_catalogue()]


@pytest.mark.parametrize("key", quick(KEYS, KEY.values()))
def test_every_artifact_is_described(store: Store, key: str) -> None:
    """Of any kind: what, where, from where, with which rules; as JSON, and with nothing read."""
    artifact = store.catalogue[key]
    manifest = store.manifest(artifact)
    details = details_of(store, artifact)
    assert json.loads(json.dumps(asdict(details)))["name"] == key
    assert details.status == status_of(store, artifact)
    assert Path(details.folder).is_dir()
    assert {Path(row.file).name: row.sha256 for row in details.files} == {
        Path(name).name: record.sha256 for name, record in manifest.files.items()
    }
    assert [rule.rule for rule in details.rules] == [rule.name for rule in rules_of(artifact)]
    assert {rule.state for rule in details.rules} == {"not applied"}
    assert [*details.upstream] == [*artifact.upstream]
    for other in details.downstream:
        assert key in store.catalogue[other].upstream
    assert {*details.upstream.values(), *details.downstream.values()} <= {"committed"}
    assert details.facts["content_sha256"] == manifest.content_sha256
    assert details.source or "source" not in manifest.document


@pytest.mark.parametrize("key", KEYS)
def test_absent_artifact_is_described_by_its_spec(empty_store: Store, key: str) -> None:
    """Before anything is made: what it will be, from where, and the one command that makes it."""
    artifact = empty_store.catalogue[key]
    details = details_of(empty_store, artifact)
    assert (details.status.state, details.files) == ("absent", [])
    assert details.description == artifact.spec.description
    assert details.commands["make"].endswith(f"{key}'")
    for upstream in artifact.upstream:
        needed = not empty_store.catalogue[upstream].optional or artifact.optional
        assert (upstream in details.commands["make"]) == needed
    assert not empty_store.root.exists()


def test_facts_of_a_checkpoint(store: Store) -> None:
    """Counted from the manifest, which was written from the tensors."""
    facts = details_of(store, store.catalogue["micro_mtp"]).facts
    assert (facts["dtype"], facts["n_params"], facts["tensors"]) == ("float16", 24_908_288, 38)
    details = details_of(store, store.catalogue["meta_llama_mtp_safetensors"])
    assert details.facts["from_dtype"] == ["float32"]
    downstream = {"meta_llama_mtp_card", "micro_mtp", "parameter_snapshot", "storage_readme"}
    assert downstream < {*details.downstream}


def test_facts_of_a_dataset(store: Store) -> None:
    """Rows by split, and why the others were dropped."""
    facts = details_of(store, store.catalogue["codecontests_processed"]).facts
    assert facts["rows"] == 6038
    assert facts["splits"]["train"]["dropped"] == {"other_language": 2206, "too_long": 59}


def test_page_of_the_source(store: Store) -> None:
    """A commit of the sample exists nowhere else: a link to it on the hub would be dead."""
    artifact = store.catalogue["mbpp_raw"]
    page = "https://huggingface.co/datasets/google-research-datasets/mbpp"
    assert details_of(store, artifact).source["page"] == page
    source = store.manifest(artifact).document["source"]
    revision = source["revision"]
    reseal(store, artifact, source={**source, "endpoint": "huggingface"})
    assert details_of(store, artifact).source["page"] == f"{page}/tree/{revision}"


def test_rules_with_their_last_result(store: Store) -> None:
    """ok, failed, and what was said about other bytes than are there now."""
    artifact = store.catalogue["humaneval_small"]

    def states() -> dict[str, str]:
        return {rule.rule: rule.state for rule in details_of(store, artifact).rules}

    for rule in rules_of(artifact):
        apply_rule(rule, store, artifact)
    assert states() == dict.fromkeys(("sha256", "schema", "membership", "made_with"), "ok")
    damage(store.path(artifact, "test_small.jsonl"), flip(100))
    assert set(states().values()) == {"outdated"}
    apply_rule(rules_of(artifact)[0], store, artifact)
    (sha256, *_) = details_of(store, artifact).rules
    assert (sha256.state, sha256.at is None) == ("failed", False)
    assert "expected " in sha256.problem
    (row, *_) = [row for row in details_of(store, artifact).files if "test_small" in row.file]
    assert row.problem == "damaged"


def test_damaged_manifest(store: Store) -> None:
    """What the spec says is still true; nothing is said about files that nobody vouches for."""
    artifact = store.catalogue["micro_mtp"]
    damage(store.manifest_path(artifact), flip(20))
    details = details_of(store, artifact)
    assert (details.status.state, details.files) == ("damaged", [])
    assert details.upstream == {
        "meta_llama_mtp_safetensors": "committed",
        "meta_llama_mtp_tokenizer": "committed",
    }


def test_nothing_is_hashed(store: Store) -> None:
    """It answers at once for 27 GB: files are not opened, and none is written."""
    artifact = store.catalogue["micro_mtp"]
    before = tree(store.root)
    for name in store.manifest(artifact).files:
        path = store.path(artifact, name)
        size = path.stat().st_size
        path.unlink()
        with path.open("wb") as file:
            file.truncate(size)
    details = details_of(store, artifact)
    assert replace(details.status, problem="").state == "committed"
    after = tree(store.root)
    assert before.keys() == after.keys()
    shutil.rmtree(store.folder(artifact))
    assert details_of(store, artifact).status.state == "absent"
