"""The record that a processed dataset consists of, and the schema that describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from wmtp_assets.storage.manifest import Document

PROMPT_RULE = "instruction; where input is not empty, followed by an empty line and input"


class Record(BaseModel):
    """Base: strict types, unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AlpacaRecord(Record):
    """What the record of every dataset has; each states what its fields mean.

    The record of a dataset that says which rows are right has ``is_correct`` too. Its metadata has
    ``difficulty`` (lower case, ``unknown`` where upstream has none) and ``has_tests``, and where a
    problem has several rows ``problem_id``.
    """

    instruction: str
    input: str
    output: str
    task_id: str
    if TYPE_CHECKING:
        metadata: Any


class ProblemMetadata(Record):
    """What the metadata begins with where a problem has one solution."""

    source: str = Field(description="name of the dataset")
    difficulty: str = Field(description="lower case; 'unknown': upstream has none")
    has_tests: bool


class Tests(Record):
    """Inputs and the outputs that a right program gives for them, in the same order."""

    input: list[str]
    output: list[str]


TEST_KINDS = ("public_tests", "private_tests", "generated_tests")


class EvaluationMetadata(Record):
    """What is needed to judge a program that solves a CodeContests problem."""

    source: str = Field(min_length=1)
    difficulty: str = Field(min_length=1)
    cf_rating: int = Field(description="Codeforces' rating of the difficulty; 0: none")
    time_limit: float | None = Field(description="seconds; null: upstream has none")
    memory_limit_bytes: int = Field(description="0: upstream has none")
    public_tests: Tests
    private_tests: Tests
    generated_tests: Tests


class EvaluationRecord(Record):
    """A problem of CodeContests with all its tests and no solution."""

    task_id: str = Field(min_length=1, description="the problem_id of the rows")
    instruction: str = Field(min_length=1)
    input: str = Field(description="as in the rows")
    metadata: EvaluationMetadata


def is_labelled(record: type[Record]) -> bool:
    """Whether rows of a dataset say if they are correct."""
    return "is_correct" in record.model_fields


def problem_of(row: Mapping[str, Any]) -> str:
    """The problem_id of a row: its task_id where upstream has one solution a problem."""
    return row["metadata"].get("problem_id", row["task_id"])


class PairMetadata(Record):
    """Which problem a pair belongs to."""

    problem_id: str = Field(min_length=1)
    difficulty: str = Field(min_length=1, description="lower case; 'unknown': upstream has none")


class PairRecord(Record):
    """A prompt and a response to it: the view that training reads."""

    prompt: str = Field(min_length=1, description=PROMPT_RULE)
    response: str = Field(min_length=1, description="the record's output")
    is_correct: bool | None = Field(description="null: upstream does not say")
    metadata: PairMetadata


def schema_document(record: type[Record], format_name: str, source: Mapping[str, Any]) -> Document:
    """``schema.json``: the JSON Schema of a record, and where the rows come from.

    Args:
        source: as a manifest has it.
    """
    schema = record.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "required_fields": schema["required"],
        "format": format_name,
        "encoding": "JSON Lines, UTF-8, one record per line",
        "source": {"repository": source["repo"], "revision": source["revision"]},
    }


def render_line(record: Record) -> bytes:
    """A record as a line of JSONL: UTF-8, fields in the record's order, ends with a newline."""
    return render_row(record.model_dump())


def render_row(row: Mapping[str, Any]) -> bytes:
    """The fields of a record, in order, as :func:`render_line` writes them."""
    return (_ENCODER.encode(row) + "\n").encode()


_ENCODER = json.JSONEncoder(ensure_ascii=False)


class RowRenderer:
    """Renders rows as :func:`render_row` does; what rows of a problem share is rendered once.

    Args:
        shared: the first fields of every row, which consecutive rows have in common.
    """

    def __init__(self, *shared: str) -> None:
        self._shared = shared
        self._values: list[Any] = []
        self._begin = b""

    def __call__(self, row: Mapping[str, Any]) -> bytes:
        values = [row[name] for name in self._shared]
        if values != self._values:
            begin = _ENCODER.encode(dict(zip(self._shared, values, strict=True)))
            self._values, self._begin = values, f"{begin[:-1]}, ".encode()
        rest = {name: value for name, value in row.items() if name not in self._shared}
        return self._begin + (_ENCODER.encode(rest)[1:] + "\n").encode()


SHARED = ("instruction", "input")
"""The first fields of a record, which all rows of a problem have in common."""
