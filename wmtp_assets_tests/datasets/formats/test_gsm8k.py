"""The processed GSM8K keeps upstream's texts, and the number that decides about an answer."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.datasets.formats.gsm8k import COLUMNS, Gsm8kRecord, final_answer, problem_ids
from wmtp_assets.datasets.records import Options, load_format, schema_document
from wmtp_assets.sample import gsm8k
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.rows import read_jsonl

SPLITS = ("train", "test")


@pytest.fixture(scope="module")
def rows(good_root: Path) -> dict[str, list[dict[str, Any]]]:
    """The processed rows of each split."""
    folder = good_root / "datasets_v2/gsm8k/processed"
    return {split: [row for _, row in read_jsonl(folder / f"{split}.jsonl")] for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_those_of_upstream(rows: dict[str, list[dict[str, Any]]], split: str) -> None:
    """Text for text, in order: reasoning, annotations and the last line are what is trained on."""
    upstream = [gsm8k.row(split, number) for number in range(gsm8k.ROWS[split])]
    assert [(row["instruction"], row["output"]) for row in rows[split]] == [
        (row["question"], row["answer"]) for row in upstream
    ]
    assert [row["task_id"] for row in rows[split]] == [
        f"gsm8k/{split}/{number}" for number in range(gsm8k.ROWS[split])
    ]
    assert {row["input"] for row in rows[split]} == {""}


def test_metadata_has_the_final_answer(rows: dict[str, list[dict[str, Any]]]) -> None:
    """Who evaluates compares this field; commas in it would make right answers wrong."""
    for split in SPLITS:
        for row in rows[split]:
            final = row["metadata"]["final_answer"]
            assert row["output"].split("#### ")[1].strip().replace(",", "") == final
            assert "," not in final
            assert row["metadata"]["has_tests"] is False
    odd = [row["metadata"]["final_answer"] for row in rows["train"][1:4]]
    assert odd == ["11440", "-201", "253.50"]
    assert rows["train"][4]["output"].endswith(" ")
    assert rows["train"][4]["instruction"].endswith(" ")


def test_nothing_is_dropped_and_all_is_optional(store: Store) -> None:
    """Upstream's counts are pinned, and a required artifact would be made by everybody."""
    document = store.manifest(store.catalogue["gsm8k_processed"]).document
    assert {split: count["rows"] for split, count in document["splits"].items()} == gsm8k.ROWS
    assert {str(count["dropped"]) for count in document["splits"].values()} == {"{}"}
    mine = [item for item in store.catalogue if item.spec.name == "gsm8k"]
    assert len(mine) == 7
    assert all(item.optional for item in mine)


def test_annotations_of_the_sample_are_right(rows: dict[str, list[dict[str, Any]]]) -> None:
    """A sample that is wrong about arithmetic would teach that the reader is."""
    for row in rows["test"]:
        for expression, result in re.findall(r"<<([^=]+)=([^>]+)>>", row["output"]):
            assert re.fullmatch(r"[0-9.*/+-]+", expression)
            exact = re.sub(r"[0-9.]+", lambda number: f"Fraction('{number[0]}')", expression)
            assert eval(exact, {"Fraction": Fraction}) == Fraction(result)


GOOD_ENDS = {
    "#### 42": "42",
    "#### 1,250": "1250",
    "#### 12,345,678": "12345678",
    "#### 70000": "70000",
    "#### -7": "-7",
    "#### -1,000.50": "-1000.50",
    "#### 24 ": "24",
    "#### 24\n": "24",
    "#### 0": "0",
}
BAD_ENDS = (
    "",
    "42",
    "####",
    "#### ",
    "####42",
    "#### forty-two",
    "#### 1,2,3",
    "#### 1,25",
    "#### ,250",
    "#### 1.",
    "#### --1",
    "#### $5",
    "#### 5%",
    "#### 1/2",
    "#### 1e3",
    "#### NaN",
    "#### \u0664\u0662",
    "#### 4 2",
    "#### 42 apples",
    "#### 42\r",
    "#### 41\n#### 42",
    "#### 42\nThat is it.",
)


@pytest.mark.parametrize("end", GOOD_ENDS, ids=repr)
def test_number_is_read(end: str) -> None:
    """As upstream's own evaluation reads it: without commas, as text."""
    assert final_answer(end) == final_answer(f"One step.\n{end}") == GOOD_ENDS[end]


@pytest.mark.parametrize("end", BAD_ENDS, ids=repr)
def test_what_is_no_number_is_refused_by_row(tmp_path: Path, end: str) -> None:
    """A guess would be compared with the model's answers; file and row are named instead."""
    path = write(tmp_path / "train.parquet", [("q", "#### 1"), ("q", f"One step.\n{end}")])
    with pytest.raises(InvalidInput) as caught:
        convert(path)
    assert str(caught.value).startswith(f"{path}: row 1: answer: must end with one line '#### NUM")


def write(path: Path, rows: list[tuple[str | None, str | None]]) -> Path:
    questions, answers = zip(*rows, strict=True)
    schema = pa.schema([("question", pa.string()), ("answer", pa.string())])
    pq.write_table(pa.table([list(questions), list(answers)], schema=schema), path)
    return path


def convert(*paths: Path) -> list[str]:
    """The task_ids of the rows of one split."""
    ids, _ = problem_ids([("train", path) for path in paths])
    return [
        problem.problem_id
        for path, mine in zip(paths, ids, strict=True)
        for problem in load_format("gsm8k").problems(path, Options(problem_ids=mine))
    ]


def test_rows_are_counted_over_the_shards_of_a_split(tmp_path: Path) -> None:
    """Upstream may be uploaded anew in two files; the names must not depend on that."""
    paths = [write(tmp_path / f"{n}.parquet", [("q", "#### 1")] * 300) for n in range(2)]
    assert convert(*paths) == [f"gsm8k/train/{number}" for number in range(600)]
    ids, renamed = problem_ids([("train", paths[0]), ("test", paths[1])])
    assert (ids[1][0], renamed) == ("gsm8k/test/0", [])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((None, "#### 1"), "row 1: 'question' is null"),
        (("q", None), "row 1: 'answer' is null"),
        (("", "#### 1"), "row 1: instruction: String should have at least 1 character"),
    ],
)
def test_hostile_row_is_named(
    tmp_path: Path, row: tuple[str | None, str | None], message: str
) -> None:
    """One line that says which row, not a traceback of pyarrow or pydantic."""
    with pytest.raises(InvalidInput, match=re.escape(message)):
        convert(write(tmp_path / "train.parquet", [("q", "#### 1"), row]))


@pytest.mark.parametrize("column", COLUMNS)
def test_other_columns_are_refused(tmp_path: Path, column: str) -> None:
    """The config ``socratic`` has the same names; another dataset has not."""
    path = tmp_path / "train.parquet"
    names = [name for name in COLUMNS if name != column]
    pq.write_table(pa.table({name: ["#### 1"] for name in names}), path)
    with pytest.raises(InvalidInput, match=column):
        convert(path)


GOOD: dict[str, Any] = {
    "instruction": "q",
    "input": "",
    "output": "48/2 = <<48/2=24>>24\n#### 24",
    "task_id": "gsm8k/train/0",
    "metadata": {
        "source": "gsm8k",
        "difficulty": "unknown",
        "difficulty_number": 0,
        "has_tests": False,
        "final_answer": "24",
    },
}


def with_metadata(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "metadata": {**GOOD["metadata"], **changes}}


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "a number for a task_id": ("task_id", {**GOOD, "task_id": 1}),
    "a task_id with leading zeros": ("task_id", {**GOOD, "task_id": "gsm8k/train/01"}),
    "an input": ("input", {**GOOD, "input": "x"}),
    "an unknown field": ("hint", {**GOOD, "hint": "x"}),
    "a number for the answer": ("metadata.final_answer", with_metadata(final_answer=24)),
    "commas in the answer": ("metadata.final_answer", with_metadata(final_answer="1,250")),
    "no answer": ("metadata.final_answer", with_metadata(final_answer="")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_row_is_refused_by_record_and_schema(name: str) -> None:
    """By field; and whoever has only schema.json comes to the same verdict."""
    field, row = BAD[name]
    validator = Draft202012Validator(
        schema_document(Gsm8kRecord, "alpaca", {"repo": "o/n", "revision": "0" * 40})
    )
    assert not list(validator.iter_errors(GOOD))
    with pytest.raises(ValidationError) as caught:
        Gsm8kRecord.model_validate(row)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])) == field
    assert list(validator.iter_errors(row))


@pytest.mark.parametrize("output", ["#### 25", "24"])
def test_final_answer_is_that_of_the_output(output: str) -> None:
    """An edited row would be judged by another number than it teaches; no JSON Schema says so."""
    with pytest.raises(ValidationError, match="metadata"):
        Gsm8kRecord.model_validate({**GOOD, "output": output})
