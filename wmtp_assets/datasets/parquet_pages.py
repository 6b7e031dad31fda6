"""What the pages of a parquet file would take in memory, before any of them is read.

A page of a few bytes may hold gigabytes of zeros, and the footer may not say so: what counts is the
header that stands before each page. A value may stand in a dictionary once, and in a billion rows;
where the dictionary is full, writers go on with pages that hold the values themselves.

Format: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift,
written as https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.errors import InvalidInput

if TYPE_CHECKING:
    from pyarrow import parquet as pq

LARGE = 64 << 20
"""Bytes of a column in a row group that are not looked at twice."""

MAX_RATIO = 500
"""How many times larger than in the file a large one may be; text gets 50 times smaller at most."""

_HEADERS = (512, 1 << 20)
"""Bytes in which a page's header is looked for: the first do for most."""

_MAX_DEPTH = 8
"""Structs in structs of a header; the format has 3."""

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
"""Types of pages."""

_DETAILS = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
"""Type of a page → field of its header with what only pages of this type have."""

_ENCODING = {_DATA: 2, _DATA_V2: 4}
"""Type of a page → field of those details that says how its values are encoded."""

_FROM_DICTIONARY = (2, 8)
"""Encodings of values that stand in the dictionary: PLAIN_DICTIONARY, RLE_DICTIONARY."""


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
                except ValueError as error:
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
    begin = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    if begin < 0:
        raise ValueError("a negative offset")
    end = begin + chunk.total_compressed_size
    size = coded = others = 0
    width = 8.0
    while begin < end:
        header, length = _read_header(file, begin)
        kind, of_page = _number(header, 1), _number(header, 2)
        begin += length + _number(header, 3)
        size += of_page
        if kind not in _DETAILS:
            continue
        details = header.get(_DETAILS[kind])
        if not isinstance(details, dict):
            raise ValueError(f"a page's header has no field {_DETAILS[kind]}")
        values = _number(details, 1)
        if kind == _DICTIONARY:
            width = max(width, of_page / max(values, 1))
        elif _number(details, _ENCODING[kind]) in _FROM_DICTIONARY:
            coded += values
        else:
            others += values
    return max(size, chunk.total_uncompressed_size, int(coded * width) + others * 8)


def _number(fields: dict[int, Any], field: int) -> int:
    """A field that must be there; readers cut off what has more than 32 bits."""
    value = fields.get(field)
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError(f"a page's header has no count or size in field {field}")
    return value


def _read_header(file: int, begin: int) -> tuple[dict[int, Any], int]:
    """The header of the page at ``begin``, and how many bytes it has.

    Raises:
        ValueError: whatever else stands there.
    """
    for count in _HEADERS:
        data = BytesIO(os.pread(file, count, begin))
        try:
            return _read_struct(data, _MAX_DEPTH), data.tell()
        except IndexError:
            if data.getbuffer().nbytes < count:
                raise ValueError("a page's header is cut off") from None
    raise ValueError("a page's header is too long")


def _read_struct(data: BytesIO, depth: int) -> dict[int, Any]:
    """A thrift struct of numbers, texts, flags and structs, without the texts.

    A field that stands twice is refused: readers skip those of a wrong type, and would see the
    other one.

    Raises:
        IndexError: if the data ends in it.
        ValueError: if it is none, or not one of a page's header.
    """
    if not depth:
        raise ValueError("a page's header is nested too deeply")
    fields: dict[int, Any] = {}
    number = 0
    while head := data.read(1)[0]:
        number = number + (head >> 4) if head >> 4 else _read_number(data)
        if number in fields or not 0 < number < 1 << 15:
            raise ValueError(f"a page's header has field {number} twice, or cannot have it")
        kind = head & 15
        if kind == 12:
            fields[number] = _read_struct(data, depth - 1)
        elif kind in (4, 5, 6):
            fields[number] = _read_number(data)
        elif kind == 8:
            data.seek(min(_read_varint(data), _HEADERS[-1]), os.SEEK_CUR)
        elif kind not in (1, 2):  # flags have no bytes
            raise ValueError(f"a page's header has a field of type {kind}")
    return fields


def _read_varint(data: BytesIO) -> int:
    value = shift = 0
    while (byte := data.read(1)[0]) > 127 and shift < 64:
        value |= (byte & 127) << shift
        shift += 7
    return value | byte << shift


def _read_number(data: BytesIO) -> int:
    """A number, which alternates between signs."""
    value = _read_varint(data)
    return (value >> 1) ^ -(value & 1)
