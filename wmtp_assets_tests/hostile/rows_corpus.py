"""Hostile lines of JSONL, and the files that find rows."""

from __future__ import annotations

import json
import struct

from wmtp_assets_tests.hostile.corpus import hostile
from wmtp_assets_tests.hostile.doors import EVALUATION, OFFSETS, PAIRS, ROWS, SMALL, TESTS

DOORS = {"rows": ROWS, "pairs": PAIRS, "small": SMALL}


def first_line(good: bytes, line: bytes) -> bytes:
    """The file with another first line."""
    return line + b"\n" + good.partition(b"\n")[2]


def in_metadata(good: bytes, value: bytes) -> bytes:
    """The file with a first row that has one field more in its metadata."""
    line = good.partition(b"\n")[0]
    return first_line(good, line.replace(b'"metadata": {', b'"metadata": {"x": %s, ' % value, 1))


@hostile(ROWS, "nested more than|recursion|values")
def nested_brackets(good: bytes) -> bytes:
    """200 kB of them end pyarrow's and datasets' readers of JSON with SIGSEGV."""
    return first_line(good, b"[" * 200_000)


@hostile(ROWS, "nested more than|recursion|values")
def nested_objects(good: bytes) -> bytes:
    """In a field of a row that is sound otherwise."""
    return in_metadata(good, b'{"a":' * 50_000 + b"1" + b"}" * 50_000)


@hostile(ROWS, "longer than")
def line_of_100_mb(good: bytes) -> bytes:
    """One text."""
    return first_line(good, b'{"instruction": "' + b"x" * 100_000_000 + b'"}')


@hostile(ROWS, "values")
def line_of_millions(good: bytes) -> bytes:
    """As many values as fit in 8 MiB."""
    return in_metadata(good, b"[" + b"[]," * 2_700_000 + b"[]]")


@hostile(ROWS, "values")
def line_of_texts(good: bytes) -> bytes:
    """The same of empty texts."""
    return in_metadata(good, b"[" + b'"",' * 2_700_000 + b'""]')


@hostile(ROWS, "values")
def line_of_unended_text(good: bytes) -> bytes:
    """A quote hides what comes behind it, from who counts in a hurry."""
    return first_line(good, b'{"a": ["\\\\"' + b",[]" * 2_700_000 + b'], "b": "]}')


@hostile(ROWS, "digits|too large|out of range|Extra inputs")
def huge_number(good: bytes) -> bytes:
    """Seven million digits."""
    return in_metadata(good, b"9" * 7_000_000)


@hostile(ROWS, "Infinity|too large")
def infinite_number(good: bytes) -> bytes:
    """Not infinite in the file, but in memory."""
    return in_metadata(good, b"1e999999")


@hostile(ROWS, "values")
def row_of_a_million_keys(good: bytes) -> bytes:
    """None of which belongs there."""
    return in_metadata(good, b"{" + b",".join(b'"%d":1' % n for n in range(700_000)) + b"}")


@hostile(ROWS, "duplicate key")
def key_twice(good: bytes) -> bytes:
    """Which of the two counts differs between readers."""
    line = good.partition(b"\n")[0]
    return first_line(good, line[:-1] + b', "task_id": "other"}')


@hostile(ROWS, "surrogate")
def lone_surrogate(good: bytes) -> bytes:
    """Half a character."""
    return in_metadata(good, b'"\\ud83d"')


@hostile(ROWS, "NUL")
def nul(good: bytes) -> bytes:
    """Ends early in C."""
    return in_metadata(good, b'"\0"')


@hostile(ROWS, "not UTF-8")
def not_utf8(good: bytes) -> bytes:
    """Overlong slash."""
    return in_metadata(good, b'"\xc0\xaf"')


@hostile(ROWS, "no newline")
def no_newline(good: bytes) -> bytes:
    """The last line was cut off, and is JSON all the same."""
    return good[:-1]


@hostile(ROWS, "column 1|a line more|no such line|rows")
def empty_lines(good: bytes) -> bytes:
    """20,000 newlines."""
    return good + b"\n" * 20_000


@hostile(EVALUATION, "values")
def evaluation_of_millions(good: bytes) -> bytes:
    """63 MB of empty lists: 1.9 GB in memory."""
    return in_metadata(good, b"[" + b"[]," * 21_000_000 + b"[]]")


@hostile(EVALUATION, "nested|values")
def evaluation_nested(good: bytes) -> bytes:
    """80 MB of brackets."""
    return first_line(good, b"[" * 80_000_000)


@hostile(EVALUATION, "longer than")
def evaluation_of_200_mb(good: bytes) -> bytes:
    """More than any problem has."""
    return in_metadata(good, b'"' + b"x" * 200_000_000 + b'"')


@hostile(PAIRS, "column|line 1")
def pairs_nested(good: bytes) -> bytes:
    """Brackets where a pair should be."""
    return first_line(good, b"[" * 8_000_000)


@hostile(SMALL, "line 1|values")
def small_of_millions(good: bytes) -> bytes:
    """As many values as fit."""
    return in_metadata(good, b"[" + b"[]," * 2_700_000 + b"[]]")


@hostile(TESTS, "line 2")
def tests_of_millions(good: bytes) -> bytes:
    """60 MB of empty lists in the place of a problem."""
    return b"{\n" + b'"t": [' + b"[]," * 20_000_000 + b"[]]\n}\n"


@hostile(OFFSETS, "offset 0|the end|another number")
def offsets_of_50_million(good: bytes) -> bytes:
    """Rows that are not there: 400 MB of them."""
    return good + good[-8:] * 10_000_000


@hostile(OFFSETS, "another number|not a number")
def offsets_cut_off(good: bytes) -> bytes:
    """Three bytes short of a number."""
    return good[:-3]


@hostile(OFFSETS, "another number|another file")
def offsets_beyond(good: bytes) -> bytes:
    """Each row begins at the end of everything."""
    return struct.pack(f"<{len(good) // 8}Q", *[(1 << 64) - 1] * (len(good) // 8))


@hostile(ROWS, "schema|field")
def row_of_another_kind(good: bytes) -> bytes:
    """Every field has another type."""
    row = {key: [{}] for key in json.loads(good.partition(b"\n")[0])}
    return first_line(good, json.dumps(row).encode())
