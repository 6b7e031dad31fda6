"""The processed MBPP is the real MBPP, to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from wmtp_assets.datasets.formats.mbpp import COLUMNS, MbppRecord, convert_row
from wmtp_assets.datasets.records import schema_document
from wmtp_assets.sample import mbpp
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.rows import read_jsonl

FOLDER = "datasets_v2/mbpp"
SPLITS = ("train", "validation", "test")
UPSTREAM = {row["task_id"]: row for row in mbpp.read_rows()}


@pytest.fixture
def rows(good_root: Path) -> dict[str, list[dict[str, Any]]]:
    """The processed rows of each split."""
    return {
        split: [row for _, row in read_jsonl(good_root / f"{FOLDER}/processed/{split}.jsonl")]
        for split in SPLITS
    }


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_those_of_upstream(rows: dict[str, list[dict[str, Any]]], split: str) -> None:
    """Numbers are only comparable on exactly these problems in exactly these splits."""
    assert rows[split] == [
        {
            "instruction": UPSTREAM[task_id]["text"],
            "input": "",
            "output": UPSTREAM[task_id]["code"],
            "task_id": str(task_id),
            "metadata": {
                "source": "mbpp",
                "difficulty": "unknown",
                "difficulty_number": 0,
                "has_tests": True,
                "test_list": UPSTREAM[task_id]["test_list"],
                "test_setup_code": UPSTREAM[task_id]["test_setup_code"],
                "challenge_test_list": UPSTREAM[task_id]["challenge_test_list"],
            },
        }
        for task_id in mbpp.SPLITS[split]
    ]


def test_line_breaks_are_upstreams(good_root: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Nearly all code has CRLF. Made LF, it would have other tokens than anybody else's MBPP."""
    assert [i for i, row in UPSTREAM.items() if "\r\n" not in row["code"]] == [62, 847]
    assert len(UPSTREAM) == 974
    outputs = {row["task_id"]: row["output"] for split in SPLITS for row in rows[split]}
    with_crlf = {task_id for task_id, code in outputs.items() if "\r\n" in code}
    assert outputs.keys() - with_crlf == {"62", "847"}
    splits = json.loads((good_root / FOLDER / "metadata.json").read_bytes())["splits"]
    assert sum(split["crlf_rows"] for split in splits.values()) == len(with_crlf)


def test_few_shot_examples_stay_in_raw(good_root: Path, store: Store) -> None:
    """The split ``prompt`` is shown to models in the question: trained on, it would be wasted."""
    assert (good_root / f"{FOLDER}/raw/full/prompt-00000-of-00001.parquet").is_file()
    for part in ("processed", "pairs", "small", "stats"):
        artifact = store.catalogue[f"mbpp_{part}"]
        manifest = store.manifest(artifact)
        assert not [name for name in manifest.files if "prompt" in name]
        assert manifest.document.pop("made_with")
        assert '"prompt": {' not in json.dumps(manifest.document)
    summary = next((good_root / f"{FOLDER}/stats").glob("*_summary.json"))
    assert json.loads(summary.read_bytes())["splits"].keys() == {*SPLITS}
    document = store.manifest(store.catalogue["mbpp_processed"]).document
    assert {split: count["rows"] for split, count in document["splits"].items()} == {
        "train": 374,
        "validation": 90,
        "test": 500,
    }
    assert document["rows"] == 964


def test_schema_file_validates_every_line(
    good_root: Path, rows: dict[str, list[dict[str, Any]]]
) -> None:
    """schema.json is read by others, with a JSON Schema library and without this project."""
    schema = json.loads((good_root / f"{FOLDER}/processed/schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    every = [row for split in SPLITS for row in rows[split]]
    assert [error.message for row in every for error in validator.iter_errors(row)] == []
    assert schema["source"]["repository"] == "google-research-datasets/mbpp"


def test_a_solution_passes_its_tests(rows: dict[str, list[dict[str, Any]]]) -> None:
    """output and the tests are one program; the columns in each other's place would not run."""
    row = rows["test"][0]
    metadata = row["metadata"]
    lines = [metadata["test_setup_code"], row["output"], *metadata["test_list"]]
    exec(compile("\n".join(lines), row["task_id"], "exec"), {})
    with pytest.raises(AssertionError):
        exec("\n".join([*lines, "assert remove_Occ('hello', 'l') == 'hello'"]), {})


def test_converter_reads_its_columns_and_no_other() -> None:
    """Columns are read by name; one that is used but not declared would not be there."""
    row = {name: UPSTREAM[601][name] for name in COLUMNS}
    assert convert_row(row).task_id == "601"
    for name in COLUMNS:
        with pytest.raises(KeyError, match=name):
            convert_row({key: value for key, value in row.items() if key != name})


GOOD = convert_row(UPSTREAM[601]).model_dump()
BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "a number for a task_id": ("task_id", {**GOOD, "task_id": 601}),
    "a task_id of another dataset": ("task_id", {**GOOD, "task_id": "HumanEval/1"}),
    "an input": ("input", {**GOOD, "input": "x"}),
    "an empty output": ("output", {**GOOD, "output": ""}),
    "an unknown field": ("hint", {**GOOD, "hint": "x"}),
    "no tests": (
        "metadata.test_list",
        {**GOOD, "metadata": {**GOOD["metadata"], "test_list": []}},
    ),
    "a test that is not text": (
        "metadata.test_list.0",
        {**GOOD, "metadata": {**GOOD["metadata"], "test_list": [1]}},
    ),
    "no setup": (
        "metadata.test_setup_code",
        {**GOOD, "metadata": {**GOOD["metadata"], "test_setup_code": None}},
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_row_is_refused_by_record_and_schema(name: str) -> None:
    """By field; and whoever has only schema.json comes to the same verdict."""
    field, row = BAD[name]
    validator = Draft202012Validator(
        schema_document(MbppRecord, "alpaca", {"repo": "o/n", "revision": "0" * 40})
    )
    assert not list(validator.iter_errors(GOOD))
    with pytest.raises(ValidationError) as caught:
        MbppRecord.model_validate(row)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])) == field
    assert list(validator.iter_errors(row))
