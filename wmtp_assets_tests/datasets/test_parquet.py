"""Upstream parquet: read whole and in order, or refused with file and row or column."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.datasets.parquet import (
    count_parquet_rows,
    read_batches,
    read_rows,
    read_table,
    rows_of,
    type_name,
)

COLUMNS = {"name": "string", "code": "string"}


def write(path: Path, rows: dict[str, Any], **options: Any) -> Path:
    """Write a small parquet file."""
    pq.write_table(pa.table(rows), path, **options)
    return path


def refusal(path: Path, batch_size: int = 256) -> str:
    """What is said about a file that cannot be read; it begins with its path."""
    with pytest.raises(InvalidInput) as caught:
        list(read_rows(path, COLUMNS, batch_size))
    prefix, text = f"{path}: ", str(caught.value)
    assert text.startswith(prefix)
    return text.removeprefix(prefix)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test writes its file."""
    return tmp_path / "part-0.parquet"


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_rows_come_in_order_over_batches_and_row_groups(path: Path, batch_size: int) -> None:
    """Row numbers in errors are those of the file, wherever its row groups end."""
    names = [f"n{number}" for number in range(10)]
    write(path, {"code": ["x"] * 10, "more": [1] * 10, "name": names}, row_group_size=4)
    assert list(read_rows(path, COLUMNS, batch_size)) == [
        (number, {"name": name, "code": "x"}) for number, name in enumerate(names)
    ]


def test_large_strings_are_strings(path: Path) -> None:
    """Writers choose 64-bit offsets for long columns; the values are the same."""
    write(path, {"name": pa.array(["a"], pa.large_string()), "code": ["é\r\n\t"]})
    assert list(read_rows(path, COLUMNS)) == [(0, {"name": "a", "code": "é\r\n\t"})]


STRINGS = pa.string(), pa.large_string()


@pytest.mark.parametrize("item", ["item", "element"])
@pytest.mark.parametrize("string", STRINGS, ids=str)
@pytest.mark.parametrize("make", [pa.list_, pa.large_list], ids=["list", "large_list"])
def test_lists_are_lists_however_they_were_written(
    path: Path, make: Any, string: pa.DataType, item: str
) -> None:
    """pyarrow itself has changed the name of the items, and writers choose the offsets' width."""
    type_ = make(pa.field(item, string))
    assert type_name(type_) == "list<string>"
    write(path, {"name": pa.array([["a", "é"], []], type_)})
    rows = read_rows(path, {"name": "list<string>"})
    assert [row for _, row in rows] == [{"name": ["a", "é"]}, {"name": []}]


@pytest.mark.parametrize(
    ("type_", "name"),
    [
        (pa.list_(pa.int32()), "list<int32>"),
        (pa.list_(pa.list_(pa.large_string())), "list<list<string>>"),
        (pa.struct([("element", pa.string())]), "struct<element: string>"),
        (pa.struct([("a", pa.string()), ("b", pa.int8())]), "struct<a: string, b: int8>"),
        (pa.large_binary(), "binary"),
        (pa.int32(), "int32"),
    ],
    ids=str,
)
def test_other_types_keep_what_tells_them_apart(type_: pa.DataType, name: str) -> None:
    """Ignoring more than spelling would let numbers through as text, or records as lists."""
    assert type_name(type_) == name


def test_no_rows_are_no_error_here(path: Path) -> None:
    """Whether a split may be empty is decided where the split is known."""
    write(path, {name: pa.array([], pa.string()) for name in COLUMNS})
    assert list(read_rows(path, COLUMNS)) == []


def test_missing_column_is_named_with_those_there_are(path: Path) -> None:
    """Upstream renamed it, or the wrong file was declared: the list shows which."""
    write(path, {"name": ["a"], "Code": ["x"]})
    assert refusal(path) == "no column 'code'; it has name, Code"


def test_column_that_is_there_twice_is_refused(path: Path) -> None:
    """pyarrow finds neither of the two and raises a KeyError."""
    schema = pa.schema([("name", pa.string()), ("code", pa.string()), ("code", pa.string())])
    pq.write_table(pa.table([["a"], ["x"], ["y"]], schema=schema), path)
    assert refusal(path) == "twice the column 'code'; it has name, code, code"


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (pa.array([1]), "int64"),
        (pa.array([b"x"]), "binary"),
        (pa.array([["x"]]), "list<string>"),
        (pa.array([None]), "null"),
    ],
    ids=["int64", "binary", "list", "null"],
)
def test_mistyped_column_is_refused(path: Path, values: pa.Array, found: str) -> None:
    """Converted silently, numbers or bytes would stand in the JSONL as text."""
    write(path, {"name": ["a"], "code": values})
    assert refusal(path) == f"column 'code' is {found}, expected string"


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_null_is_named_by_row_and_column(path: Path, batch_size: int) -> None:
    """Also in a later batch the row is counted from the start of the file."""
    write(path, {"name": ["a", "b", "c", "d"], "code": ["x", "y", "z", None]})
    assert refusal(path, batch_size) == "row 3: 'code' is null"


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_text_that_is_not_utf8_is_named_by_row_and_column(path: Path, batch_size: int) -> None:
    """Parquet does not check its strings; the first to notice would be the JSON writer."""
    code = pa.array([b"x", b"y", b"\xff\xfe"], pa.binary()).view(pa.string())
    write(path, {"name": ["a", "b", "c"], "code": code})
    assert refusal(path, batch_size) == "row 2: 'code' is not UTF-8: invalid start byte"


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (pa.list_(pa.string()), [["a"], [], ["b", "c"]]),
        (pa.struct([("text", pa.string())]), [{"text": "a"}, None, {"text": "c"}]),
    ],
    ids=str,
)
def test_nested_text_that_is_not_utf8_is_named_by_row(
    path: Path, type_: pa.DataType, values: list[Any]
) -> None:
    """A test inside a list inside a struct is as much text as a column."""
    good = pa.array(values, type_)
    buffers = [buffer and bytearray(buffer.to_pybytes()) for buffer in good.buffers()]
    buffers[-1][-1 if len(buffers[-1]) == 3 else 1] = 0xFF  # the last letter
    broken = pa.Array.from_buffers(
        type_,
        len(good),
        [buffer and pa.py_buffer(buffer) for buffer in buffers[: 2 if values[1] == [] else 1]],
        children=[
            pa.Array.from_buffers(
                pa.string(),
                3,
                [buffer and pa.py_buffer(buffer) for buffer in buffers[-3:]],
            )
        ],
    )
    write(path, {"name": ["a", "b", "c"], "code": broken})
    with pytest.raises(InvalidInput) as caught:
        columns = {"name": "string", "code": type_name(type_)}
        for first, batch in read_batches(path, columns, nullable=["code"]):
            list(rows_of(path, first, batch))
    assert str(caught.value) == f"{path}: row 2: 'code' is not UTF-8: invalid start byte"


def test_nulls_are_for_columns_that_may_hold_them(path: Path) -> None:
    """Upstream has null time limits; a null anywhere else is damage."""
    write(path, {"name": ["a", None], "code": [None, "x"]})
    batches = list(read_batches(path, COLUMNS, nullable=["name", "code"]))
    assert [batch.to_pylist() for _, batch in batches] == [
        [{"name": "a", "code": None}, {"name": None, "code": "x"}]
    ]
    with pytest.raises(InvalidInput, match="row 0: 'code' is null"):
        list(read_batches(path, COLUMNS, nullable=["name"]))


def test_field_of_a_struct_is_read_alone(path: Path) -> None:
    """Language numbers are a hundredth of the solutions beside them."""
    write(path, {"name": ["a", "b"], "code": [{"n": 1, "text": "x"}, {"n": 2, "text": "y"}]})
    types = {"code": "struct<n: int64, text: string>"}
    found = list(read_table(path, ["code.n"], 1, types))
    assert [(first, batch.to_pylist()) for first, batch in found] == [
        (0, [{"code": {"n": 1}}]),
        (1, [{"code": {"n": 2}}]),
    ]


def test_rows_are_counted_in_the_footer(path: Path) -> None:
    """Nothing is decoded for it; and what has no footer is not Parquet."""
    write(path, {"name": ["a"] * 1000}, row_group_size=7)
    assert count_parquet_rows(path) == 1000
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InvalidInput, match="not readable as parquet"):
        count_parquet_rows(path)


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"PAR1PAR1", b"<html>502</html>", b"PAR1" + b"\0" * 100 + b"PAR1"]
)
def test_what_is_not_parquet_is_refused(path: Path, data: bytes) -> None:
    """An error page that was saved under the file's name is the usual cause."""
    path.write_bytes(data)
    assert refusal(path).startswith("not readable as parquet: ")


def test_truncated_anywhere_is_refused(path: Path) -> None:
    """A file that was cut off must not be a dataset with fewer rows."""
    write(path, {"name": [f"{n}" for n in range(500)], "code": ["x" * 20] * 500})
    data = path.read_bytes()
    for size in range(0, len(data), 97):
        path.write_bytes(data[:size])
        assert refusal(path).startswith("not readable as parquet: ")


def test_damaged_page_is_refused(path: Path) -> None:
    """pyarrow raises a plain OSError for it, which elsewhere means that the disk failed."""
    write(path, {"name": ["a"] * 500, "code": [f"{n}" for n in range(500)]}, compression="zstd")
    data = bytearray(path.read_bytes())
    data[5] ^= 0xFF
    path.write_bytes(data)
    text = refusal(path)
    assert text.startswith("not readable as parquet: ")
    assert "\n" not in text


def test_errors_of_the_disk_stay_what_they_are(path: Path) -> None:
    """'Not parquet, download it again' would be the wrong advice for a missing file."""
    with pytest.raises(FileNotFoundError) as caught:
        list(read_rows(path, COLUMNS))
    assert caught.value.errno == errno.ENOENT


def test_lack_of_memory_is_not_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow's own error for it is one of its errors about files, too."""

    def fail(*arguments: object, **options: object) -> None:
        raise pa.lib.ArrowMemoryError("malloc of size 1099511627776 failed")

    write(path, {"name": ["a"], "code": ["x"]})
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", fail)
    with pytest.raises(MemoryError, match="malloc of size"):
        list(read_rows(path, COLUMNS))
