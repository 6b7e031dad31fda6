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
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Page:
    """What the header of a page says.

    Attributes:
        type: the reader too goes by it, whatever other details there are.
        size: bytes in memory.
        packed: bytes in the file, after the header.
        values: how many, with nulls.
        is_coded: its values stand in the dictionary.
    """

    type: int
    size: int
    packed: int
    values: int
    is_coded: bool


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
        page, begin = _read_page(file, begin)
        begin += page.packed
        size += page.size
        if page.type == _DICTIONARY:
            width = max(width, page.size / max(page.values, 1))
        elif page.is_coded:
            coded += page.values
        else:
            others += page.values
    return max(size, chunk.total_uncompressed_size, int(coded * width) + others * 8)


def _read_page(file: int, begin: int) -> tuple[_Page, int]:
    """The header of the page at ``begin``, and where it ends.

    Raises:
        ValueError: whatever else stands there.
    """
    header, length = _read_header(file, begin)
    kind = _number(header, 1)
    details: dict[int, Any] = {}
    if kind in _DETAILS:
        found = header.get(_DETAILS[kind])
        if not isinstance(found, dict):
            raise ValueError(f"a page's header has no field {_DETAILS[kind]}")
        details = found
    page = _Page(
        type=kind,
        size=_number(header, 2),
        packed=_number(header, 3),
        values=_number(details, 1) if kind in _DETAILS else 0,
        is_coded=kind in _ENCODING and _number(details, _ENCODING[kind]) in _FROM_DICTIONARY,
    )
    return page, begin + length


def _number(fields: dict[int, Any], field: int) -> int:
    """A field that must be there; readers cut off what has more than 32 bits."""
    value = fields.get(field)
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError(f"a page's header has no count or size in field {field}")
    return value


def _read_header(file: int, begin: int) -> tuple[dict[int, Any], int]:
    """The header of the page at ``begin``, and how many bytes it has."""
    for count in _HEADERS:
        data = os.pread(file, count, begin)
        try:
            return _read_struct(data, 0, _MAX_DEPTH)
        except IndexError:
            if len(data) < count:
                raise ValueError("a page's header is cut off") from None
    raise ValueError("a page's header is too long")


def _read_struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """A thrift struct of numbers, texts, flags and structs, without the texts; where it ends.

    A field that stands twice is refused: readers skip those of a wrong type, and would see the
    other one.
    """
    if not depth:
        raise ValueError("a page's header is nested too deeply")
    fields: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _read_number(data, at)
        if number in fields or not 0 < number < 1 << 15:
            raise ValueError(f"a page's header has field {number} twice, or cannot have it")
        kind = head & 15
        if kind == 12:
            fields[number], at = _read_struct(data, at, depth - 1)
        elif kind in (4, 5, 6):
            fields[number], at = _read_number(data, at)
        elif kind == 8:
            size, at = _read_varint(data, at)
            at += size
        elif kind not in (1, 2):  # flags have no bytes
            raise ValueError(f"a page's header has a field of type {kind}")
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
