"""Reading JSON that may be damaged or hostile.

A document can be made that takes minutes, or the interpreter, down with it; so it is checked as
bytes before it is parsed: at most 8 MiB and 250,000 values, nested at most 32 deep, strict UTF-8,
no NUL, no NaN or Infinity, no key twice.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from errno import EINVAL
from io import FileIO
from math import isinf
from os import fstat
from pathlib import Path
from stat import S_ISREG
from typing import Any, NoReturn

MAX_SIZE = 8 << 20
MAX_DEPTH = 32
MAX_VALUES = 250_000
"""Values in a document, at most: an empty list takes 3 bytes there, and 60 in memory."""


def short(value: Any) -> str:
    """``repr`` of a value that may be of any length, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An ``object_pairs_hook`` for ``json.loads``: a duplicate key is an error.

    Raises:
        ValueError: naming the key.
    """
    result = dict(pairs)
    if len(result) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"duplicate key {short(counts.most_common(1)[0][0])}")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_small(path: Path, max_size: int = MAX_SIZE) -> bytes:
    """What a file of at most ``max_size`` bytes holds.

    Raises:
        ValueError: if it has more.
        OSError: if it cannot be read, or is not a regular file.
    """
    with open_waiting_for_none(path) as file:
        data = b""
        if fstat(file.fileno()).st_size <= max_size:
            while (block := file.read(max_size + 1 - len(data))) and len(data) <= max_size:
                data += block
            if len(data) <= max_size:
                return data
    raise ValueError(f"longer than {max_size} bytes")


def open_waiting_for_none(path: Path) -> FileIO:
    """Open a regular file, or what a link leads to: never a named pipe or a device, which somebody
    may have put there and which would be waited for forever.

    Raises:
        OSError: if it cannot be read; EINVAL for what is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not S_ISREG(fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(EINVAL, "not a regular file", str(path))
    return FileIO(descriptor)


def check_values(data: bytes, max_values: int = MAX_VALUES) -> None:
    """Require that a JSON document has few values, whatever else it is.

    Raises:
        ValueError: if it has more than ``max_values``.
    """
    if len(data) > max_values and _count_marks(data) > max_values:
        rest, texts = _TEXT.subn(b"", data, max_values + 1)  # what is quoted does not count
        if max(texts, _count_marks(rest)) > max_values:
            raise ValueError(f"more than {max_values} values")


_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


def _count_marks(data: bytes) -> int:
    """What begins a list, an object or a value that is not the first in there."""
    return sum(map(data.count, (b",", b"[", b"{")))


def parse_object(
    data: bytes, max_size: int = MAX_SIZE, max_values: int = MAX_VALUES
) -> dict[str, Any]:
    """Parse a JSON object: a line, or a whole document, of at most ``max_size`` bytes.

    Raises:
        ValueError: saying what is wrong with it, and at which column where that is known.
    """
    if len(data) > max_size:
        raise ValueError(f"longer than {max_size} bytes")
    check_values(data, max_values)
    if b"\0" in data:
        raise ValueError(f"column {data.index(0) + 1}: a NUL byte")
    try:
        value = _DECODER.decode(data.decode())
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise ValueError(f"column {error.start + 1}: not UTF-8: {error.reason}") from error
    except UnicodeEncodeError as error:
        raise ValueError("a lone surrogate, which no UTF-8 text can hold") from error
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"{line}column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from error
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, not an object")
    if _is_deeper(value, MAX_DEPTH):
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ValueError("a number too large for a float: it would become Infinity")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=no_duplicates, parse_constant=_no_constant, parse_float=_finite
)


def _is_deeper(value: dict[str, Any] | list[Any], depth: int) -> bool:
    """Whether lists and objects are nested more than ``depth`` deep in a parsed document."""
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(
        _is_deeper(item, depth - 1) for item in inner if isinstance(item, dict | list)
    )
