"""The record that a processed dataset consists of, and the schema that describes it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from wmtp_assets.base.strict_json import short
from wmtp_assets.storage.manifest import Document

PROMPT_RULE = "instruction; where input is not empty, followed by an empty line and input"


class Record(BaseModel):
    """Base: strict types, unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class HumanEvalMetadata(Record):
    """What HumanEval says about a problem beside the Alpaca fields."""

    source: str = Field(description="name of the dataset")
    difficulty: str = Field(description="lower case; 'unknown': upstream has none")
    has_tests: bool
    entry_point: str = Field(min_length=1, description="name of the function under test")
    test: str = Field(min_length=1, description="Python source that defines check(candidate)")


class HumanEvalRecord(Record):
    """One HumanEval problem in the Alpaca format."""

    instruction: str = Field(min_length=1, description="upstream's prompt: signature and docstring")
    input: str = Field(max_length=0, description="always empty")
    output: str = Field(min_length=1, description="upstream's canonical_solution")
    task_id: str = Field(pattern=r"^HumanEval/[0-9]+$", description="as upstream")
    metadata: HumanEvalMetadata


class MbppMetadata(Record):
    """What MBPP says about a problem beside the Alpaca fields."""

    source: str = Field(description="name of the dataset")
    difficulty: str = Field(description="lower case; 'unknown': upstream has none")
    has_tests: bool
    test_list: list[str] = Field(min_length=1, description="assertions")
    test_setup_code: str = Field(description="Python source to run before them; may be empty")
    challenge_test_list: list[str] = Field(description="harder assertions; may be empty")


class MbppRecord(Record):
    """One MBPP problem in the Alpaca format."""

    instruction: str = Field(min_length=1, description="upstream's text")
    input: str = Field(max_length=0, description="always empty")
    output: str = Field(min_length=1, description="upstream's code, its line breaks included")
    task_id: str = Field(pattern=r"^[0-9]+$", description="upstream's number")
    metadata: MbppMetadata


_FINAL_ANSWER = re.compile(r"#### (-?(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.[0-9]+)?) *")


def final_answer(answer: str) -> str:
    """The number on the last line of a GSM8K answer, ``#### 1,250``, without its commas.

    That is what upstream's own evaluation compares, as text (``dataset.py`` in
    https://github.com/openai/grade-school-math).

    Raises:
        ValueError: if the last line, and only that, is not such a line.
    """
    *steps, last = answer.rstrip("\n").split("\n")
    found = _FINAL_ANSWER.fullmatch(last)
    if found is None or any("####" in step for step in steps):
        raise ValueError(f"must end with one line '#### NUMBER', ends with {short(last)}")
    return found[1].replace(",", "")


class Gsm8kMetadata(Record):
    """What GSM8K says about a problem beside the Alpaca fields."""

    source: str = Field(description="name of the dataset")
    difficulty: str = Field(description="lower case; 'unknown': upstream has none")
    has_tests: bool = Field(description="always false: the final answer decides")
    final_answer: str = Field(
        pattern=r"^-?[0-9]+(\.[0-9]+)?$",
        description="the number that output ends with, without commas, as text: exact",
    )


class Gsm8kRecord(Record):
    """One GSM8K problem in the Alpaca format."""

    instruction: str = Field(min_length=1, description="upstream's question")
    input: str = Field(max_length=0, description="always empty")
    output: str = Field(
        min_length=1, description="upstream's answer: steps with <<48/2=24>>, and '#### 24'"
    )
    task_id: str = Field(
        pattern=r"^gsm8k/[a-z]+/(0|[1-9][0-9]*)$", description="split, and row from 0"
    )
    metadata: Gsm8kMetadata

    @field_validator("metadata")
    @classmethod
    def _same_answer(cls, value: Gsm8kMetadata, info: ValidationInfo) -> Gsm8kMetadata:
        output = info.data.get("output")
        if output is not None and final_answer(output) != value.final_answer:
            raise ValueError(f"final_answer is {short(value.final_answer)}, not that of output")
        return value


class CodeContestsMetadata(Record):
    """Which problem of CodeContests a solution belongs to, and what upstream says about both."""

    source: str = Field(min_length=1, description="the contest site, in lower case, or 'unknown'")
    difficulty: str = Field(
        min_length=1, description="upstream's name in lower case; 'unknown': upstream has none"
    )
    has_tests: bool = Field(description="whether upstream has tests of any kind for the problem")
    problem_id: str = Field(
        min_length=1, description="upstream's name; with '#2', … where another problem has it too"
    )
    language: Literal["python", "python3"] = Field(description="python is Python 2")


class CodeContestsRecord(Record):
    """A solution of a CodeContests problem, right or wrong, in the Alpaca format."""

    instruction: str = Field(min_length=1, description="upstream's description")
    input: str = Field(description="the first public tests, as many as the dataset's spec says")
    output: str = Field(min_length=1, description="the solution, its line breaks included")
    task_id: str = Field(
        pattern=r"^[\s\S]+_(correct|incorrect)_(0|[1-9][0-9]*)$",
        description="problem_id, is_correct, and the index in upstream's list of such solutions",
    )
    is_correct: bool
    metadata: CodeContestsMetadata

    @field_validator("is_correct")
    @classmethod
    def _agrees(cls, value: bool, info: ValidationInfo) -> bool:
        task_id = info.data.get("task_id")
        if task_id is not None and label_of(task_id) != value:
            raise ValueError(f"task_id is {short(task_id)}")
        return value

    @field_validator("metadata")
    @classmethod
    def _same_problem(
        cls, value: CodeContestsMetadata, info: ValidationInfo
    ) -> CodeContestsMetadata:
        task_id = info.data.get("task_id")
        if task_id is not None and task_id.rsplit("_", 2)[0] != value.problem_id:
            raise ValueError(f"problem_id is {short(value.problem_id)}, task_id {short(task_id)}")
        return value


def label_of(task_id: str) -> bool:
    """What the task_id of a labelled record says about is_correct."""
    return task_id.rsplit("_", 2)[1] == "correct"


class Tests(Record):
    """Inputs and the outputs that a right program gives for them, in the same order."""

    input: list[str]
    output: list[str]


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


AlpacaRecord = HumanEvalRecord | MbppRecord | Gsm8kRecord | CodeContestsRecord
RECORD_OF_CONVERTER: dict[
    str,
    type[HumanEvalRecord] | type[MbppRecord] | type[Gsm8kRecord] | type[CodeContestsRecord],
] = {
    "humaneval": HumanEvalRecord,
    "mbpp": MbppRecord,
    "gsm8k": Gsm8kRecord,
    "codecontests": CodeContestsRecord,
}


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


def schema_document(
    record: type[Record], format_name: str, repository: str, revision: str
) -> Document:
    """``schema.json``: the JSON Schema of a record, and where the rows come from."""
    schema = record.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "required_fields": schema["required"],
        "format": format_name,
        "encoding": "JSON Lines, UTF-8, one record per line",
        "source": {"repository": repository, "revision": revision},
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
