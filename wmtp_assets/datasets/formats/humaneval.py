"""HumanEval: upstream row → record. Source: https://huggingface.co/datasets/openai/openai_humaneval."""

from __future__ import annotations

from typing import Any

from wmtp_assets.datasets.records import HumanEvalMetadata, HumanEvalRecord

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
