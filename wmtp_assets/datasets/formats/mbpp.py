"""MBPP: upstream row → record. Source: https://huggingface.co/datasets/google-research-datasets/mbpp."""

from __future__ import annotations

from typing import Any

from wmtp_assets.datasets.records import MbppMetadata, MbppRecord

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
