"""The Parquet twin of a processed split: the same rows, in the same order, as columns.

``index/{split}.parquet``: every field of the record under its own name, then

- ``tokens_instruction``, ``tokens_input``, ``tokens_output`` (int32);
- ``problem_id`` (string); ``language`` (string, null where upstream does not say);
- ``is_duplicate``: an earlier row of the problem has the same output and the same label;
- ``is_contradicted``: a row of the problem has the same output and the other label.

Compressed with zstd; a row group has :data:`ROW_GROUP` rows.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.datasets.features import arrow_schema
from wmtp_assets.datasets.parquet import read_table, type_name
from wmtp_assets.datasets.records import Record, problem_of
from wmtp_assets.storage.files import HashedFile

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 2048
MAX_BATCH = 256 << 20
"""Bytes that 512 rows may take: a small file can be one of gigabytes."""

TEXTS = ("instruction", "input", "output")
TOKENS = tuple(f"tokens_{text}" for text in TEXTS)
DERIVED = ("problem_id", "language", "is_duplicate", "is_contradicted")
"""The last columns, which follow from those of the record."""


def twin_file(split: str) -> str:
    """Name of a split's twin in the processed artifact."""
    return f"index/{split}.parquet"


def twin_schema(record: type[Record]) -> pa.Schema:
    """The columns of the twin of a dataset of such records."""
    import pyarrow as pa

    return pa.schema(
        [
            *arrow_schema(record.model_json_schema()),
            *(pa.field(name, pa.int32(), nullable=False) for name in TOKENS),
            pa.field("problem_id", pa.string(), nullable=False),
            pa.field("language", pa.string()),
            pa.field("is_duplicate", pa.bool_(), nullable=False),
            pa.field("is_contradicted", pa.bool_(), nullable=False),
        ]
    )


def twin_rows(
    rows: Sequence[Mapping[str, Any]], tokens: Sequence[Sequence[int]]
) -> Iterator[dict[str, Any]]:
    """The rows of the twin for all rows of one problem.

    Args:
        rows: fields of the records.
        tokens: of instruction, input and output of each row.
    """
    for row, counts, values in zip(rows, tokens, derive(rows), strict=True):
        yield {
            **row,
            **dict(zip(TOKENS, counts, strict=True)),
            **dict(zip(DERIVED, values, strict=True)),
        }


def derive(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str | None, bool, bool]]:
    """The values of :data:`DERIVED` for all rows of one problem."""
    outputs = [(row["output"], row.get("is_correct")) for row in rows]
    labels = Counter(output for output, _ in {*outputs})
    seen: set[tuple[str, bool | None]] = set()
    for row, output in zip(rows, outputs, strict=True):
        yield (
            problem_of(row),
            row["metadata"].get("language"),
            output in seen,
            labels[output[0]] > 1,
        )
        seen.add(output)


class _Sink(io.RawIOBase):
    """A hashed file as pyarrow writes to one; nothing is written any more when ``is_off``."""

    is_off = False

    def __init__(self, file: HashedFile) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return len(data) if self.is_off else self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()


class TwinWriter:
    """Writes a twin, in row groups that do not depend on how the rows arrive."""

    def __init__(self, file: HashedFile, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._waiting = schema.empty_table()
        self._sink = _Sink(file)
        self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        import pyarrow as pa

        self._waiting = pa.concat_tables([self._waiting, pa.Table.from_batches([batch])])
        self._write_groups(ROW_GROUP)

    def close(self) -> None:
        self._write_groups(1)
        self._writer.close()

    def abandon(self) -> None:
        """Write no more: pyarrow's writer would otherwise end the file when it is collected."""
        self._sink.is_off = True
        self._writer.close()

    def _write_groups(self, least: int) -> None:
        """Write row groups, of ``least`` rows or more, of what waits."""
        while self._waiting.num_rows >= least:
            group = self._waiting.slice(0, ROW_GROUP).combine_chunks()
            self._writer.write_table(group, row_group_size=ROW_GROUP)
            self._waiting = self._waiting.slice(ROW_GROUP)


def read_twin(
    path: Path, record: type[Record], columns: Sequence[str], batch_size: int = 512
) -> Iterator[pa.RecordBatch]:
    """Columns of the twin of a dataset of such records, some rows at a time.

    Args:
        columns: names; ``metadata.difficulty`` is a field of a struct.

    Raises:
        InvalidInput: naming the file: not parquet, damaged, or with other columns; a null where
            there is none, or a text that is not UTF-8.
        OSError: if it cannot be read.
    """
    import pyarrow as pa

    types = {item.name: type_name(item.type) for item in twin_schema(record)}
    for first, batch in read_table(path, columns, batch_size, types):
        if batch.nbytes > MAX_BATCH:
            raise InvalidInput(
                f"{path}: rows from {first}: {batch.num_rows} rows take {batch.nbytes} bytes, more "
                "than any problem's do"
            )
        try:
            batch.validate(full=True)
        except pa.ArrowInvalid as error:
            raise InvalidInput(f"{path}: rows from {first}: {error}") from error
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name != "language" and _has_null(column):
                raise InvalidInput(f"{path}: rows from {first}: {name!r} holds a null")
        yield batch


def _has_null(column: pa.Array) -> bool:
    import pyarrow as pa

    return (
        column.null_count > 0
        or (pa.types.is_struct(column.type) and any(map(_has_null, column.flatten())))
        or (pa.types.is_list(column.type) and _has_null(column.flatten()))
    )
