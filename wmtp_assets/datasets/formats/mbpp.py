"""MBPP: upstream row → record. Source: https://huggingface.co/datasets/google-research-datasets/mbpp."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from wmtp_assets.datasets.records import AlpacaRecord, Format, ProblemMetadata, row_by_row


class MbppMetadata(ProblemMetadata):
    """What MBPP says about a problem beside the Alpaca fields."""

    test_list: list[str] = Field(min_length=1, description="assertions")
    test_setup_code: str = Field(description="Python source to run before them; may be empty")
    challenge_test_list: list[str] = Field(description="harder assertions; may be empty")


class MbppRecord(AlpacaRecord):
    """One MBPP problem in the Alpaca format."""

    instruction: str = Field(min_length=1, description="upstream's text")
    input: str = Field(max_length=0, description="always empty")
    output: str = Field(min_length=1, description="upstream's code, its line breaks included")
    task_id: str = Field(pattern=r"^[0-9]+$", description="upstream's number")
    metadata: MbppMetadata


COLUMNS = {
    "task_id": "int32",
    "text": "string",
    "code": "string",
    "test_list": "list<string>",
    "test_setup_code": "string",
    "challenge_test_list": "list<string>",
}


def convert_row(row: dict[str, Any]) -> MbppRecord:
    """One upstream row of the config ``full``, with :data:`COLUMNS`, as a record.

    Raises:
        pydantic.ValidationError: if a field is not what the record allows.
    """
    return MbppRecord(
        instruction=row["text"],
        input="",
        output=row["code"],
        task_id=str(row["task_id"]),
        metadata=MbppMetadata(
            source="mbpp",
            difficulty="unknown",
            has_tests=bool(row["test_list"]),
            test_list=row["test_list"],
            test_setup_code=row["test_setup_code"],
            challenge_test_list=row["challenge_test_list"],
        ),
    )


FORMAT = Format(MbppRecord, COLUMNS, row_by_row(convert_row))
