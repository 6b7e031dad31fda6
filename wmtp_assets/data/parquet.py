"""Reading upstream parquet with the columns it must have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wmtp_assets.errors import InvalidInput


def read_rows(
    path: Path, columns: Mapping[str, str], batch_size: int = 256
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row number, from 0, and the wanted columns of each row; memory is bound by a batch.

    Args:
        columns: name → Arrow type as pyarrow prints it, such as ``string``.

    Raises:
        InvalidInput: naming file and column or row: not parquet, a column missing or of another
            type, a null.
        OSError: if the file cannot be opened.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            for name, expected in columns.items():
                if name not in schema.names:
                    raise InvalidInput(
                        f"{path}: no column {name!r}; it has {', '.join(schema.names)}"
                    )
                found = str(schema.field(name).type)
                if found.removeprefix("large_") != expected:
                    raise InvalidInput(f"{path}: column {name!r} is {found}, expected {expected}")
            number = 0
            for batch in file.iter_batches(batch_size=batch_size, columns=list(columns)):
                for row in batch.to_pylist():
                    for name, value in row.items():
                        if value is None:
                            raise InvalidInput(f"{path}: row {number}: {name!r} is null")
                    yield number, row
                    number += 1
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: not readable as parquet: {error}") from error
