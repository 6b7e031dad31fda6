"""Reading JSONL that may be damaged or hostile.

Each line is checked as bytes before it is parsed, by
:func:`wmtp_assets.base.strict_json.parse_object`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wmtp_assets.base.errors import BadLine
from wmtp_assets.base.strict_json import MAX_SIZE, parse_object
from wmtp_assets.storage.files import BLOCK


def read_lines(path: Path, max_size: int = MAX_SIZE) -> Iterator[tuple[int, bytes]]:
    """Line number, from 1, and bytes of each line without its newline.

    Raises:
        BadLine: for a line that is too long, or a last line without a newline: it was cut off.
        OSError: if the file cannot be read.
    """
    with path.open("rb", buffering=BLOCK) as file:
        number = 0
        while line := file.readline(max_size + 1):
            number += 1
            if not line.endswith(b"\n"):
                problem = (
                    f"longer than {max_size} bytes"
                    if len(line) > max_size
                    else "the last line has no newline: the file was cut off"
                )
                raise BadLine(path, number, problem)
            line = line[:-1]  # a long one is not kept twice
            yield number, line


def count_lines(path: Path) -> int:
    """How many newlines a file has.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))


def read_jsonl(path: Path, max_size: int = MAX_SIZE) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number, from 1, and object of each line.

    Raises:
        BadLine: naming file, line and, where known, column.
        OSError: if the file cannot be read.
    """
    for number, line in read_lines(path, max_size):
        yield number, parse_line(path, number, line, max_size)


def parse_line(path: Path, number: int, line: bytes, max_size: int = MAX_SIZE) -> dict[str, Any]:
    """The object of a line.

    Raises:
        BadLine: if it is none, or too long.
    """
    try:
        return parse_object(line, max_size)
    except ValueError as error:
        raise BadLine(path, number, str(error)) from error
