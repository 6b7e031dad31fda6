"""The record that a processed dataset consists of, and the schema that describes it."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, Field

from wmtp_assets.manifest import Document


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


AlpacaRecord = HumanEvalRecord
RECORD_OF_CONVERTER: dict[str, type[AlpacaRecord]] = {"humaneval": HumanEvalRecord}


def schema_document(converter: str, repository: str, revision: str) -> Document:
    """``schema.json``: the JSON Schema of a converter's record, and where the rows come from."""
    schema = RECORD_OF_CONVERTER[converter].model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "required_fields": schema["required"],
        "format": "alpaca",
        "encoding": "JSON Lines, UTF-8, one record per line",
        "source": {"repository": repository, "revision": revision},
    }


def render_line(record: AlpacaRecord) -> bytes:
    """A record as a line of JSONL: UTF-8, fields in the record's order, ends with a newline."""
    return (json.dumps(record.model_dump(), ensure_ascii=False) + "\n").encode()
