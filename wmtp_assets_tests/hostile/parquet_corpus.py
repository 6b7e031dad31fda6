"""Hostile parquet files, as upstream's shards and as a committed twin."""

from __future__ import annotations

import io
import re
import struct
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wmtp_assets_tests.datasets import contests
from wmtp_assets_tests.hostile.corpus import hostile
from wmtp_assets_tests.hostile.doors import COUNTED, RAW_DATA, RAW_TESTS, TWIN

ZEROS = "\0" * (130 << 20)
"""Compresses to next to nothing; one page of it."""


def written(table: pa.Table, **options: Any) -> bytes:
    """A parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def shard(**changes: Any) -> pa.Table:
    """A shard of upstream with one problem."""
    return contests.table([contests.problem("c", **changes)])


@cache
def zeros_in(codec: str) -> bytes:
    """A shard whose description is :data:`ZEROS`."""
    table = shard(description=ZEROS)
    return written(table, compression=codec, use_dictionary=False, write_statistics=False)


def with_footer(footer: bytes) -> bytes:
    """A file of nothing but a footer."""
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def footer_of(good: bytes) -> bytes:
    """The footer of a file."""
    size = int.from_bytes(good[-8:-4], "little")
    return good[-8 - size : -8]


@hostile(RAW_DATA, "parquet")
def cut_off(good: bytes) -> bytes:
    """The footer stands at the end."""
    return good[: len(good) // 2]


@hostile(RAW_DATA, "parquet")
def footer_of_4_gb(good: bytes) -> bytes:
    """A length that lies."""
    return good[:-8] + b"\xff\xff\xff\xff" + b"PAR1"


@hostile(COUNTED, "a footer of")
def footer_of_100_mb(good: bytes) -> bytes:
    """A length that does not lie."""
    return with_footer(bytes(100 << 20))


@hostile(RAW_DATA, "parquet")
def footer_of_noise(good: bytes) -> bytes:
    """No thrift at all."""
    return with_footer(bytes(range(256)) * 4000)


@hostile(RAW_DATA, "parquet")
def encrypted_footer(good: bytes) -> bytes:
    """Another magic number: the footer is encrypted, and there is no key."""
    return b"PARE" + good[4:-4] + b"PARE"


@hostile(RAW_DATA, "parquet")
def list_of_2_billion(good: bytes) -> bytes:
    """A schema of 2^31 - 1 elements, none of which is there."""
    return with_footer(b"\x15\x04\x19\xfc\xff\xff\xff\xff\x07")


@hostile(RAW_DATA, "parquet")
def text_of_2_gb(good: bytes) -> bytes:
    """A name of 2 GB that is not there."""
    return with_footer(b"\x15\x04\x19\x1c\x48\xff\xff\xff\xff\x07abc")


@hostile(RAW_DATA, "parquet")
def schema_of_a_million(good: bytes) -> bytes:
    """A million columns."""
    root = b"\x48\x01a\x15\x80\x89\x7a\x00"
    column = b"\x15\x02\x25\x02\x18\x01b\x00"
    return with_footer(b"\x15\x04\x19\xfc\xc1\x84\x3d" + root + column * 1_000_000)


@hostile(COUNTED, "parquet|row groups")
def row_groups_without_rows(good: bytes) -> bytes:
    """A million row groups, all of them empty."""
    group = b"\x19\x0c\x16\x00\x16\x00\x00"
    schema = b"\x15\x04\x19\x1c\x48\x01a\x15\x00\x00\x16\x00"
    return with_footer(schema + b"\x19\xfc\xc0\x84\x3d" + group * 1_000_000)


@hostile(RAW_DATA, "parquet")
def nested_thrift(good: bytes) -> bytes:
    """A million structs in each other, in a field that nobody knows."""
    return with_footer(b"\xfc" + b"\xfc" * 1_000_000)


@hostile(RAW_DATA, "parquet|column")
def nested_schema(good: bytes) -> bytes:
    """Groups in groups, 15,000 deep."""
    group = b"\x35\x00\x18\x01a\x15\x02\x00"
    leaf = b"\x15\x02\x25\x00\x18\x01a\x00"
    count = 15_000
    schema = b"\x15\x04\x19\xfc" + _varint(count + 1) + group * count + leaf
    return with_footer(schema + b"\x16\x00\x19\x0c\x00")


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def _add_bomb(codec: str) -> None:
    def bomb(good: bytes) -> bytes:
        return zeros_in(codec)

    bomb.__name__ = f"page_of_zeros_in_{codec}"
    hostile(RAW_DATA, "in memory")(bomb)


for _codec in ("zstd", "gzip", "brotli"):
    _add_bomb(_codec)


@hostile(RAW_TESTS, "in memory")
def tests_of_zeros(good: bytes) -> bytes:
    """In a list in a struct, which the names of problems do not lead to."""
    return written(shard(private_tests=contests.examples((ZEROS, ""))), compression="zstd")


@hostile(RAW_DATA, "in memory")
def solution_of_zeros(good: bytes) -> bytes:
    """The same where rows are converted."""
    return written(shard(right=[(contests.PY3, ZEROS)]), compression="zstd")


@hostile(RAW_DATA, "in memory|parquet")
def page_that_lies(good: bytes) -> bytes:
    """The page's own header says 1.9 GB, the footer 136 MB."""
    size = re.compile(rb"\x15[\x80-\xff]{4}[\x01-\x0f]")  # five bytes: 134 MB and more
    lie = b"\x15" + _varint(2 * 1_900_000_000)
    return size.sub(lambda found: lie, zeros_in("zstd"), count=1)


@hostile(RAW_DATA, "in memory")
def footer_that_lies(good: bytes) -> bytes:
    """The footer says 1 byte, the page's header 136 MB."""
    data = zeros_in("zstd")
    start = len(data) - 8 - len(footer_of(data))
    sizes = re.compile(rb"\x16[\x80-\xff]{4}[\x01-\x0f]")  # five bytes: 134 MB and more
    return data[:start] + sizes.sub(b"\x16\x82\x80\x80\x80\x00", data[start:])


@hostile(RAW_DATA, "in memory")
def dictionary_bomb(good: bytes) -> bytes:
    """A megabyte that stands in the dictionary once, and 2,000 times in one row."""
    text = "\0" * 1_000_000
    table = shard(right=[(contests.PY3, "x")])
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), [text])
    lists = pa.ListArray.from_arrays(pa.array([0, 2000], pa.int32()), texts)
    fields = pa.array([[3] * 2000]), lists
    solutions = pa.StructArray.from_arrays(fields, ["language", "solution"])
    at = table.schema.get_field_index("solutions")
    changed = table.set_column(at, "solutions", solutions)
    return written(changed, compression="zstd", store_schema=False)


def with_solutions(texts: pa.Array, **options: Any) -> bytes:
    """A shard of one problem, with these solutions."""
    lists = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    languages = pa.array([[3] * len(texts)])
    solutions = pa.StructArray.from_arrays([languages, lists], ["language", "solution"])
    table = shard(right=[(contests.PY3, "x")])
    at = table.schema.get_field_index("solutions")
    return written(table.set_column(at, "solutions", solutions), store_schema=False, **options)


def beginning_alike(**options: Any) -> bytes:
    """200 texts of a megabyte that are all the same, in an encoding that says so."""
    texts = pa.chunked_array([pa.array(["\0" * 1_000_000])] * 200).combine_chunks()
    column = "solutions.solution.list.element"
    encoding = {column: "DELTA_BYTE_ARRAY"}
    options = {"use_dictionary": False, "column_encoding": encoding, **options}
    return with_solutions(texts, write_statistics=False, **options)


@hostile(RAW_DATA, "in memory")
def texts_that_begin_alike(good: bytes) -> bytes:
    """Each value is the beginning of the one before it, and all of it."""
    return beginning_alike(compression="zstd")


@hostile(RAW_DATA, "in memory")
def texts_that_begin_alike_in_pages_of_version_2(good: bytes) -> bytes:
    """Whose levels are not packed."""
    return beginning_alike(compression="zstd", data_page_version="2.0")


@hostile(RAW_DATA, "in memory")
def uneven_dictionary(good: bytes) -> bytes:
    """One megabyte among 5,000 short values; the average is short."""
    values = ["\0" * 1_000_000, *map(str, range(5000))]
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), values)
    return with_solutions(texts, compression="zstd")


@hostile(RAW_DATA, "in memory")
def list_of_50_million(good: bytes) -> bytes:
    """One number, 50 million times: 8 bytes in the file."""
    table = shard()
    numbers = pa.array([1] * 1, pa.int64())
    languages = pa.ListArray.from_arrays(
        pa.array([0, 50_000_000], pa.int32()), pa.repeat(numbers[0], 50_000_000)
    )
    texts = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(["x"]))
    solutions = pa.StructArray.from_arrays([languages, texts], ["language", "solution"])
    at = table.schema.get_field_index("solutions")
    return written(table.set_column(at, "solutions", solutions), compression="zstd")


@hostile(RAW_DATA, "not UTF-8")
def not_utf8(good: bytes) -> bytes:
    """Bytes that are called text."""
    return written(shard(description="Solve ????.\n")).replace(b"????", b"\xff\xfe\xfd\xfc")


@hostile(RAW_DATA, "column")
def column_twice(good: bytes) -> bytes:
    """Which of the two is read?"""
    table = shard()
    return written(table.append_column("name", pa.array(["other"])))


@hostile(RAW_DATA, "column")
def column_of_another_type(good: bytes) -> bytes:
    """Names that are numbers."""
    return written(shard().set_column(0, "name", pa.array([1])))


@hostile(RAW_DATA, "null")
def null_name(good: bytes) -> bytes:
    """A problem that is called nothing."""
    return written(shard().set_column(0, "name", pa.array([None], pa.string())))


@hostile(RAW_DATA, "lists of 1 and 2 values|holds")
def lists_of_two_lengths(good: bytes) -> bytes:
    """More solutions than languages."""
    return written(shard(incorrect_solutions={"language": [3], "solution": ["a", "b"]}))


@hostile(RAW_DATA, "parquet|parquet|row")
def noise_in_the_pages(good: bytes) -> bytes:
    """A sound footer over bytes that are none of its."""
    start = len(good) - 8 - len(footer_of(good))
    return b"PAR1" + b"\xa5" * (start - 4) + good[start:]


@hostile(TWIN, "in memory")
def twin_of_zeros(good: bytes) -> bytes:
    """A small twin with one giant row."""
    table = pq.read_table(io.BytesIO(good))
    at = table.schema.get_field_index("output")
    column = pa.array([ZEROS] + ["x"] * (table.num_rows - 1))
    return written(table.set_column(at, "output", column), compression="zstd")


@hostile(TWIN, "parquet")
def twin_cut_off(good: bytes) -> bytes:
    """Half of it."""
    return good[: len(good) // 2]


@hostile(TWIN, "column")
def twin_of_10000_columns(good: bytes) -> bytes:
    """None of them a twin's."""
    return written(pa.table({f"c{n}": [1] for n in range(3000)}))
