"""Reading JSONL that may be damaged or hostile: every line comes back, or is refused by name.

The attack lines are those of the safety notes: one of them takes minutes, another the interpreter
itself, where they reach a parser unchecked.
"""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_assets.base.strict_json import MAX_DEPTH, MAX_SIZE, parse_object
from wmtp_assets.datasets.jsonl import BadLine, read_lines
from wmtp_assets_tests.datasets.rows import read_jsonl

NUMBERS = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=5)


def depth_of(value: Any) -> int:
    """How deep a parsed value is nested, by recursion over what the parser made of it."""
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@settings(deadline=None)
@given(st.lists(OBJECTS, max_size=5), st.booleans())
def test_objects_come_back(objects: list[dict[str, Any]], is_ascii: bool) -> None:
    """Nothing that JSON can say may be lost or refused, escaped or not."""
    lines = [json.dumps(item, ensure_ascii=is_ascii) + "\n" for item in objects]
    with TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_bytes("".join(lines).encode())
        assert list(read_jsonl(path)) == list(enumerate(objects, 1))


@settings(deadline=None)
@given(st.lists(st.binary().filter(lambda line: b"\n" not in line)))
def test_lines_come_back_as_bytes(lines: list[bytes]) -> None:
    """Only a newline ends a line: not CR, not what ``str.splitlines`` takes for one."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "lines")
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        assert list(read_lines(path)) == list(enumerate(lines, 1))


def test_depth_limit_is_exact() -> None:
    """At the limit a line is good; one deeper it is not."""

    def line(depth: int) -> bytes:
        return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    assert depth_of(parse_object(line(MAX_DEPTH))) == MAX_DEPTH
    with pytest.raises(ValueError, match=f"nested more than {MAX_DEPTH} deep"):
        parse_object(line(MAX_DEPTH + 1))


@pytest.mark.parametrize("limit", [MAX_SIZE, 100])
def test_length_limit_is_exact(tmp_path: Path, limit: int) -> None:
    """At the limit a line is good; a byte more and it is refused, before it is parsed.

    The limit is another where a line holds all tests of a problem.
    """
    path = tmp_path / "long.jsonl"
    longest = b'{"a": "%s"}' % (b"x" * (limit - len(b'{"a": ""}')))
    path.write_bytes(longest + b"\n")
    rows = read_jsonl(path, limit)
    assert [len(row["a"]) for _, row in rows] == [len(longest) - len(b'{"a": ""}')]
    for ending in (b"\n", b""):
        path.write_bytes(b"{}\n" + longest + b" " + ending)
        for read in (read_lines, read_jsonl):
            with pytest.raises(BadLine) as caught:
                list(read(path, limit))
            assert str(caught.value) == f"{path}:2: longer than {limit} bytes"
    with pytest.raises(ValueError, match="longer than"):
        parse_object(longest + b" ", limit)


def test_line_of_100_megabytes_is_not_read(tmp_path: Path) -> None:
    """What is refused for its length must not cost the memory of its length."""
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.write(b'{"a": "')
        file.truncate(100_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(BadLine, match=f":1: longer than {MAX_SIZE} bytes"):
            next(read_jsonl(path))
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_SIZE
    finally:
        tracemalloc.stop()


BAD_LINES: dict[str, tuple[bytes, str]] = {
    "200,000 brackets": (b'{"a":' + b"[" * 200_000, "nested more than 32 deep"),
    "200,000 brackets, closed": (
        b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        "nested more than 32 deep",
    ),
    "200,000 objects": (b'{"a":' * 200_000, "nested more than 32 deep"),
    "closing brackets first": (b"]" * 200_000 + b"[" * 200_000, "column 1: Expecting value"),
    "a million closing brackets": (b"{}" + b"]" * 1_000_000, "column 3: Extra data"),
    "NUL": (b'{"a": "x\0"}', "column 9: a NUL byte"),
    "invalid UTF-8": (b'{"a": "\xff"}', "column 8: not UTF-8: invalid start byte"),
    "UTF-8 cut off": (b'{"a": "\xc3', "column 8: not UTF-8: unexpected end of data"),
    "surrogate in UTF-8": (b'{"a": "\xed\xa0\x80"}', "column 8: not UTF-8: "),
    "overlong UTF-8": (b'{"a": "\xc0\xaf"}', "column 8: not UTF-8: invalid start byte"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "column 4: a NUL byte"),
    "byte order mark": (b'\xef\xbb\xbf{"a": 1}', "column 1: "),
    "escaped lone surrogate": (b'{"a": "\\ud800"}', "a lone surrogate"),
    "escaped lone surrogate in a key": (b'{"\\udfff": 1}', "a lone surrogate"),
    "NaN": (b'{"a": NaN}', "NaN is not JSON"),
    "Infinity": (b'{"a": [Infinity]}', "Infinity is not JSON"),
    "minus Infinity": (b'{"a": -Infinity}', "-Infinity is not JSON"),
    "a number that becomes Infinity": (b'{"a": 1e999}', "a number too large for a float"),
    "a number of 5,000 digits": (b'{"a": %s}' % (b"9" * 5000), "Exceeds the limit"),
    "a key twice": (b'{"a": 1, "b": 2, "a": 1}', "duplicate key 'a'"),
    "a key twice, written otherwise": (b'{"a": 1, "\\u0061": 2}', "duplicate key 'a'"),
    "a key twice, deeper": (b'{"a": [{"b": 1, "b": 2}]}', "duplicate key 'b'"),
    "a list": (b"[1]", "a list, not an object"),
    "a text": (b'"a"', "a str, not an object"),
    "null": (b"null", "a NoneType, not an object"),
    "an empty line": (b"", "column 1: Expecting value"),
    "two objects": (b"{} {}", "column 4: Extra data"),
    "a trailing comma": (b'{"a": 1,}', "column "),
    "a single quote": (b"{'a': 1}", "column 2: "),
    "a raw tab in a string": (b'{"a": "\t"}', "column 8: Invalid control character"),
    "cut off": (b'{"a": "x', "column 7: Unterminated string"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_line_is_refused_with_file_line_and_column(tmp_path: Path, name: str) -> None:
    """One bad line among millions must be found by its number, and must not end the process."""
    data, problem = BAD_LINES[name]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"good": 1}\n' + data + b'\n{"good": 2}\n')
    rows = read_jsonl(path)
    assert next(rows) == (1, {"good": 1})
    with pytest.raises(BadLine, match="^" + re.escape(f"{path}:2: {problem}")) as caught:
        next(rows)
    assert (caught.value.path, caught.value.line) == (path, 2)
    assert caught.value.problem.startswith(problem)


def test_last_line_without_newline_was_cut_off(tmp_path: Path) -> None:
    """A file that lost its end would otherwise pass with a row fewer, or with half a row."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}')
    for read in (read_lines, read_jsonl):
        rows = read(path)
        next(rows)
        with pytest.raises(BadLine, match=r":2: the last line has no newline"):
            next(rows)


def test_no_lines_are_no_rows(tmp_path: Path) -> None:
    """An empty file is read; whether it may be empty is decided elsewhere."""
    path = tmp_path / "rows.jsonl"
    path.touch()
    assert list(read_jsonl(path)) == []


def test_document_of_several_lines_names_the_line() -> None:
    """JSON files are parsed with the same care; a column alone would say nothing there."""
    with pytest.raises(ValueError, match=r"^line 3, column 4: "):
        parse_object(b'{\n  "a": 1,\n   b\n}\n')


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_refused(data: bytes) -> None:
    """No other error, whatever the bytes: everything else is a crash of a whole verification."""
    try:
        value = parse_object(data)
    except ValueError as error:
        assert str(error)
    else:
        assert json.loads(data) == value
