"""Pairs: what training reads is the processed rows, line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.datasets.records import PROMPT_RULE, PairRecord, schema_document
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.contests import make, processed_path
from wmtp_assets_tests.datasets.rows import read_jsonl
from wmtp_assets_tests.trees import damage, flip, tree

SPLITS = {
    "humaneval": ("test",),
    "mbpp": ("train", "validation", "test"),
    "codecontests": ("train", "valid", "test"),
}
ROWS = [(name, split) for name, splits in SPLITS.items() for split in splits]


def rows_of(root: Path, name: str, part: str, split: str) -> list[dict[str, Any]]:
    path = root / f"datasets_v2/{name}/{part}/{split}.jsonl"
    return [row for _, row in read_jsonl(path)]


@pytest.mark.parametrize(("name", "split"), ROWS)
def test_every_line_is_the_processed_row_at_its_place(
    good_root: Path, name: str, split: str
) -> None:
    """Weights by line number are only right if neither order nor number of lines changes."""
    assert rows_of(good_root, name, "pairs", split) == [
        {
            "prompt": row["instruction"] + (f"\n\n{row['input']}" if row["input"] else ""),
            "response": row["output"],
            "is_correct": row.get("is_correct"),
            "metadata": {
                "problem_id": row["metadata"].get("problem_id", row["task_id"]),
                "difficulty": row["metadata"]["difficulty"],
            },
        }
        for row in rows_of(good_root, name, "processed", split)
    ]


@pytest.mark.parametrize(("name", "split"), ROWS)
def test_schema_file_validates_every_line(good_root: Path, name: str, split: str) -> None:
    """It is the contract with the training code, which has no part of this project."""
    folder = good_root / f"datasets_v2/{name}/pairs"
    schema = json.loads((folder / "schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    rows = rows_of(good_root, name, "pairs", split)
    assert [error.message for row in rows for error in validator.iter_errors(row)] == []
    assert schema["format"] == "pairs"
    assert schema["required_fields"] == ["prompt", "response", "is_correct", "metadata"]
    assert schema["properties"]["prompt"]["description"] == PROMPT_RULE


@pytest.mark.parametrize("name", SPLITS)
def test_manifest_counts_the_rows_and_states_the_rule(store: Store, name: str) -> None:
    """Without the file at hand: how many, from where, and how a prompt was made."""
    document = store.manifest(store.catalogue[f"{name}_pairs"]).document
    processed = store.manifest(store.catalogue[f"{name}_processed"]).document
    assert document["prompt"] == PROMPT_RULE
    assert document["rows"] == processed["rows"]
    assert document["splits"] == {
        split: {"rows": processed["splits"][split]["rows"]} for split in SPLITS[name]
    }
    assert document["source"] == processed["source"]


GOOD: dict[str, Any] = {
    "prompt": "a",
    "response": "b",
    "is_correct": None,
    "metadata": {"problem_id": "1", "difficulty": "unknown"},
}


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("prompt", {"prompt": ""}),
        ("response", {"response": ""}),
        ("is_correct", {"is_correct": 1}),
        ("is_correct", {"is_correct": "true"}),
        ("is_correct", {"is_correct": ...}),
        ("weight", {"weight": 0.5}),
        ("metadata.problem_id", {"metadata": {"problem_id": 1, "difficulty": "unknown"}}),
        ("metadata.difficulty", {"metadata": {"problem_id": "1", "difficulty": ""}}),
    ],
)
def test_bad_pair_is_refused_by_record_and_schema(field: str, changes: dict[str, Any]) -> None:
    """'Not said' is null and stands there; a row without the field could be one that lost it."""
    validator = Draft202012Validator(
        schema_document(PairRecord, "pairs", {"repo": "o/n", "revision": "0" * 40})
    )
    for good in (GOOD, {**GOOD, "is_correct": True}):
        assert not list(validator.iter_errors(good))
        PairRecord.model_validate(good)
    row = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    with pytest.raises(ValidationError) as caught:
        PairRecord.model_validate(row)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])) == field
    assert list(validator.iter_errors(row))


def test_pairs_of_damaged_rows_are_not_made(contests: Store) -> None:
    """Or the damage would get a right hash one folder further on."""
    make(contests, "pairs")
    damage(processed_path(contests, "index/valid.parquet"), flip(500))
    folder = contests.folder(contests.catalogue["codecontests_pairs"])
    before = tree(folder)
    with pytest.raises(CorruptArtifact, match=r"valid\.parquet is damaged"):
        make(contests, "pairs")
    assert tree(folder) == before
