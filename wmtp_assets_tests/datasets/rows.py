"""All rows of a JSONL file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wmtp_assets.base.errors import BadLine
from wmtp_assets.base.strict_json import MAX_SIZE, parse_object
from wmtp_assets.datasets.jsonl import read_lines


def read_jsonl(path: Path, max_size: int = MAX_SIZE) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number, from 1, and object of each line, as the rules and builders read them.

    Raises:
        BadLine: naming file, line and, where known, column.
        OSError: if the file cannot be read.
    """
    for number, line in read_lines(path, max_size):
        try:
            yield number, parse_object(line, max_size)
        except ValueError as error:
            raise BadLine(path, number, str(error)) from error
