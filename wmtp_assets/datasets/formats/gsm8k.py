"""GSM8K: upstream row → record. Source: https://huggingface.co/datasets/openai/gsm8k."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from wmtp_assets.base.strict_json import short
from wmtp_assets.datasets.parquet import count_parquet_rows
from wmtp_assets.datasets.records import AlpacaRecord, Format, ProblemMetadata, row_by_row

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
        raise ValueError(f"answer: must end with one line '#### NUMBER', ends with {short(last)}")
    return found[1].replace(",", "")


class Gsm8kMetadata(ProblemMetadata):
    """What GSM8K says about a problem beside the Alpaca fields."""

    has_tests: bool = Field(description="always false: the final answer decides")
    final_answer: str = Field(
        pattern=r"^-?[0-9]+(\.[0-9]+)?$",
        description="the number that output ends with, without commas, as text: exact",
    )


class Gsm8kRecord(AlpacaRecord):
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


COLUMNS = {"question": "string", "answer": "string"}


def problem_ids(shards: Iterable[tuple[str, Path]]) -> tuple[list[list[str]], list[str]]:
    """``gsm8k/{split}/{row}`` for each row of each shard, as upstream has no names; the row is
    counted from 0 over the split. None is ever renamed.

    Args:
        shards: split and path of each parquet file, in order.
    """
    ids: list[list[str]] = []
    rows: Counter[str] = Counter()
    for split, path in shards:
        first, count = rows[split], count_parquet_rows(path)
        ids.append([f"gsm8k/{split}/{row}" for row in range(first, first + count)])
        rows[split] += count
    return ids, []


def convert_row(row: dict[str, Any]) -> Gsm8kRecord:
    """One upstream row, with :data:`COLUMNS` and its ``problem_id``, as a record.

    Raises:
        ValueError: if the answer does not end as :func:`final_answer` reads it.
        pydantic.ValidationError: if a field is not what the record allows.
    """
    return Gsm8kRecord(
        instruction=row["question"],
        input="",
        output=row["answer"],
        task_id=row["problem_id"],
        metadata=Gsm8kMetadata(
            source="gsm8k",
            difficulty="unknown",
            has_tests=False,
            final_answer=final_answer(row["answer"]),
        ),
    )


FORMAT = Format(Gsm8kRecord, COLUMNS, row_by_row(convert_row), problem_ids=problem_ids)
