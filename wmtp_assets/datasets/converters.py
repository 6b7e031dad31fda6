"""Which converter a dataset has, and what it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.datasets.formats import codecontests as code_contests
from wmtp_assets.datasets.formats import gsm8k, humaneval, mbpp
from wmtp_assets.datasets.parquet import read_batches, rows_of
from wmtp_assets.datasets.problem import Options, Problem, naming
from wmtp_assets.datasets.records import AlpacaRecord

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Converter:
    """How one dataset's upstream rows become records.

    Attributes:
        columns: what is read, name → Arrow type.
        convert_batch: path, number of the first row, and rows → problems.
        problem_ids: names the rows of all shards; None: each row names itself.
        nullable: columns that may hold nulls.
        batch: rows that are read at a time.
    """

    columns: Mapping[str, str]
    convert_batch: Callable[[Path, int, pa.RecordBatch, Options], Iterator[Problem]]
    problem_ids: (
        Callable[[Iterable[tuple[str, Path]]], tuple[list[list[str]], list[str]]] | None
    ) = None
    nullable: tuple[str, ...] = ()
    batch: int = 256

    def problems(self, path: Path, options: Options) -> Iterator[Problem]:
        """The rows of one upstream parquet file as problems.

        Raises:
            InvalidInput: naming file, row and field.
            OSError: if it cannot be read.
        """
        batches = read_batches(path, self.columns, nullable=self.nullable, batch_size=self.batch)
        for first, batch in batches:
            yield from self.convert_batch(path, first, batch, options)


def _row_by_row(
    convert_row: Callable[[dict[str, Any]], AlpacaRecord],
) -> Callable[[Path, int, pa.RecordBatch, Options], Iterator[Problem]]:
    """A converter of batches from one whose rows are a problem with one solution each."""

    def convert_batch(
        path: Path, first: int, batch: pa.RecordBatch, options: Options
    ) -> Iterator[Problem]:
        for number, row in enumerate(rows_of(path, first, batch), first):
            with naming(f"{path}: row {number}"):
                record = convert_row(row)
            yield Problem(number, record.task_id, [record])

    return convert_batch


CONVERTERS = {
    "humaneval": Converter(humaneval.COLUMNS, _row_by_row(humaneval.convert_row)),
    "mbpp": Converter(mbpp.COLUMNS, _row_by_row(mbpp.convert_row)),
    "gsm8k": Converter(gsm8k.COLUMNS, gsm8k.convert_batch, gsm8k.problem_ids),
    "codecontests": Converter(
        code_contests.COLUMNS,
        code_contests.convert_batch,
        code_contests.problem_ids,
        code_contests.NULLABLE,
        code_contests.BATCH,
    ),
}
