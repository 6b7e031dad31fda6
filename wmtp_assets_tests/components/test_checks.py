"""Every check, through Dagster: a damaged artifact fails the run and stops what is downstream."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.components import artifacts, checks
from wmtp_assets.components.checks import result_of
from wmtp_assets.components.storage import FORCE, StorageResource
from wmtp_assets.definitions import build_defs
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.operations.materialize import update
from wmtp_assets.rules.apply import ABSENT, apply_rule
from wmtp_assets.rules.findings import Finding, Outcome
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.components.conftest import Run, assets_and_checks
from wmtp_assets_tests.quick import first_of_each, full_only, quick, thinned
from wmtp_assets_tests.trees import damage, flip, remove_optional, reseal, tree


@dataclass(frozen=True)
class Damage:
    """What is done to which file; ``resealed``: the manifest then has the right hashes again.

    ``says`` replaces keys of the manifest.
    """

    file: str
    change: Callable[[bytes], bytes] = lambda data: data
    resealed: bool = True
    says: dict[str, object] = field(default_factory=dict)


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """A change that replaces the first ``old``, which must be there."""

    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


def first_line(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """A change of the first line of a JSONL file."""

    def change(data: bytes) -> bytes:
        line, rest = data.split(b"\n", 1)
        return replaced(old, new)(line) + b"\n" + rest

    return change


def _tensors(data: bytes, change: Callable[[dict[str, torch.Tensor]], None]) -> bytes:
    from safetensors.torch import load, save

    tensors = load(data)
    change(tensors)
    return save(tensors, metadata={"format": "pt"})


def float32_norm(data: bytes) -> bytes:
    """One small tensor in float32, in a file of 16-bit numbers."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        (name,) = tensors.keys() & {"norm.weight", "model.norm.weight"}
        tensors[name] = tensors[name].float()

    return _tensors(data, change)


def longer(data: bytes) -> bytes:
    """A safetensors file with a tensor more, of 300 kB."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["padding"] = torch.zeros(150_000, dtype=torch.float16)

    return _tensors(data, change)


def other_pieces(data: bytes) -> bytes:
    """A tokenizer with as many pieces, of which two stand in each other's place."""
    one, two = "▁return".encode(), "▁import".encode()
    assert len(one) == len(two)
    first, second = sorted((data.index(one), data.index(two)))
    changed = bytearray(data)
    n = len(one)
    changed[first : first + n], changed[second : second + n] = (
        data[second : second + n],
        data[first : first + n],
    )
    return bytes(changed)


def other_token(data: bytes) -> bytes:
    """A tokenizer.json in which the token that ends a text has another name."""
    return replaced(b'"content":"</s>"', b'"content":"<!s>"')(data)


def very_long_output(data: bytes) -> bytes:
    """A first row whose output alone is longer than the limit."""
    line, rest = data.split(b"\n", 1)
    row = json.loads(line)
    row["output"] += "\n    x = 1" * 2048
    return json.dumps(row, ensure_ascii=False).encode() + b"\n" + rest


def first_row(**columns: Any) -> Callable[[bytes], bytes]:
    """A change of the first row of a Parquet twin."""

    def change(data: bytes) -> bytes:
        table = pq.read_table(io.BytesIO(data))
        first, *others = table.to_pylist()
        assert columns.keys() <= first.keys()
        file = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([first | columns, *others], table.schema), file)
        return file.getvalue()

    return change


def cut_off(data: bytes) -> bytes:
    """Without the end."""
    return data[:-100]


def one_less(data: bytes) -> bytes:
    """Without the last line."""
    return data[: data.rindex(b"\n", 0, -1) + 1]


MODEL = "safetensors/model.safetensors"

LOST_HEAD = {"path": "safetensors/value_head.safetensors", "sha256": "0" * 64}
"""The record of a value head that is not there."""


def damages_of_model(name: str, raw: str, hidden_size: int) -> dict[tuple[str, str], Damage]:
    """For each check of a model's three assets; ``raw`` is upstream's checkpoint."""
    return {
        (f"{name}_raw", "sha256"): Damage(f"raw/{raw}", flip(1 << 20), False),
        (f"{name}_tokenizer", "sha256"): Damage("tokenizer.model", flip(-9), False),
        (f"{name}_tokenizer", "tokenizer"): Damage("tokenizer.model", other_pieces),
        (f"{name}_tokenizer", "fast_tokenizer"): Damage("tokenizer.json", other_token),
        (f"{name}_safetensors", "sha256"): Damage(MODEL, flip(-1), False),
        (f"{name}_safetensors", "dtype"): Damage(MODEL, float32_norm),
        (f"{name}_safetensors", "parameters"): Damage(
            "configs/meta_adapter.yaml",
            replaced(f"hidden_size: {hidden_size}".encode(), b"hidden_size: 512"),
        ),
        (f"{name}_safetensors", "tokenizer"): Damage("tokenizer/tokenizer.model", other_pieces),
        (f"{name}_safetensors", "value_head"): Damage(MODEL, says={"value_head": LOST_HEAD}),
        **damages_of_folder(f"{name}_safetensors", name != "meta_llama_mtp"),
        **damages_of_card(name, b"float16", b"float32"),
    }


def damages_of_micro(name: str) -> dict[tuple[str, str], Damage]:
    """For each check of a micro model."""
    return {
        (name, "sha256"): Damage("safetensors/SHA256SUMS", flip(3), False),
        (name, "dtype"): Damage(MODEL, float32_norm),
        (name, "parameters"): Damage(
            "configs/params.json", replaced(b'"n_heads": 4', b'"n_heads": 8')
        ),
        (name, "tokenizer"): Damage("tokenizer/tokenizer.model", other_pieces),
        (name, "value_head"): Damage(MODEL, says={"value_head": LOST_HEAD}),
        (name, "micro_size"): Damage(MODEL, longer),
        (name, "fast_tokenizer"): Damage("tokenizer/tokenizer.json", other_token),
        (name, "model_folder"): Damage("tokenizer/tokenizer.json", other_token),
        **damages_of_card(name, b"float16", b"float32"),
    }


def damages_of_folder(key: str, is_loaded: bool) -> dict[tuple[str, str], Damage]:
    """For the check of what transformers loads from one folder, where it does."""
    damage = Damage("safetensors/tokenizer.json", other_token)
    return {(key, "model_folder"): damage} if is_loaded else {}


def damages_of_card(name: str, said: bytes, other: bytes) -> dict[tuple[str, str], Damage]:
    """For each check of a card."""
    return {
        (f"{name}_card", "sha256"): Damage("README.md", flip(9), False),
        (f"{name}_card", "current"): Damage("README.md", replaced(said, other)),
    }


def damages_of_description(name: str) -> dict[tuple[str, str], Damage]:
    """For each check of a dataset's card and metadata."""
    return {
        **damages_of_card(name, b"index/test.parquet", b"index/train.parquet"),
        (f"{name}_croissant", "sha256"): Damage("croissant.json", flip(9), False),
        (f"{name}_croissant", "current"): Damage(
            "croissant.json", replaced(b'"isLiveDataset": false', b'"isLiveDataset": true')
        ),
    }


def damages_of_document(key: str, name: str) -> dict[tuple[str, str], Damage]:
    """For each check of a document."""
    return {
        (key, "sha256"): Damage(name, flip(9), False),
        (key, "current"): Damage(name, replaced(b"Made by wmtp_assets", b"Made by hand")),
    }


DAMAGES: dict[tuple[str, str], Damage] = {
    **damages_of_model("meta_llama_mtp", "7B_1T_4/consolidated.pth", 640),
    ("meta_llama_mtp_bf16", "sha256"): Damage("model.safetensors", flip(-1), False),
    ("meta_llama_mtp_bf16", "dtype"): Damage("model.safetensors", float32_norm),
    ("meta_llama_mtp_bf16", "parameters"): Damage(
        "meta_adapter.yaml", replaced(b"hidden_size: 640", b"hidden_size: 512")
    ),
    ("meta_llama_mtp_bf16", "tokenizer"): Damage("../tokenizer/tokenizer.model", other_pieces),
    ("meta_llama_mtp_bf16", "value_head"): Damage(
        "model.safetensors", says={"value_head": LOST_HEAD}
    ),
    **damages_of_model("ref_sheared_llama", "pytorch_model-00002-of-00002.bin", 640),
    **damages_of_model("starling_rm", "pytorch_model.bin", 256),
    **damages_of_micro("micro_mtp"),
    **damages_of_micro("micro_mtp_untied"),
    **damages_of_micro("micro_ref"),
    **damages_of_micro("micro_ref_untied"),
    ("parameter_snapshot", "sha256"): Damage("defaults.yaml", flip(300), False),
    ("parameter_snapshot", "current"): Damage(
        "defaults.yaml", replaced(b"rope_theta: 10000.0", b"rope_theta: 50000.0")
    ),
    ("humaneval_raw", "sha256"): Damage(
        "raw/openai_humaneval/test-00000-of-00001.parquet", flip(5000), False
    ),
    ("humaneval_processed", "sha256"): Damage("processed/test.jsonl", flip(100), False),
    ("humaneval_processed", "schema"): Damage(
        "processed/test.jsonl", first_line(b'"input": ""', b'"input": "x"')
    ),
    ("humaneval_processed", "row_count"): Damage("processed/test.jsonl", one_less),
    ("humaneval_processed", "index"): Damage("index/test.offsets", flip(8)),
    ("humaneval_processed", "token_length"): Damage(
        "index/test.parquet", first_row(tokens_output=1)
    ),
    ("humaneval_pairs", "sha256"): Damage("test.jsonl", flip(100), False),
    ("humaneval_pairs", "derivation"): Damage(
        "test.jsonl", first_line(b'"is_correct": null', b'"is_correct": true')
    ),
    ("humaneval_small", "sha256"): Damage("test_small.jsonl", one_less, False),
    ("humaneval_small", "schema"): Damage(
        "test_small.jsonl", first_line(b'"has_tests": true', b'"has_tests": 1')
    ),
    ("humaneval_small", "membership"): Damage("test_small.jsonl", very_long_output),
    ("humaneval_stats", "sha256"): Damage("*_summary.json", flip(40), False),
    ("humaneval_stats", "recount"): Damage(
        "*_summary.json", replaced(b'"p50": 129', b'"p50": 128')
    ),
    ("mbpp_raw", "sha256"): Damage("raw/full/prompt-00000-of-00001.parquet", flip(500), False),
    ("mbpp_processed", "sha256"): Damage("processed/validation.jsonl", flip(100), False),
    ("mbpp_processed", "schema"): Damage(
        "processed/train.jsonl", first_line(b'"task_id": "601"', b'"task_id": 601')
    ),
    ("mbpp_processed", "row_count"): Damage("processed/validation.jsonl", one_less),
    ("mbpp_processed", "index"): Damage(
        "processed/validation_metadata.json", replaced(b'"indices": [3]', b'"indices": [4]')
    ),
    ("mbpp_processed", "token_length"): Damage(
        "index/test.parquet", first_row(instruction="very long " * 2048)
    ),
    ("mbpp_processed", "splits"): Damage("index/test.parquet", first_row(task_id="601")),
    ("mbpp_processed", "text_twins"): Damage("index/test.parquet", cut_off),
    ("mbpp_processed", "contamination"): Damage("index/train.parquet", cut_off),
    ("mbpp_pairs", "sha256"): Damage("validation.jsonl", one_less, False),
    ("mbpp_pairs", "derivation"): Damage("train.jsonl", first_line(b"\\r\\n", b"\\n")),
    ("mbpp_small", "sha256"): Damage("train_small.jsonl", one_less, False),
    ("mbpp_small", "schema"): Damage(
        "train_small.jsonl", first_line(b'"has_tests": true', b'"has_tests": 1')
    ),
    ("mbpp_small", "membership"): Damage("validation_small.jsonl", very_long_output),
    ("mbpp_stats", "sha256"): Damage("*_summary.json", flip(40), False),
    ("mbpp_stats", "recount"): Damage(
        "*_summary.json", replaced(b'"with_tests": 374', b'"with_tests": 373')
    ),
    ("gsm8k_raw", "sha256"): Damage("raw/main/test-00000-of-00001.parquet", flip(500), False),
    ("gsm8k_processed", "sha256"): Damage("processed/test.jsonl", flip(100), False),
    ("gsm8k_processed", "schema"): Damage(
        "processed/test.jsonl", first_line(b"#### 378", b"#### 379")
    ),
    ("gsm8k_processed", "row_count"): Damage("processed/test.jsonl", one_less),
    ("gsm8k_processed", "index"): Damage("index/test.offsets", flip(8)),
    ("gsm8k_processed", "token_length"): Damage("index/test.parquet", first_row(tokens_output=1)),
    ("gsm8k_processed", "splits"): Damage("index/test.parquet", first_row(task_id="gsm8k/train/0")),
    ("gsm8k_processed", "text_twins"): Damage("index/test.parquet", cut_off),
    ("gsm8k_processed", "contamination"): Damage("index/train.parquet", cut_off),
    ("gsm8k_processed", "problems"): Damage(
        "index/test.parquet", first_row(problem_id="gsm8k/test/1319")
    ),
    ("gsm8k_pairs", "sha256"): Damage("test.jsonl", flip(100), False),
    ("gsm8k_pairs", "derivation"): Damage(
        "test.jsonl", first_line(b'"is_correct": null', b'"is_correct": true')
    ),
    ("gsm8k_small", "sha256"): Damage("test_small.jsonl", one_less, False),
    ("gsm8k_small", "schema"): Damage(
        "test_small.jsonl", first_line(b'"has_tests": false', b'"has_tests": 0')
    ),
    ("gsm8k_small", "membership"): Damage("test_small.jsonl", one_less),
    ("gsm8k_stats", "sha256"): Damage("*_summary.json", flip(40), False),
    ("gsm8k_stats", "recount"): Damage(
        "*_summary.json", replaced(b'"upstream_rows": 1319', b'"upstream_rows": 1318')
    ),
    ("codecontests_raw", "sha256"): Damage("raw/data/valid-*.parquet", flip(-500), False),
    ("codecontests_processed", "sha256"): Damage("index/train.offsets", flip(-1), False),
    ("codecontests_processed", "schema"): Damage(
        "processed/valid.jsonl", first_line(b'"is_correct": true', b'"is_correct": false')
    ),
    ("codecontests_processed", "row_count"): Damage("processed/test.jsonl", one_less),
    ("codecontests_processed", "upstream_counts"): Damage("metadata.json", flip(20), False),
    ("codecontests_processed", "index"): Damage(
        "index/valid.parquet", first_row(is_duplicate=True)
    ),
    ("codecontests_processed", "token_length"): Damage(
        "index/test.parquet", first_row(tokens_input=0)
    ),
    ("codecontests_processed", "splits"): Damage(
        "index/valid.parquet", first_row(problem_id="101_A. Two Snails")
    ),
    ("codecontests_processed", "text_twins"): Damage("index/test.parquet", cut_off),
    ("codecontests_processed", "contamination"): Damage("index/train.parquet", cut_off),
    ("codecontests_processed", "problems"): Damage("metadata.json", flip(20), False),
    ("codecontests_processed", "evaluation"): Damage("processed/valid_eval.jsonl", one_less),
    ("codecontests_pairs", "sha256"): Damage("valid.jsonl", flip(100), False),
    ("codecontests_pairs", "derivation"): Damage(
        "test.jsonl", first_line(b'"is_correct": true', b'"is_correct": false')
    ),
    ("codecontests_small", "sha256"): Damage("train_small.jsonl", flip(-2), False),
    ("codecontests_small", "schema"): Damage(
        "train_small.jsonl", first_line(b'"is_correct": true', b'"is_correct": false')
    ),
    ("codecontests_small", "membership"): Damage("valid_small.jsonl", one_less),
    ("codecontests_stats", "sha256"): Damage("*_summary.json", flip(40), False),
    ("codecontests_stats", "recount"): Damage(
        "*_summary.json", replaced(b'"duplicates": 73', b'"duplicates": 72')
    ),
    ("codecontests_tests", "sha256"): Damage("train_tests.json", flip(100), False),
    ("codecontests_tests", "derivation"): Damage("valid_tests.json", one_less),
    **damages_of_description("codecontests"),
    **damages_of_description("gsm8k"),
    **damages_of_description("humaneval"),
    **damages_of_description("mbpp"),
    **damages_of_document("storage_readme", "README.md"),
    **damages_of_document("asset_inventory", "phase1_asset_inventory.md"),
    **damages_of_document("migration_notes", "migration_notes.md"),
    **damages_of_document("completion_report", "phase1_completion_report.md"),
    ("storage_release", "sha256"): Damage("RELEASE.json", flip(9), False),
    ("storage_release", "release"): Damage(
        "RELEASE.json", replaced(b'"version": "v2.0.0"', b'"version": "v1.0.0"')
    ),
}


OPINIONS = {"text_twins", "contamination", "upstream_counts"}
"""Checks whose findings are warnings, as long as the rows can be read at all."""

WARNINGS = {
    ("codecontests_processed", "text_twins"),
    ("codecontests_processed", "problems"),
    ("mbpp_processed", "text_twins"),
    ("mbpp_processed", "contamination"),
}
"""Those that the good tree has."""


OTHERWISE = {"made_with": {"builder": 1000, "settings": {}}}
"""What a manifest says of a builder that is not there."""
CATALOGUE = load_catalogue()
DAMAGES |= {
    (artifact.key, "made_with"): Damage(artifact.manifest, says=OTHERWISE) for artifact in CATALOGUE
}


def inflict(store: Store, artifact: Artifact, wanted: Damage) -> None:
    """Damage the artifact in a copy of the good tree."""
    (path,) = store.folder(artifact).glob(wanted.file)
    damage(path, wanted.change)
    if wanted.resealed:
        reseal(store, artifact, **wanted.says)


def test_every_check_has_a_damage() -> None:
    """A check that was never seen to fail may be one that cannot."""
    pairs = {
        (artifact.key, rule.name) for artifact in load_catalogue() for rule in rules_of(artifact)
    }
    assert pairs == DAMAGES.keys()


OF_EACH = first_of_each(DAMAGES, lambda pair: pair[1])


@pytest.mark.parametrize(
    ("key", "check"),
    quick(thinned(DAMAGES, OF_EACH), OF_EACH[::3]),
    ids=lambda value: value,
)
def test_failed_check_stops_downstream(store: Store, run: Run, key: str, check: str) -> None:
    """The check fails, the run fails, and nothing is made from the damaged artifact."""
    artifact = store.catalogue[key]
    inflict(store, artifact, DAMAGES[key, check])
    downstream = [item for item in store.catalogue if key in item.upstream]
    before = tree(store.root)

    selection = dg.AssetSelection.checks_for_assets(key)
    if downstream:
        selection = selection | dg.AssetSelection.assets(*(item.key for item in downstream))
    result = run(selection)

    assert not result.success
    evaluations = {
        evaluation.check_name: evaluation
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.asset_key == dg.AssetKey(key)
    }
    assert not evaluations[check].passed
    assert evaluations[check].blocking == (check not in OPINIONS)
    assert evaluations[check].severity == dg.AssetCheckSeverity.ERROR
    assert {"place", "expected", "found", "remedy"} < evaluations[check].metadata.keys()
    assert not result.get_asset_materialization_events()
    after = tree(store.root)
    for item in downstream:
        assert f"{item.base}/{item.manifest}" in after
    assert {p: v for p, v in after.items() if not p.startswith(".wmtp/")} == {
        p: v for p, v in before.items() if not p.startswith(".wmtp/")
    }


def test_one_check_applies_one_rule(run: Run, store: Store) -> None:
    """The checks of an artifact share a step; whoever presses 'Execute' on one waits for one."""
    artifact = store.catalogue["humaneval_processed"]
    results = store.internal / "verified" / artifact.key
    before = {path.name: path.stat().st_ino for path in results.glob("*.json")}
    result = run(dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(artifact.key), "index")))
    assert result.success
    assert [item.check_name for item in result.get_asset_check_evaluations()] == ["index"]
    after = {path.name: path.stat().st_ino for path in results.glob("*.json")}
    assert {name for name in after if after[name] != before.get(name)} == {"index.json"}


def test_every_rule_is_applied_although_one_failed(run: Run, store: Store) -> None:
    """Nor is the first of several findings all that a person gets to see."""
    artifact = store.catalogue["humaneval_small"]
    inflict(store, artifact, DAMAGES[artifact.key, "membership"])
    result = run(dg.AssetSelection.checks_for_assets(artifact.key))
    passed = {item.check_name: item.passed for item in result.get_asset_check_evaluations()}
    assert passed == {
        "sha256": True,
        "schema": True,
        "membership": False,
        "made_with": True,
    }


def test_step_that_died_while_it_checked_makes_nothing_again(
    store: Store, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a node that may be taken away a large artifact would be made three times, and what the run
    made would be said to be unchanged."""
    updates: list[str] = []
    tries = 0

    def counted(store: Store, artifact: Artifact, *arguments: Any, **options: Any) -> Any:
        updates.append(artifact.key)
        return update(store, artifact, *arguments, **options)

    def dies(*arguments: Any) -> Iterator[dg.AssetCheckResult]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise dg.RetryRequested(max_retries=1)
        yield from checks.checked(*arguments)

    monkeypatch.setattr(artifacts, "update", counted)
    monkeypatch.setattr(artifacts, "checked", dies)
    job = dg.Definitions.merge(
        build_defs(assets_and_checks(), StorageResource(source="sample", root=str(store.root))),
        dg.Definitions(
            jobs=[
                dg.define_asset_job("forced", dg.AssetSelection.assets("mbpp_small"), config=FORCE)
            ]
        ),
    ).resolve_job_def("forced")
    result = job.execute_in_process(instance=instance)
    assert (tries, updates) == (2, ["mbpp_small"])
    first, second = result.get_asset_materialization_events()
    assert first.materialization.metadata == second.materialization.metadata
    assert first.materialization.metadata["made"].value == "made"
    assert all(check.passed for check in result.get_asset_check_evaluations())


def test_checks_beside_what_is_made_downstream(run: Run) -> None:
    """Who checks an artifact, and makes only what depends on it, gets both."""
    checks = dg.AssetSelection.checks_for_assets("mbpp_processed")
    result = run(checks | dg.AssetSelection.assets("mbpp_small").without_checks())
    assert result.success
    made = {event.asset_key for event in result.get_asset_materialization_events()}
    assert made == {dg.AssetKey("mbpp_small")}
    checked = {item.asset_key for item in result.get_asset_check_evaluations()}
    assert checked == {dg.AssetKey("mbpp_processed")}


@pytest.mark.parametrize("job", ["everything", "integrity"])
def test_an_artifact_takes_one_step(job: str) -> None:
    """It is made and checked there: where steps are processes, or jobs of a cluster, checks in
    steps of their own were half of a run or more."""
    storage = StorageResource(source="sample", root="/nowhere")
    made = build_defs(assets_and_checks(), storage).resolve_job_def(job)
    steps = {node.name for node in made.graph.nodes}
    checked = {key.asset_key for key in made.asset_layer.asset_graph.asset_check_keys}
    assert steps == {key.to_user_string() for key in checked}
    assert (job, len(steps)) in {("everything", 40), ("integrity", 56)}


@full_only
def test_checks_alone_pass_on_a_good_tree(run: Run) -> None:
    """The scheduled job runs all checks and materializes nothing."""
    result = run(dg.AssetSelection.all_asset_checks())
    assert result.success
    assert len(result.get_asset_check_evaluations()) == len(DAMAGES)
    failed = [item for item in result.get_asset_check_evaluations() if not item.passed]
    assert {(item.asset_key.to_user_string(), item.check_name) for item in failed} == WARNINGS
    assert {item.severity for item in failed} == {dg.AssetCheckSeverity.WARN}
    assert not result.get_asset_materialization_events()


def test_warning_stops_nothing(run: Run, store: Store) -> None:
    """Upstream's rows are what they are: people are told, and the rest of the graph is made."""
    result = run(dg.AssetSelection.assets("mbpp_processed", "mbpp_pairs", "mbpp_small"))
    assert result.success
    evaluations = result.get_asset_check_evaluations()
    warned = {item.check_name: item for item in evaluations if not item.passed}
    assert {("mbpp_processed", name) for name in warned} < WARNINGS
    assert len(warned) == 2
    for name, item in warned.items():
        assert (item.blocking, item.severity) == (False, dg.AssetCheckSeverity.WARN)
        outcome = apply_rule(
            next(rule for rule in rules_of(store.catalogue["mbpp_processed"]) if rule.name == name),
            store,
            store.catalogue["mbpp_processed"],
        )
        assert item.metadata["findings"].value == outcome.count > 0
        first = outcome.findings[0]
        assert item.description == f"{first}. Remedy: {first.remedy}"
    made = [event.asset_key for event in result.get_asset_materialization_events()]
    keys = {key.to_user_string() for key in made if key}
    assert keys == {"mbpp_processed", "mbpp_pairs", "mbpp_small"}


def test_other_counts_than_upstream_had_are_a_warning(run: Run, store: Store) -> None:
    """Upstream may be uploaded anew; the rows are still what the checks say of them."""
    artifact = store.catalogue["codecontests_processed"]
    source = store.manifest(artifact).document["source"] | {"endpoint": "https://huggingface.co"}
    reseal(store, artifact, source=source)
    result = run(dg.AssetSelection.checks_for_assets("codecontests_processed"))
    assert result.success
    (item,) = (
        item
        for item in result.get_asset_check_evaluations()
        if item.check_name == "upstream_counts"
    )
    assert (item.passed, item.blocking, item.severity) == (
        False,
        False,
        dg.AssetCheckSeverity.WARN,
    )
    assert item.metadata["findings"].value == 3
    assert "expected 13328 problems, as upstream had when it was counted" in item.description


def test_checks_of_absent_optional_assets_pass_and_say_so(store: Store, run: Run) -> None:
    """A blocking check that failed over what nobody asked for would stop every run; one that
    passed without a word would look like a verified model."""
    remove_optional(store)
    optional = {artifact.key for artifact in store.catalogue if artifact.optional}
    result = run(dg.AssetSelection.checks_for_assets(*optional))
    assert result.success
    evaluations = result.get_asset_check_evaluations()
    assert {(item.asset_key.to_user_string(), item.check_name) for item in evaluations} == {
        pair for pair in DAMAGES if pair[0] in optional
    }
    for evaluation in evaluations:
        assert evaluation.passed
        assert evaluation.description == ABSENT
        assert evaluation.metadata["skipped"].value == ABSENT
    store.manifest_path(store.catalogue["humaneval_stats"]).unlink()
    assert not run(dg.AssetSelection.checks_for_assets("humaneval_stats")).success


@pytest.mark.long
def test_integrity_job_passes_without_the_optional_assets(
    store: Store, instance: dg.DagsterInstance
) -> None:
    """The job that is scheduled every night on the ordinary tree."""
    remove_optional(store)
    storage = StorageResource(source="sample", root=str(store.root))
    job = build_defs(assets_and_checks(), storage).resolve_job_def("integrity")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert result.success
    assert len(result.get_asset_check_evaluations()) == len(DAMAGES)
    assert not result.get_asset_materialization_events()


def test_check_without_artifact_fails(run: Run, store: Store) -> None:
    """An artifact that was never made has not passed anything."""
    store.manifest_path(store.catalogue["humaneval_stats"]).unlink()
    result = run(dg.AssetSelection.checks_for_assets("humaneval_stats"))
    assert not result.success
    (first, *_) = result.get_asset_check_evaluations()
    assert "has not been materialized" in (first.description or "")


def test_many_findings_are_counted_and_ten_shown() -> None:
    """A split of millions of bad rows must not flood the event log."""
    finding = Finding("schema", "a", "corrupt", "f", "line 1", "x", "y", "z")
    outcome = Outcome(findings=[finding] * 25, evidence={"rows": 25}, more=10**6)
    result = result_of("schema", outcome)
    assert not result.passed
    assert result.metadata["findings"] == dg.MetadataValue.int(10**6 + 25)
    assert len(str(result.metadata["first_findings"].value).rstrip().splitlines()) == 2 + 10


def test_failure_says_what_and_what_to_do() -> None:
    """Each on a line of its own, on the page of a laptop; the evidence is behind a link then."""
    finding = Finding("dtype", "a", "corrupt", "f.json", "line 1", "float16", "float32", "wmtp x")
    result = result_of("dtype", Outcome(findings=[finding], evidence={"rows": 1}))
    said = {name: value.value for name, value in result.metadata.items()}
    read = str(said.pop("read"))
    assert read.rstrip() == "| what | value |\n| --- | --- |\n| `rows` | `1` |"
    assert len(read) == 1000  # the web UI shows shorter Markdown in place
    assert said == {
        "findings": 1,
        "place": "f.json: line 1",
        "expected": "float16",
        "found": "float32",
        "remedy": "wmtp x",
    }
    assert result.description == f"{finding}. Remedy: wmtp x"


def test_evidence_is_a_line_for_each_fact() -> None:
    """What was read is to be seen without unfolding JSON; a long list is cut, and says so."""
    evidence = {"tensors_by_dtype": {"float16": 57}, "shared_with": None, "tasks": [*range(12)]}
    outcome = Outcome(evidence={**evidence, "damaged": [], "empty": {}})
    table = result_of("schema", outcome).metadata["read"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [(row.data["what"], row.data["value"]) for row in table.records] == [
        ("tensors_by_dtype.float16", "57"),
        ("shared_with", "none"),
        ("tasks", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … 2 more"),
        ("damaged", "none"),
        ("empty", "none"),
    ]
    assert result_of("schema", Outcome()).metadata["read"] == dg.MetadataValue.text("nothing")


def test_skipped_rule_says_why() -> None:
    """A rule that could not be applied must not look like one that holds without a word."""
    result = result_of("schema", Outcome(skipped="no sentencepiece"))
    assert result.metadata["skipped"] == dg.MetadataValue.text("no sentencepiece")
    assert result.description == "no sentencepiece"
