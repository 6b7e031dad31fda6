"""Reading upstream parquet with the columns it must have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.errors import InvalidInput

if TYPE_CHECKING:
    import pyarrow as pa


def read_rows(
    path: Path, columns: Mapping[str, str], batch_size: int = 256
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row number, from 0, and the wanted columns of each row; memory is bound by a batch.

    Args:
        columns: name → Arrow type as :func:`type_name` has it, such as ``list<string>``.

    Raises:
        InvalidInput: naming file and column or row: not parquet, or damaged; a column missing,
            there twice or of another type; a null; a text that is not UTF-8.
        OSError: if the file cannot be opened.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow, columns)
            number = 0
            for batch in file.iter_batches(batch_size=batch_size, columns=list(columns)):
                values = {name: _values(path, number, name, batch.column(name)) for name in columns}
                for row in zip(*values.values(), strict=True):
                    yield number, dict(zip(values, row, strict=True))
                    number += 1
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; pyarrow's own about damaged pages has no number
        text = " ".join(str(error).split())
        raise InvalidInput(f"{path}: not readable as parquet: {text}") from error


def _check_columns(path: Path, schema: pa.Schema, columns: Mapping[str, str]) -> None:
    for name, expected in columns.items():
        if schema.names.count(name) != 1:
            count = "twice the" if name in schema.names else "no"
            raise InvalidInput(f"{path}: {count} column {name!r}; it has {', '.join(schema.names)}")
        found = type_name(schema.field(name).type)
        if found != expected:
            raise InvalidInput(f"{path}: column {name!r} is {found}, expected {expected}")


def type_name(type_: pa.DataType) -> str:
    """An Arrow type as text: without the names that writers give to the items of lists, and without
    the width of offsets."""
    return re.sub(r"(?<=list<)(item|element): |large_", "", str(type_))


def _values(path: Path, first: int, name: str, column: pa.Array) -> list[Any]:
    """The values of a column in a batch that begins at row ``first``; none is null."""
    try:
        values = column.to_pylist()
    except UnicodeDecodeError as error:
        row = next(row for row, value in enumerate(column, first) if not _is_text(value))
        raise InvalidInput(f"{path}: row {row}: {name!r} is not UTF-8: {error.reason}") from error
    if None in values:
        raise InvalidInput(f"{path}: row {first + values.index(None)}: {name!r} is null")
    return values


def _is_text(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True
