"""Reading JSONL that may be damaged or hostile.

Each line is checked as bytes before it is parsed, because a line can be made that takes minutes, or
the interpreter, down with it: at most 8 MiB, nested at most 32 deep, strict UTF-8, no NUL, no NaN
or Infinity, no key twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from wmtp_assets.errors import InvalidInput
from wmtp_assets.strict_json import no_duplicates

MAX_LINE = 8 << 20
MAX_DEPTH = 32


class BadLine(InvalidInput):
    """A line that is not a JSON object within the limits.

    Attributes:
        path: the file.
        line: its number, from 1.
        problem: what is wrong with it.
    """

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem


def nesting_depth(line: bytes) -> int:
    """How deep brackets are nested in a line of JSON; brackets inside strings do not count."""
    depth = deepest = 0
    in_string = escaped = False
    for byte in line:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parse_line(data: bytes) -> dict[str, Any]:
    """Parse one line, or a whole document that is small.

    Raises:
        ValueError: saying what is wrong with it, and at which column where that is known.
    """
    if len(data) > MAX_LINE:
        raise ValueError(f"longer than {MAX_LINE} bytes")
    if b"\0" in data:
        raise ValueError(f"column {data.index(0) + 1}: a NUL byte")
    brackets = data.count(b"[") + data.count(b"{")
    if brackets > MAX_DEPTH and nesting_depth(data) > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"column {error.start + 1}: not UTF-8: {error.reason}") from error
    try:
        value = json.loads(text, object_pairs_hook=no_duplicates, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"{line}column {error.colno}: {error.msg}") from error
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, not an object")
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a lone surrogate, which no UTF-8 text can hold") from error
    except ValueError as error:
        raise ValueError("a number too large for a float: it would become Infinity") from error
    return value


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Line number, from 1, and bytes of each line without its newline.

    Raises:
        BadLine: for a line that is too long, or a last line without a newline: it was cut off.
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if not line.endswith(b"\n"):
                problem = (
                    f"longer than {MAX_LINE} bytes"
                    if len(line) > MAX_LINE
                    else "the last line has no newline: the file was cut off"
                )
                raise BadLine(path, number, problem)
            yield number, line[:-1]


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number, from 1, and object of each line.

    Raises:
        BadLine: naming file, line and, where known, column.
        OSError: if the file cannot be read.
    """
    for number, line in read_lines(path):
        try:
            yield number, parse_line(line)
        except ValueError as error:
            raise BadLine(path, number, str(error)) from error
