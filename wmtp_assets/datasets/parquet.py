"""Reading upstream parquet with the columns it must have, and within limits.

A page of a few bytes may hold gigabytes of zeros, and the footer may not say so: what counts is the
header before each page. A value may be in a dictionary once, and in a billion rows;
where the dictionary is full, writers continue with pages that hold the values themselves. And a
value may be the beginning of the one before it (DELTA_BYTE_ARRAY), of which the file has the length
only.

Format: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift,
written as https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.child import reading
from wmtp_assets.base.errors import InvalidInput

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet as pq

MAX_FOOTER = 64 << 20
"""Bytes; that of a twin grows with its row groups, 10 kB each."""

MAX_TEXT = 16 << 20
MAX_LIST = 20_000
"""In the footer: bytes of a text, and length of a list, such as that of the row groups."""

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
"""Encodings of values that are in the dictionary: PLAIN_DICTIONARY, RLE_DICTIONARY."""

_FROM_PREFIXES = 7
"""Encoding of values that begin as the one before them: DELTA_BYTE_ARRAY."""

_TEXT = "BYTE_ARRAY"
"""Physical type of values that have any length."""


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
        path.open("rb") as source,
        pq.ParquetFile(
            source, metadata=read_footer(path), pre_buffer=False, buffer_size=1 << 20
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
    with (
        path.open("rb") as source,
        pq.ParquetFile(
            source, thrift_string_size_limit=MAX_TEXT, thrift_container_size_limit=MAX_LIST
        ) as file,
    ):
        return file.metadata


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn pyarrow's errors about damaged files into our own; those of disk and memory
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
        rows: of each value, counted from ``first``; None: value n is in row n.

    Raises:
        InvalidInput: naming the row of a text that is not UTF-8.
    """
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        for place, value in enumerate(column):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                row = first + (place if rows is None else rows[place])
                raise InvalidInput(
                    f"{path}: row {row}: {name!r} is not UTF-8: {error.reason}"
                ) from error
        raise


# -- pages -----------------------------------------------------------------------------------------


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
            for number in wanted:
                chunk = metadata.row_group(group).column(number)
                packed = chunk.total_compressed_size
                limit = max(LARGE, MAX_RATIO * packed)
                levels = metadata.schema.column(number)
                try:
                    size, is_exact = _chunk_size(file.fileno(), chunk, levels, limit)
                    if not is_exact and size > limit:
                        size = _size_from_dictionary(path, metadata, group, names[number], limit)
                except (ValueError, struct.error) as error:
                    raise InvalidInput(
                        f"{path}: not readable as parquet: row group {group}: "
                        f"{names[number]!r}: {error}"
                    ) from error
                if size > limit:
                    raise InvalidInput(
                        f"{path}: row group {group}: {names[number]!r} has {packed} bytes in the "
                        f"file, and would have {size} in memory"
                    )


def _chunk_size(
    file: int, chunk: pq.ColumnChunkMetaData, levels: pq.ColumnSchema, limit: int
) -> tuple[int, bool]:
    """Bytes of a column of a row group in memory; the most that anything says of it.

    Returns:
        The size, and whether it is so: of values from a dictionary it is no more than that.
    """
    if not chunk.num_values:
        return chunk.total_uncompressed_size, True
    begin = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    if begin < 0:
        raise ValueError("a negative offset")
    end = begin + chunk.total_compressed_size
    size = coded = others = 0
    width = 8.0
    while begin < end and size <= limit:
        header, length = _read_header(file, begin)
        kind, of_page, in_file = (_number(header, field) for field in (1, 2, 3))
        begin += length + in_file
        size += of_page
        if kind not in _DETAILS:
            continue
        details = header.get(_DETAILS[kind])
        if not isinstance(details, dict):
            raise ValueError(f"a page's header has no field {_DETAILS[kind]}")
        values = _number(details, 1)
        page = _Page(file, begin - in_file, in_file, of_page, chunk.compression)
        if kind == _DICTIONARY:
            is_text = chunk.physical_type == _TEXT and size <= limit
            width = max(width, _longest(page.read()) if is_text else of_page / max(values, 1))
        elif (encoding := _number(details, _ENCODING[kind])) in _FROM_DICTIONARY:
            coded += values
        elif encoding == _FROM_PREFIXES and size <= limit:
            others += values
            size += _sum_of_prefixes(page.read_values(kind, details, levels), limit)
        else:
            others += values
    known = max(size, chunk.total_uncompressed_size)
    most = int(coded * width) + others * 8
    return max(known, most), known > limit or not coded or chunk.physical_type != _TEXT


@dataclass(frozen=True)
class _Page:
    """Where a page lies, behind its header, and how many bytes it has when it is unpacked."""

    file: int
    begin: int
    in_file: int
    size: int
    codec: str

    def read(self, before: int = 0, *, is_packed: bool = True) -> bytes:
        """What it holds.

        Args:
            before: bytes that are not packed, at its begin; left out.

        Raises:
            ValueError: if it cannot be unpacked.
        """
        import pyarrow as pa

        data = os.pread(self.file, self.in_file, self.begin)[before:]
        if self.codec == "UNCOMPRESSED" or not is_packed:
            return data
        try:
            codec = pa.Codec(_CODECS.get(self.codec, self.codec.lower()))
            return codec.decompress(data, max(self.size - before, 0), asbytes=True)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"a page that cannot be unpacked: {error}") from error

    def read_values(self, kind: int, details: dict[int, Any], levels: pq.ColumnSchema) -> bytes:
        """What it holds behind the levels, which say where values are null or in lists."""
        if kind == _DATA_V2:
            before = _number(details, 5) + _number(details, 6)
            return self.read(before, is_packed=details.get(-7, True))
        data = self.read()
        for level in (levels.max_repetition_level, levels.max_definition_level):
            if level:
                data = data[4 + struct.unpack_from("<I", data)[0] :]
        return data


_CODECS = {"LZ4": "lz4_raw"}
"""What pyarrow calls a codec, where that is not its name in the file."""


def _longest(dictionary: bytes) -> int:
    """Bytes of the longest value of a dictionary of texts."""
    longest = at = 0
    end, unpack = len(dictionary), struct.Struct("<I").unpack_from
    while at < end:
        (size,) = unpack(dictionary, at)
        if size > longest:
            longest = size
        at += 4 + size
    return longest + 4


def _sum_of_prefixes(data: bytes, limit: int) -> int:
    """Bytes that the values of a page have in common with the one before each.

    They are counted as DELTA_BINARY_PACKED has them:
    https://github.com/apache/parquet-format/blob/master/Encodings.md.

    Raises:
        ValueError: if there are none, or one is not a length.
    """
    import numpy as np

    stream = BytesIO(data)
    try:
        block, parts, left = (_read_varint(stream) for _ in range(3))
        last = _read_number(stream)
        if not 0 < parts <= block or block % parts or block // parts % 8:
            raise ValueError("a page whose lengths are in no blocks")
        count, total, left = block // parts, last, left - 1
        while left > 0 and total <= limit:
            step = (_read_number(stream) + (1 << 31)) % (1 << 32) - (1 << 31)
            for width in stream.read(parts):
                here = min(count, left)
                packed = stream.read(count * width // 8)
                if width > 32 or (width and len(packed) < here * width // 8):
                    raise ValueError("a page whose lengths are cut off")
                if here <= 0:
                    break
                if width == 0:  # one step for all of them, however many
                    total += here * last + step * here * (here + 1) // 2
                    ends = (last + step, last := last + step * here)
                else:
                    bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
                    bits = bits[: here * width].reshape(here, width)
                    steps = bits @ (1 << np.arange(width, dtype=np.int64)) + step
                    lengths = last + np.cumsum(steps)
                    total += int(lengths.sum())
                    ends = int(lengths.min()), int(lengths.max())
                    last = int(lengths[-1])
                if min(ends) < 0 or max(ends) >= 1 << 31:
                    raise ValueError("a page with a length that is none")
                left -= here
    except IndexError:
        raise ValueError("a page whose lengths are cut off") from None
    return total


def _size_from_dictionary(
    path: Path, metadata: pq.FileMetaData, group: int, column: str, limit: int
) -> int:
    """Bytes of the texts of a column of a row group, each counted as often as it is in it, or
    more than ``limit``. The texts themselves are read once, as they are in the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import compute

    pc: Any = compute  # its functions are made when it is imported
    size = 0
    with (
        path.open("rb") as source,
        pq.ParquetFile(
            source, metadata=metadata, read_dictionary=[column], pre_buffer=False
        ) as file,
    ):
        for batch in file.iter_batches(
            _MANY, row_groups=[group], columns=[column], use_threads=False
        ):
            values: Any = batch.column(0)
            while not pa.types.is_dictionary(values.type):
                if pa.types.is_struct(values.type):
                    values = values.field(0)
                elif pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
                    values = values.flatten()
                else:
                    raise ValueError("its values are in no dictionary")
            lengths = pc.binary_length(values.dictionary).cast("int64")
            size += pc.sum(lengths.take(values.indices)).as_py() or 0
            if size > limit:
                break
    return size


_MANY = 4096
"""Rows that are counted at a time."""


def _number(fields: dict[int, Any], field: int) -> int:
    """A field that must be there; readers cut off what has more than 32 bits."""
    value = fields.get(field)
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError(f"a page's header has no count or size in field {field}")
    return value


def _read_header(file: int, begin: int) -> tuple[dict[int, Any], int]:
    """The header of the page at ``begin``, and how many bytes it has.

    Raises:
        ValueError: whatever else is there.
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

    A flag is under its number with a minus. A duplicate field is refused: readers skip
    those of a wrong type, and would see the other one.

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
        elif kind in (1, 2):  # flags have no bytes
            fields[-number] = kind == 1
        else:
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
