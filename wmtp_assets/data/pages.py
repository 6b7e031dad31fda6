"""What the pages of a parquet file would take in memory, before any of them is read.

A page of a few bytes may hold gigabytes of zeros, and the footer may not say so: what counts is the
header that stands before each page. A value may stand in a dictionary once, and in a billion rows.

Format: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift,
written as https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.errors import InvalidInput

if TYPE_CHECKING:
    from pyarrow import parquet as pq

LARGE = 64 << 20
"""Bytes of a column in a row group that are not looked at twice."""

MAX_RATIO = 500
"""How many times larger than in the file a large one may be; text gets 50 times smaller at most."""

_HEADERS = (512, 1 << 20)
"""Bytes in which a page's header is looked for: the first do for most."""

_SIZE, _PACKED, _DATA, _DICTIONARY, _DATA_V2 = 2, 3, 5, 7, 8
"""Fields of a page's header."""


def check_pages(path: Path, metadata: pq.FileMetaData, columns: Collection[str]) -> None:
    """Require that no column, by its first name, is far larger in memory than in the file.

    Raises:
        InvalidInput: naming file, row group and column.
        OSError: if the file cannot be read.
    """
    if metadata.num_row_groups > max(metadata.num_rows, 1):
        raise InvalidInput(
            f"{path}: {metadata.num_row_groups} row groups for {metadata.num_rows} rows"
        )
    names = [metadata.schema.column(n).path for n in range(metadata.num_columns)]
    wanted = [n for n, name in enumerate(names) if name.partition(".")[0] in columns]
    with path.open("rb", buffering=0) as file:
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for number in wanted:
                chunk = row_group.column(number)
                packed = chunk.total_compressed_size
                try:
                    size = _chunk_size(file.fileno(), chunk)
                except (IndexError, ValueError) as error:
                    raise InvalidInput(
                        f"{path}: not readable as parquet: row group {group}: "
                        f"{names[number]!r}: {error}"
                    ) from error
                if size > LARGE and size > MAX_RATIO * packed:
                    raise InvalidInput(
                        f"{path}: row group {group}: {names[number]!r} has {packed} bytes in the "
                        f"file, and would have {size} in memory"
                    )


def _chunk_size(file: int, chunk: pq.ColumnChunkMetaData) -> int:
    """Bytes of a column of a row group in memory, about; the most that anything says of it."""
    if not chunk.num_values:
        return chunk.total_uncompressed_size
    begin = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None:
        begin = min(begin, chunk.dictionary_page_offset)
    end = begin + chunk.total_compressed_size
    size = values = 0
    width = 8.0
    while begin < end:
        header, length = _read_header(file, begin)
        if header[_SIZE] < 0 or header[_PACKED] < 0:
            raise ValueError("a negative size")
        begin += length + header[_PACKED]
        size += header[_SIZE]
        if _DICTIONARY in header:
            width = max(width, header[_SIZE] / max(header[_DICTIONARY].get(1, 0), 1))
        values += header.get(_DATA, header.get(_DATA_V2, {})).get(1, 0)
    return max(size, chunk.total_uncompressed_size, int(values * width))


def _read_header(file: int, begin: int) -> tuple[dict[int, Any], int]:
    """The header of the page at ``begin``, and how many bytes it has."""
    for count in _HEADERS:
        data = os.pread(file, count, begin)
        try:
            return _read_struct(data, 0)
        except IndexError:
            if len(data) < count:
                raise
    raise ValueError("its header is too long")


def _read_struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """A thrift struct of numbers, texts, flags and structs, without the texts; where it ends."""
    fields: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _read_number(data, at)
        kind = head & 15
        if kind == 12:
            fields[number], at = _read_struct(data, at)
        elif kind in (4, 5, 6):
            fields[number], at = _read_number(data, at)
        elif kind == 8:
            size, at = _read_varint(data, at)
            at += size
        elif kind not in (1, 2):  # flags have no bytes
            raise ValueError(f"a field of type {kind}")
    return fields, at + 1


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] > 127 and shift < 64:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
    return value | data[at] << shift, at + 1


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """A number, which alternates between signs."""
    value, at = _read_varint(data, at)
    return (value >> 1) ^ -(value & 1), at
