"""The record that a processed dataset consists of, and the schema that describes it."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, Field

from wmtp_assets.manifest import Document

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


AlpacaRecord = HumanEvalRecord | MbppRecord
RECORD_OF_CONVERTER: dict[str, type[HumanEvalRecord] | type[MbppRecord]] = {
    "humaneval": HumanEvalRecord,
    "mbpp": MbppRecord,
}


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


def pair_of(record: AlpacaRecord) -> PairRecord:
    """The training view of a record; :data:`PROMPT_RULE` makes the prompt."""
    return PairRecord(
        prompt="\n\n".join(filter(None, (record.instruction, record.input))),
        response=record.output,
        is_correct=None,
        metadata=PairMetadata(problem_id=record.task_id, difficulty=record.metadata.difficulty),
    )


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
    return (json.dumps(record.model_dump(), ensure_ascii=False) + "\n").encode()
