"""Reading upstream parquet with the columns it must have."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.child import reading
from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.datasets.parquet_pages import check_pages

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet as pq

MAX_FOOTER = 64 << 20
"""Bytes; that of a twin grows with its row groups, 10 kB each."""

MAX_TEXT = 16 << 20
MAX_LIST = 20_000
"""In the footer: bytes of a text, and length of a list, such as that of the row groups."""


def read_rows(
    path: Path, columns: Mapping[str, str], batch_size: int = 256
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row number, from 0, and the wanted columns of each row; see :func:`read_batches`."""
    for first, batch in read_batches(path, columns, batch_size=batch_size):
        yield from enumerate(rows_of(path, first, batch), first)


def read_batches(
    path: Path,
    columns: Mapping[str, str],
    *,
    nullable: Collection[str] = (),
    batch_size: int = 256,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Number of the first row, from 0, and the wanted columns of some rows at a time.

    Memory is bound by a batch, and the compressed pages it comes from.

    Args:
        columns: name → Arrow type as :func:`type_name` has it, such as ``list<string>``.
        nullable: the columns that may hold nulls.
        batch_size: rows of a batch, at most.

    Raises:
        InvalidInput: naming file and column or row: not parquet, or damaged; a column missing,
            there twice or of another type; a null.
        OSError: if the file cannot be opened.
    """
    for first, batch in read_table(path, columns, batch_size, columns):
        for name in columns:
            column = batch.column(name)
            if column.null_count and name not in nullable:
                row = first + column.is_null().to_pylist().index(True)
                raise InvalidInput(f"{path}: row {row}: {name!r} is null")
        yield first, batch


def read_table(
    path: Path, columns: Iterable[str], batch_size: int, types: Mapping[str, str]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Number of the first row, from 0, and columns of some rows at a time.

    Args:
        columns: names; ``metadata.difficulty`` is a field of a struct.
        types: columns that must be there, with their types as :func:`type_name` has them.

    Raises:
        InvalidInput: naming the file: not parquet, or damaged; a column missing, there twice or of
            another type.
        OSError: if the file cannot be opened.
    """
    import pyarrow.parquet as pq

    with (
        _explained(path),
        pq.ParquetFile(
            path, metadata=read_footer(path), pre_buffer=False, buffer_size=1 << 20
        ) as file,
    ):
        _check_columns(path, file.schema_arrow, types)
        check_pages(path, file.metadata, {name.partition(".")[0] for name in columns})
        first = 0
        for batch in file.iter_batches(batch_size, columns=list(columns), use_threads=False):
            yield first, batch
            first += batch.num_rows


def count_parquet_rows(path: Path) -> int:
    """How many rows a parquet file has, as its footer says.

    Raises:
        InvalidInput: naming the file, if it is none.
        OSError: if it cannot be read.
    """
    with _explained(path):
        return read_footer(path).num_rows


def read_footer(path: Path) -> pq.FileMetaData:
    """The metadata of a parquet file, within limits.

    Raises:
        InvalidInput: if it is too long.
        OSError, pyarrow.ArrowException: if there is none, or it is damaged.
    """
    import pyarrow.parquet as pq

    with path.open("rb", buffering=0) as file:
        file.seek(max(path.stat().st_size - 8, 0))
        size = int.from_bytes(file.read(4), "little")
    if size > MAX_FOOTER:
        raise InvalidInput(f"{path}: not readable as parquet: a footer of {size} bytes")
    with pq.ParquetFile(
        path, thrift_string_size_limit=MAX_TEXT, thrift_container_size_limit=MAX_LIST
    ) as file:
        return file.metadata


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn pyarrow's errors about damaged files into one of ours; those of disk and memory
    pass."""
    import pyarrow as pa

    reading(path)
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # A lack of memory says nothing about the file; pyarrow's own OSError, about damaged pages,
        # has no number.
        if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
            raise
        text = " ".join(str(error).split())
        raise InvalidInput(f"{path}: not readable as parquet: {text}") from error


def rows_of(path: Path, first: int, batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """The rows of a batch that begins at row ``first``.

    Raises:
        InvalidInput: naming the row of a text that is not UTF-8.
    """
    names = batch.schema.names
    columns = [values_of(path, first, name, batch.column(name)) for name in names]
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def _check_columns(path: Path, schema: pa.Schema, columns: Mapping[str, str]) -> None:
    for name, expected in columns.items():
        if schema.names.count(name) != 1:
            count = "twice the" if name in schema.names else "no"
            raise InvalidInput(f"{path}: {count} column {name!r}; it has {', '.join(schema.names)}")
        found = type_name(schema.field(name).type)
        if found != expected:
            raise InvalidInput(f"{path}: column {name!r} is {found}, expected {expected}")


def type_name(type_: pa.DataType) -> str:
    """An Arrow type as text: without the names that writers give to the items of lists, whether
    those may be null, and the width of offsets."""
    return re.sub(r"(?<=list<)(item|element): |large_| not null", "", str(type_))


def values_of(
    path: Path, first: int, name: str, column: pa.Array, rows: Sequence[int] | None = None
) -> list[Any]:
    """The values of a column as Python objects.

    Args:
        first: row of the batch's first value.
        rows: of each value, counted from ``first``; None: value n stands in row n.

    Raises:
        InvalidInput: naming the row of a text that is not UTF-8.
    """
    try:
        return column.to_pylist()
    except UnicodeDecodeError as error:
        place = next(place for place, value in enumerate(column) if not _is_text(value))
        row = first + (place if rows is None else rows[place])
        raise InvalidInput(f"{path}: row {row}: {name!r} is not UTF-8: {error.reason}") from error


def _is_text(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True
