"""The checks that the phase-1 plan asks for, step by step, on the sample.

Each test has the step and the criterion of the plan in its name. They read the storage as a
stranger would: with safetensors, sentencepiece, PyYAML, jsonschema and coreutils, and nothing of
ours. ``pytest -k micro`` selects what the plan asks of the micro models.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from safetensors import safe_open
from sentencepiece import SentencePieceProcessor

from wmtp_assets.catalogue.artifact import TOP_FOLDERS

META, REF, MICRO, MICRO_REF = "meta-llama-mtp", "ref-sheared-llama-2.7b", "micro-mtp", "micro-ref"
MODELS = (META, REF, MICRO, MICRO_REF)
DATASETS = {
    "codecontests": ("train", "valid", "test"),
    "mbpp": ("train", "validation", "test"),
    "humaneval": ("test",),
}
SPLITS = [(name, split) for name, splits in DATASETS.items() for split in splits]
MAX_TOKENS, TRAIN_SMALL, OTHER_SMALL = 2048, 100, 32


def document(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())


@cache
def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def model(root: Path, name: str) -> Path:
    return root / "models_v2" / name


def tensors(folder: Path) -> tuple[dict[str, str], set[str]]:
    """The labels of the file, and the dtypes of its tensors."""
    with safe_open(folder / "safetensors/model.safetensors", "pt") as file:
        names = file.keys()
        return file.metadata(), {file.get_slice(name).get_dtype() for name in names}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- models: steps 1 to 5 --------------------------------------------------------------------------


def test_step_1_layout_is_that_of_the_plan(good_root: Path) -> None:
    """``tree storage -L 3`` shows the folders that the plan names."""
    for name in (META, REF):
        for part in ("raw", "safetensors", "configs", "tokenizer"):
            assert (model(good_root, name) / part).is_dir()
    for name in DATASETS:
        for part in ("raw", "processed", "stats"):
            assert (good_root / "datasets_v2" / name / part).is_dir()
        assert (good_root / "datasets_local_small" / f"{name}_small").is_dir()
    assert {path.name for path in good_root.iterdir() if path.is_dir()} - {".wmtp"} == {
        *TOP_FOLDERS
    }


@pytest.mark.parametrize(
    "names",
    [
        (META, "7B_1T_4/consolidated.pth", "7B_1T_4/params.json"),
        (
            REF,
            "pytorch_model.bin.index.json",
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model-00002-of-00002.bin",
        ),
    ],
    ids=lambda names: names[0],
)
def test_step_2_raw_files_are_there_with_their_sha256(
    good_root: Path, names: tuple[str, ...]
) -> None:
    """Under upstream's names; what the hub announced is what lies there."""
    name, *files = names
    folder = model(good_root, name)
    listed = document(folder / "raw.metadata.json")["manifest"]["files"]
    for file in files:
        assert listed[f"raw/{file}"]["sha256"] == sha256(folder / "raw" / file)


@pytest.mark.parametrize("name", [META, REF])
def test_step_3_dtype_is_float16(good_root: Path, name: str) -> None:
    """Of every tensor, whatever upstream's were, and of each label."""
    labels, dtypes = tensors(model(good_root, name))
    assert dtypes == {"F16"}
    assert labels["dtype"] == "float16"
    assert document(model(good_root, name) / "metadata.json")["dtype"] == "float16"


@pytest.mark.parametrize("name", MODELS)
def test_step_3_sha256sums_hold(good_root: Path, name: str) -> None:
    """``sha256sum -c SHA256SUMS``, the checkpoint first."""
    folder = model(good_root, name) / "safetensors"
    command = ["sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS"]
    assert subprocess.run(command, cwd=folder, check=False).returncode == 0
    assert (folder / "SHA256SUMS").read_text().split()[1] == "model.safetensors"


def test_step_3_adapter_has_the_parameters_of_the_plan(good_root: Path) -> None:
    """``params.json``, ``meta_adapter.yaml`` and ``metadata.json`` say the same."""
    folder = model(good_root, META)
    adapter = yaml.safe_load((folder / "configs/meta_adapter.yaml").read_text())
    params = document(folder / "configs/params.json")
    assert adapter["n_future_tokens"] == params["n_future_tokens"] == 4
    assert adapter["rope_theta"] == params["rope_theta"] == 10000.0
    assert adapter["dim"] == params["dim"]
    assert adapter["num_layers"] == params["n_layers"]
    assert adapter["intermediate_size"] % params["multiple_of"] == 0
    assert adapter["dtype"] == document(folder / "metadata.json")["dtype"] == "float16"


def test_step_3_tokenizer_config_is_there(good_root: Path) -> None:
    """``model_type: sentencepiece``, ``vocab_size: 32000``."""
    folder = model(good_root, META) / "tokenizer"
    config = document(folder / "tokenizer_config.json")
    assert (config["model_type"], config["vocab_size"]) == ("sentencepiece", 32000)
    vocabulary = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert vocabulary.vocab_size() == config["vocab_size"]


def test_step_3_metadata_has_what_the_plan_lists(good_root: Path) -> None:
    """dtype, SHA-256, repository, date, the value head that is not there yet."""
    folder = model(good_root, META)
    metadata = document(folder / "metadata.json")
    assert metadata["model_name"] == META
    assert metadata["version"] == "v2.0.0"
    assert metadata["format"] == "safetensors"
    assert metadata["source"]["repo"] == "facebook/multi-token-prediction"
    assert metadata["value_head"] == {"path": None, "stage1_checkpoint_id": None}
    assert metadata["tokenizer_shared_with"] is None
    assert metadata["created_at"]
    for role in ("checkpoint", "tokenizer", "params", "adapter"):
        assert metadata["sha256"][role] == sha256(folder / metadata["files"][role])


def test_step_4_shards_became_one_file_that_loads(good_root: Path) -> None:
    """By safetensors itself, with the parameters of its ``config.json``."""
    folder = model(good_root, REF)
    config = document(folder / "configs/config.json")
    with safe_open(folder / "safetensors/model.safetensors", "pt") as file:
        embedding = file.get_slice("model.embed_tokens.weight").get_shape()
    assert embedding == [config["vocab_size"], config["hidden_size"]]


@pytest.mark.parametrize("name", [REF, MICRO, MICRO_REF])
def test_step_4_tokenizer_is_shared_with_the_base(good_root: Path, name: str) -> None:
    """The bytes are the same, and ``metadata.json`` names the owner."""
    mine, owners = (model(good_root, one) / "tokenizer/tokenizer.model" for one in (name, META))
    assert mine.read_bytes() == owners.read_bytes()
    assert document(model(good_root, name) / "metadata.json")["tokenizer_shared_with"] == META


@pytest.mark.parametrize("name", [MICRO, MICRO_REF])
def test_step_5_micro_is_under_50_mb_and_float16(good_root: Path, name: str) -> None:
    """The checkpoint, of four layers and 512 dimensions, for Apple's devices."""
    folder = model(good_root, name)
    assert (folder / "safetensors/model.safetensors").stat().st_size < 50_000_000
    labels, dtypes = tensors(folder)
    assert (labels["dtype"], dtypes) == ("float16", {"F16"})
    config = document(folder / "configs/config.json")
    assert (config["num_hidden_layers"], config["hidden_size"]) == (4, 512)
    assert document(folder / "metadata.json")["target_device"] == "mps"


# -- datasets: steps 6 to 8 ------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_step_6_raw_files_have_their_sha256_recorded(good_root: Path, name: str) -> None:
    """In the manifest beside ``raw/``."""
    folder = good_root / "datasets_v2" / name
    listed = document(folder / "raw.metadata.json")["manifest"]["files"]
    there = {path for path in (folder / "raw").rglob("*") if path.is_file()}
    assert {path.relative_to(folder).as_posix(): sha256(path) for path in there} == {
        file: record["sha256"] for file, record in listed.items()
    }


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_step_8_rows_follow_schema_json(good_root: Path, name: str, split: str) -> None:
    """The first 300, by a validator of JSON Schema; the rule ``schema`` reads every row."""
    folder = good_root / "datasets_v2" / name / "processed"
    validator = Draft202012Validator(document(folder / "schema.json"))
    for row in rows(folder / f"{split}.jsonl")[:300]:
        validator.validate(row)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_step_8_no_row_is_longer_than_2048_tokens(good_root: Path, name: str, split: str) -> None:
    """Counted again by sentencepiece, not read from anywhere."""
    tokenizer = model(good_root, META) / "tokenizer/tokenizer.model"
    encode = SentencePieceProcessor(model_file=str(tokenizer)).encode
    for row in rows(good_root / f"datasets_v2/{name}/processed/{split}.jsonl"):
        texts = (row["instruction"], row["input"], row["output"])
        assert sum(len(encode(text)) for text in texts) <= MAX_TOKENS


@pytest.mark.parametrize("name", DATASETS)
def test_step_8_splits_are_disjoint_by_task_id(good_root: Path, name: str) -> None:
    """No problem of one split is in another."""
    folder = good_root / "datasets_v2" / name / "processed"
    of_split = [
        {
            row["metadata"].get("problem_id", row["task_id"])
            for row in rows(folder / f"{split}.jsonl")
        }
        for split in DATASETS[name]
    ]
    assert all(one.isdisjoint(other) for one, other in combinations(of_split, 2))


def test_step_8_is_correct_is_there_for_the_verifiable_critic(good_root: Path) -> None:
    """CodeContests has it in every row; the other sets do not say, and are not for it."""
    for name, split in SPLITS:
        found = rows(good_root / f"datasets_v2/{name}/processed/{split}.jsonl")
        assert all(("is_correct" in row) == (name == "codecontests") for row in found)


@pytest.mark.parametrize("name", DATASETS)
def test_step_8_small_sets_have_at_most_100_and_32_rows(good_root: Path, name: str) -> None:
    """Of train, and of validation and test."""
    for split in DATASETS[name]:
        path = good_root / f"datasets_local_small/{name}_small/{split}_small.jsonl"
        assert 0 < len(rows(path)) <= (TRAIN_SMALL if split == "train" else OTHER_SMALL)


@pytest.mark.parametrize("name", DATASETS)
def test_step_8_statistics_count_the_rows(good_root: Path, name: str) -> None:
    """In the newest ``YYYY-MM-DD_summary.json``."""
    folder = good_root / "datasets_v2" / name
    summary = document(max((folder / "stats").glob("????-??-??_summary.json")))
    for split in DATASETS[name]:
        found = len(rows(folder / f"processed/{split}.jsonl"))
        assert summary["splits"][split]["rows"] == found


# -- documents: steps 9 to 11 ----------------------------------------------------------------------


def test_step_9_readme_says_how_to_verify(good_root: Path) -> None:
    """With coreutils alone."""
    assert "sha256sum -c SHA256SUMS" in (good_root / "README.md").read_text()


@pytest.mark.parametrize(
    "name",
    ["phase1_asset_inventory.md", "migration_notes.md", "phase1_completion_report.md"],
)
def test_step_10_documents_are_there(good_root: Path, name: str) -> None:
    """Under the names of the plan."""
    assert (good_root / "docs" / name).read_text().startswith(("#", ">"))


def test_step_10_inventory_lists_every_model_and_dataset(good_root: Path) -> None:
    """Documents agree with what lies there."""
    text = (good_root / "docs/phase1_asset_inventory.md").read_text()
    for name in (*MODELS, *DATASETS):
        assert name in text


def test_step_11_checklist_has_every_item(good_root: Path) -> None:
    """Directories to documents, backup and tag, each with evidence and state."""
    text = (good_root / "docs/phase1_completion_report.md").read_text()
    for item in ("Directories", "Raw files", "Conversions", "Micro models", "Datasets", "Backup"):
        assert f"| {item} |" in text
