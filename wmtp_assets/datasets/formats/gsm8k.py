"""GSM8K: upstream row → record. Source: https://huggingface.co/datasets/openai/gsm8k."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.datasets.parquet import count_parquet_rows, rows_of
from wmtp_assets.datasets.problem import Options, Problem, naming
from wmtp_assets.datasets.records import Gsm8kMetadata, Gsm8kRecord, final_answer

if TYPE_CHECKING:
    import pyarrow as pa

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


def convert_batch(
    path: Path, first: int, batch: pa.RecordBatch, options: Options
) -> Iterator[Problem]:
    """Rows of a shard, from number ``first`` on, as problems with one solution each.

    Raises:
        InvalidInput: naming file, row and field.
    """
    for number, row in enumerate(rows_of(path, first, batch), first):
        place = f"{path}: row {number}"
        try:
            answer = final_answer(row["answer"])
        except ValueError as error:
            raise InvalidInput(f"{place}: answer: {error}") from error
        with naming(place):
            record = convert_row(row, options.problem_ids[number], answer)
        yield Problem(number, record.task_id, [record])


def convert_row(row: dict[str, Any], task_id: str, answer: str) -> Gsm8kRecord:
    """One upstream row, with :data:`COLUMNS`, as a record.

    Args:
        answer: the final answer that ``row["answer"]`` ends with.

    Raises:
        pydantic.ValidationError: if a field is not what the record allows.
    """
    return Gsm8kRecord(
        instruction=row["question"],
        input="",
        output=row["answer"],
        task_id=task_id,
        metadata=Gsm8kMetadata(
            source="gsm8k", difficulty="unknown", has_tests=False, final_answer=answer
        ),
    )
