"""HumanEval: upstream row → record. Source: https://huggingface.co/datasets/openai/openai_humaneval."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from wmtp_assets.datasets.records import AlpacaRecord, Format, ProblemMetadata, row_by_row


class HumanEvalMetadata(ProblemMetadata):
    """What HumanEval says about a problem beside the Alpaca fields."""

    entry_point: str = Field(min_length=1, description="name of the function under test")
    test: str = Field(min_length=1, description="Python source that defines check(candidate)")


class HumanEvalRecord(AlpacaRecord):
    """One HumanEval problem in the Alpaca format."""

    instruction: str = Field(min_length=1, description="upstream's prompt: signature and docstring")
    input: str = Field(max_length=0, description="always empty")
    output: str = Field(min_length=1, description="upstream's canonical_solution")
    task_id: str = Field(pattern=r"^HumanEval/[0-9]+$", description="as upstream")
    metadata: HumanEvalMetadata


COLUMNS = {
    "task_id": "string",
    "prompt": "string",
    "canonical_solution": "string",
    "test": "string",
    "entry_point": "string",
}


def convert_row(row: dict[str, Any]) -> HumanEvalRecord:
    """One upstream row, with :data:`COLUMNS`, as a record.

    Raises:
        pydantic.ValidationError: if a field is not what the record allows.
    """
    return HumanEvalRecord(
        instruction=row["prompt"],
        input="",
        output=row["canonical_solution"],
        task_id=row["task_id"],
        metadata=HumanEvalMetadata(
            source="humaneval",
            difficulty="unknown",
            has_tests=bool(row["test"]),
            entry_point=row["entry_point"],
            test=row["test"],
        ),
    )


FORMAT = Format(HumanEvalRecord, COLUMNS, row_by_row(convert_row))
