"""``features``: what ``datasets`` cannot guess from the first rows of a JSONL file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets.exceptions import DatasetGenerationError

import wmtp_assets
from wmtp_assets.base.errors import InvalidInput, MissingArtifact
from wmtp_assets.datasets.features import arrow_schema
from wmtp_assets_tests.datasets.rows import read_jsonl

NAMES = ("codecontests", "gsm8k", "humaneval", "mbpp")


def load(tmp_path: Path, files: Any, **options: Any) -> Any:
    """``load_dataset("json", …)`` with a cache of its own."""
    cache = str(tmp_path / "cache")
    return datasets.load_dataset("json", data_files=files, cache_dir=cache, **options)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)]


def jsonl_files(root: Path, name: str) -> list[Path]:
    """All that are written of a dataset."""
    here = root / f"datasets_v2/{name}"
    small = root / f"datasets_local_small/{name}_small"
    return [*here.glob("processed/*.jsonl"), *here.glob("pairs/*.jsonl"), *small.glob("*.jsonl")]


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_read_as_it_is(good_root: Path, tmp_path: Path, name: str) -> None:
    """Rows, evaluation rows, pairs and small rows: with the features a table has the rows, no field
    more, less or of another type."""
    files = jsonl_files(good_root, name)
    assert {path.parent.name for path in files} == {"processed", "pairs", f"{name}_small"}
    for path in files:
        features = wmtp_assets.features(path)
        table = load(tmp_path, str(path), features=features, split="train")
        assert table.features == features
        assert table.to_list() == rows_of(path), path


@pytest.mark.parametrize("name", ["codecontests", "gsm8k", "humaneval"])
def test_splits_load_without_features_where_rows_say_their_types(
    good_root: Path, tmp_path: Path, name: str
) -> None:
    """Nobody must know of the function who does not need it."""
    folder = good_root / f"datasets_v2/{name}/processed"
    files = {p.stem: str(p) for p in folder.glob("*.jsonl") if not p.stem.endswith("_eval")}
    loaded = load(tmp_path, files)
    first = next(iter(files.values()))
    for split, path in files.items():
        assert loaded[split].features == wmtp_assets.features(first)
        assert len(loaded[split]) == len(rows_of(Path(path)))


def test_splits_of_mbpp_need_them(good_root: Path, tmp_path: Path) -> None:
    """``challenge_test_list`` is empty in all of train: what it is a list of, only test says. The
    specification says the rows, so they stay."""
    folder = good_root / "datasets_v2/mbpp/processed"
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
    with pytest.raises(DatasetGenerationError) as caught:
        load(tmp_path, files)
    assert "string to null" in str(caught.value.__cause__)
    loaded = load(tmp_path, files, features=wmtp_assets.features(files["train"]))
    assert {split: loaded[split].to_list() for split in files} == {
        split: rows_of(Path(path)) for split, path in files.items()
    }


def test_pairs_of_several_datasets_load_in_one_call(good_root: Path, tmp_path: Path) -> None:
    """To train on a mixture is what pairs are for; MBPP's ``is_correct`` is null in every row, and
    its file comes first."""
    files = [
        str(good_root / f"datasets_v2/{name}/pairs/train.jsonl")
        for name in ("mbpp", "gsm8k", "codecontests")
    ]
    with pytest.raises(DatasetGenerationError) as caught:
        load(tmp_path, files)
    assert "bool to null" in str(caught.value.__cause__)
    table = load(tmp_path, files, features=wmtp_assets.features(files[0]), split="train")
    assert table.to_list() == [row for path in files for row in rows_of(Path(path))]
    assert table.features == wmtp_assets.features(files[-1])


def test_a_copy_of_the_folder_is_enough(good_root: Path, tmp_path: Path) -> None:
    """On a cluster there is a folder and no graph."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(good_root / "datasets_v2/codecontests/processed", copy)
    features = wmtp_assets.features(str(copy / "valid.jsonl"))
    assert " ".join(features) == "instruction input output task_id is_correct metadata"
    assert features["is_correct"] == datasets.Value("bool")
    tests = wmtp_assets.features(copy / "valid_eval.jsonl")["metadata"]
    assert tests["time_limit"] == datasets.Value("float64")
    assert tests["public_tests"]["input"] == datasets.List(datasets.Value("string"))


def test_file_without_a_schema_is_said(tmp_path: Path) -> None:
    """Somebody copied the file alone."""
    with pytest.raises(MissingArtifact, match=r"schema\.json does not exist: it says the columns"):
        wmtp_assets.features(tmp_path / "train.jsonl")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"properties": []}',
        b'{"properties": {"x": {}}}',
        b'{"properties": {"x": {"type": "array"}}}',
        b'{"properties": {"x": {"type": ["string"]}}}',
        b'{"properties": {"x": {"$ref": "#/$defs/X"}}}',
        b'{"properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": {"$ref": "#/$defs/X"}}}',
        b'{"properties": {"x": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}}',
    ],
)
def test_what_is_no_schema_of_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    """It says which file is wrong, and nothing is guessed."""
    (tmp_path / "schema.json").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"schema\.json: not the schema of rows"):
        wmtp_assets.features(tmp_path / "train.jsonl")


def test_schema_of_every_kind_of_field(tmp_path: Path) -> None:
    """As pydantic writes them."""
    schema = {
        "properties": {
            "text": {"type": "string", "enum": ["a"]},
            "perhaps": {"anyOf": [{"type": "null"}, {"type": "boolean"}]},
            "nested": {"$ref": "#/$defs/Inner"},
            "list": {"type": "array", "items": {"$ref": "#/$defs/Inner"}},
        },
        "$defs": {"Inner": {"type": "object", "properties": {"n": {"type": "integer"}}}},
    }
    assert [f"{field.name}: {field.type}" for field in arrow_schema(schema)] == [
        "text: string",
        "perhaps: bool",
        "nested: struct<n: int64>",
        "list: list<item: struct<n: int64>>",
    ]
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    assert wmtp_assets.features(tmp_path / "x.jsonl")["nested"] == {"n": datasets.Value("int64")}
