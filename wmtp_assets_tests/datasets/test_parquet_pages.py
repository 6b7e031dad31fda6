"""The headers of parquet pages: whatever stands there, accepted or refused in one way."""

from __future__ import annotations

import random
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wmtp_assets.base.child import ChildDied, call
from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.datasets import parquet as pages
from wmtp_assets.datasets.parquet import check_pages, read_table
from wmtp_assets_tests.quick import quick, thinned

TYPES = {"n": "int64", "tests": "list<string>"}
TABLE = pa.table({"n": [1, 2, 3] * 20, "tests": [["a", "b"], [], ["b" * 50]] * 20})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all examples of a property test."""
    return tmp_path_factory.mktemp("pages") / "x.parquet"


def read(path: Path, say: Say = silent) -> int:
    """How many rows a file has that was read whole."""
    return sum(batch.num_rows for _, batch in read_table(path, TYPES, 7, TYPES))


def number(value: int) -> bytes:
    """A number as the format has it: signs alternate, seven bits a byte."""
    value = value << 1 if value >= 0 else ~(value << 1)
    data = b""
    while value > 127:
        data += bytes([value & 127 | 128])
        value >>= 7
    return data + bytes([value])


def struct(*fields: tuple[int, Any]) -> bytes:
    """Fields of numbers, and of bytes that are a struct already, with their own numbers."""
    return (
        b"".join(
            (b"\x0c" if isinstance(value, bytes) else b"\x05")
            + number(field)
            + (value if isinstance(value, bytes) else number(value))
            for field, value in fields
        )
        + b"\0"
    )


DETAILS = struct((1, 60), (2, 0), (3, 3), (4, 3))


def check_header(path: Path, header: bytes) -> None:
    """Check the pages of a file whose only column has only this page."""
    table = pa.table({"n": [1] * 60})
    pq.write_table(table, path, use_dictionary=False, compression="none", write_statistics=False)
    metadata = pq.read_metadata(path)
    chunk = metadata.row_group(0).column(0)
    begin, size = chunk.data_page_offset, chunk.total_compressed_size
    data = bytearray(path.read_bytes())
    data[begin : begin + len(header)] = header
    path.write_bytes(data)
    assert size > 480
    check_pages(path, metadata, ["n"])


# -- damaged headers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        b"",
        struct((1, 0), (2, 480), (3, 800), (5, DETAILS)),
        struct((1, 3), (2, 480), (3, 800), (8, DETAILS)),
        struct((1, 3), (2, 480), (3, 800), (8, DETAILS), (5, b"\0")),
        struct((1, 1), (2, 480), (3, 800)),
        struct((1, 9), (2, 480), (3, 800)),
        struct((1, 0), (2, 480), (3, 800), (5, DETAILS), (9, struct((1, b"\0")))),
    ],
)
def test_sound_headers_are_accepted(path: Path, header: bytes) -> None:
    """The base of the damaged ones; readers pass over pages and fields they do not know."""
    check_header(path, header)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (struct(), "field 1"),
        (struct((1, 0), (3, 800), (5, DETAILS)), "field 2"),
        (struct((1, 0), (2, 480), (5, DETAILS)), "field 3"),
        (struct((1, 0), (2, 480), (3, 800)), "field 5"),
        (struct((1, 2), (2, 480), (3, 800)), "field 7"),
        (struct((1, 3), (2, 480), (3, 800), (5, DETAILS)), "field 8"),
        (struct((1, 0), (2, 480), (3, 800), (5, 7)), "field 5"),
        (struct((1, 0), (2, b"\0"), (3, 800), (5, DETAILS)), "field 2"),
        (struct((1, b"\0"), (2, 480), (3, 800), (5, DETAILS)), "field 1"),
        (struct((1, 0), (2, 480), (3, 800), (5, b"\0")), "field 1"),
        (struct((1, 0), (2, 480), (3, 800), (5, struct((1, b"\0")))), "field 1"),
        (struct((1, 0), (2, 480), (3, 800), (5, struct((1, 60)))), "field 2"),
        (struct((1, 3), (2, 480), (3, 800), (8, struct((1, 60), (2, 0)))), "field 4"),
        (struct((1, 0), (2, -1), (3, 800), (5, DETAILS)), "field 2"),
        (struct((1, 0), (2, 480), (3, -1), (5, DETAILS)), "field 3"),
        (struct((1, 0), (2, 480), (3, 1 << 33 | 800), (5, DETAILS)), "field 3"),
        (struct((1, 0), (2, 480), (2, 480), (3, 800), (5, DETAILS)), "field 2 twice"),
        (struct((1, 0), (1 << 16 | 2, 480), (3, 800), (5, DETAILS)), "field 65538"),
        (struct((-1, 0)), "field -1"),
        (b"\x1c" * 9, "nested too deeply"),
        (b"\x1c" * 500, "nested too deeply"),
        (b"\x19", "a field of type 9"),
        (b"\x18" + b"\xff" * 9 + b"\1", "cut off"),
    ],
)
def test_damaged_headers_are_refused(path: Path, header: bytes, reason: str) -> None:
    """A size that is missing, a number in the place of a struct: each was an error of its own."""
    with pytest.raises(InvalidInput) as caught:
        check_header(path, header)
    prefix = f"{path}: not readable as parquet: row group 0: 'n': "
    assert str(caught.value).startswith(prefix)
    assert re.search(rf"{reason}\b", str(caught.value).removeprefix(prefix))


@pytest.mark.parametrize("nested", [8, 9])
def test_depth_is_bound(path: Path, nested: int) -> None:
    """Exactly: the header itself counts."""
    inner = b"\0"
    for _ in range(nested - 2):
        inner = struct((1, inner))
    header = struct((1, 0), (2, 480), (3, 800), (5, DETAILS), (9, inner))
    if nested == 8:
        check_header(path, header)
    else:
        with pytest.raises(InvalidInput, match="nested too deeply"):
            check_header(path, header)


WORDS = st.sampled_from(
    [b"\x15", b"\x1c", b"\x2c", b"\x5c", b"\x05", b"\x0c", b"\x18", b"\x16", b"\x11", b"\0"]
    + [number(value) for value in (0, 1, 2, 3, 5, 60, 480, -1, 1 << 31, 1 << 63)]
    + [DETAILS, struct((1, 0), (2, 480), (3, 800)), struct((1, 0), (2, 480), (3, 800))[:-1]]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(header=st.binary(max_size=64) | st.lists(WORDS, max_size=20).map(b"".join))
def test_whatever_stands_there_is_refused_or_accepted(path: Path, header: bytes) -> None:
    """Bytes of any kind, and those that are almost a header."""
    try:
        check_header(path, header)
    except InvalidInput as error:
        assert str(error).startswith(f"{path}: ")


def flips(data: bytes) -> list[int]:
    """Bits: those of the first 64 bytes, where the first page's header is, and random ones."""
    generator = random.Random(1)
    return [*range(64 * 8), *(generator.randrange(len(data) * 8) for _ in range(300))]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize(
    "codec", quick(thinned(["none", "snappy", "zstd"], ["none", "snappy"]), ["snappy"])
)
def test_damaged_files_are_refused_or_read(path: Path, codec: str, version: str) -> None:
    """Nothing else may come out, wherever in the file the bit is.

    In the child, as always: pyarrow itself aborts on a few, of damage that no header shows.
    """
    pq.write_table(TABLE, path, compression=codec, data_page_version=version, row_group_size=30)
    good = path.read_bytes()
    assert read(path) == len(TABLE)
    refused = 0
    for bit in flips(good):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            call(read, path)
        except InvalidInput as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
        except ChildDied as error:
            assert bit >= 64 * 8, error
    assert refused > 100


# -- estimates -----------------------------------------------------------------------------------


def rows(tests: list[list[str]]) -> pa.Table:
    return pa.table({"n": range(len(tests)), "tests": tests})


def skewed() -> pa.Table:
    """As in the real dataset: a few long tests, repetitive ones, and very many short ones.

    The long ones fill the dictionary; the writer continues without one.
    """
    generator = random.Random(1)
    long = [f"{generator.randrange(10**6)} " * 20_000 for _ in range(20)]
    short = [[f"{generator.randrange(10**4)}\n" for _ in range(200)] for _ in range(980)]
    return rows([[text] for text in long] + short)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["snappy", "zstd"])
def test_long_texts_before_short_ones_are_accepted(path: Path, codec: str, version: str) -> None:
    """Only values that stand in the dictionary may be as long as its entries are."""
    pq.write_table(skewed(), path, compression=codec, data_page_version=version)
    metadata = pq.read_metadata(path)
    chunk = metadata.row_group(0).column(1)
    assert chunk.has_dictionary_page and "PLAIN" in chunk.encodings
    wrong = chunk.num_values * 130_000  # all values as long as the mean of the dictionary's entries
    assert wrong > pages.LARGE and wrong > pages.MAX_RATIO * chunk.total_compressed_size
    assert read(path) == 1000


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_long_text_in_many_values_is_refused(path: Path, version: str) -> None:
    """It stands in the file once; in memory in each of them."""
    tests = [["x" * 20_000] * 100] * 100
    pq.write_table(rows(tests), path, compression="zstd", data_page_version=version)
    with pytest.raises(InvalidInput, match=r"row group 0: 'tests.* would have 2\d{8} in memory"):
        read(path)


def test_nothing_but_nulls_counts_too(path: Path) -> None:
    """A billion of them are a few bytes in a page, with or without a dictionary."""
    count = 20_000_000
    table = pa.table({"n": pa.nulls(count, pa.int64())})
    for use_dictionary in (True, False):
        pq.write_table(
            table, path, compression="zstd", use_dictionary=use_dictionary, row_group_size=count
        )
        with pytest.raises(InvalidInput, match=f"would have {8 * count} in memory"):
            check_pages(path, pq.read_metadata(path), ["n"])


def test_column_that_begins_before_the_file(path: Path) -> None:
    """An offset is a number with a sign; for the system it is an error of the disk."""

    class Chunk:
        num_values = 1
        data_page_offset = -5
        dictionary_page_offset = None
        total_compressed_size = 100

    path.write_bytes(b"PAR1")
    chunk: Any = Chunk()
    with path.open("rb") as file, pytest.raises(ValueError, match="negative offset"):
        pages._chunk_size(file.fileno(), chunk, chunk, 1)


# -- values that grow from little ------------------------------------------------------------------

MUCH = 1_000_000
URLS = [f"https://example.org/path/{n // 7:09d}/{n}" for n in range(20_000)]


def write_texts(path: Path, values: Any, **options: Any) -> Path:
    pq.write_table(pa.table({"a": values}), path, write_statistics=False, **options)
    return path


def read_texts(path: Path, kind: str = "string") -> int:
    columns = {"a": kind}
    return sum(batch.num_rows for _, batch in read_table(path, columns, 256, columns))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["zstd", "snappy", "gzip", "brotli", "none"])
@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
def test_texts_in_every_encoding_are_read(
    path: Path, version: str, codec: str, encoding: str
) -> None:
    """What they have in common is counted, and is not too much; in lists too, and with nulls."""
    options = {
        "use_dictionary": False,
        "data_page_version": version,
        "compression": codec,
        "data_page_size": 50_000,
    }
    columns = {"column_encoding": {"a": encoding}}
    assert read_texts(write_texts(path, URLS, **options, **columns)) == len(URLS)
    assert read_texts(write_texts(path, [None, *URLS], **options, **columns)) == len(URLS) + 1
    columns = {"column_encoding": {"a.list.element": encoding}}
    lists = [URLS[:10_000], [], None, URLS[10_000:], [None]]
    assert read_texts(write_texts(path, lists, **options, **columns), "list<string>") == len(lists)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["zstd", "snappy"])
def test_texts_that_begin_alike_are_refused(path: Path, version: str, codec: str) -> None:
    """500 bytes that would be 200 MB, and 47 kB."""
    texts = pa.chunked_array([pa.array(["x" * MUCH])] * 200)
    write_texts(
        path,
        texts,
        use_dictionary=False,
        column_encoding={"a": "DELTA_BYTE_ARRAY"},
        compression=codec,
        data_page_version=version,
    )
    with pytest.raises(InvalidInput, match="in memory"):
        read_texts(path)


def from_dictionary(indices: list[int], values: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), values)


def test_dictionary_is_counted_value_by_value(path: Path) -> None:
    """A long value that stands in few rows is read; one in many rows is too much."""
    values = ["x" * MUCH, *map(str, range(5000))]
    few = from_dictionary([0, *[1 + n % 5000 for n in range(200_000)]], values)
    options = {"compression": "zstd", "store_schema": False}
    assert read_texts(write_texts(path, few, **options)) == 200_001
    many = from_dictionary([0] * 3000 + [1] * 3000, values)
    with pytest.raises(InvalidInput, match="would have 3000"):
        read_texts(write_texts(path, many, **options))


def prefixes(*lengths: int) -> bytes:
    """Lengths as DELTA_BINARY_PACKED has them, as pyarrow writes it."""
    table = pa.table({"n": pa.array(lengths, pa.int32())})
    sink = pa.BufferOutputStream()
    options = {"use_dictionary": False, "column_encoding": {"n": "DELTA_BINARY_PACKED"}}
    pq.write_table(table, sink, compression="none", write_statistics=False, **options)
    data = sink.getvalue().to_pybytes()
    chunk = pq.read_metadata(pa.BufferReader(data)).row_group(0).column(0)
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        header, length = pages._read_header(file.fileno(), chunk.data_page_offset)
    begin = chunk.data_page_offset + length
    page = data[begin : begin + header[3]]
    return page[4 + int.from_bytes(page[:4], "little") :]  # behind the levels


@given(st.lists(st.integers(0, 1 << 30), min_size=1, max_size=400))
@settings(deadline=None, max_examples=60)
def test_sum_of_prefixes_is_that_of_the_values(lengths: list[int]) -> None:
    """Whatever blocks, widths and steps they are in."""
    assert pages._sum_of_prefixes(prefixes(*lengths), 1 << 62) == sum(lengths)


@given(st.binary(max_size=200), st.integers(0, 1 << 40))
@settings(deadline=None)
def test_prefixes_of_noise_are_refused_or_counted(data: bytes, limit: int) -> None:
    """Neither another error, nor a long time."""
    with suppress(ValueError):
        assert pages._sum_of_prefixes(data, limit) >= 0
