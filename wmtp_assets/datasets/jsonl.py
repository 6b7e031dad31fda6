"""Reading JSONL: line by line where it may be damaged or hostile, and rows by number.

Each line is checked as bytes before it is parsed, by
:func:`wmtp_assets.base.strict_json.parse_object`. Rows by number are read through the offsets that
were written with the file: ``index/{split}.offsets`` holds n + 1 little-endian unsigned 64-bit
numbers for a file of n lines: where each line begins, and the size of the file.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

from wmtp_assets.base.errors import BadLine, CorruptArtifact, MissingArtifact
from wmtp_assets.base.strict_json import MAX_SIZE
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


def offsets_file(split: str) -> str:
    """Name of a split's offsets in the processed artifact."""
    return f"index/{split}.offsets"


def pack_offsets(offsets: Iterable[int]) -> bytes:
    """Offsets as they stand in the file: little-endian u64."""
    return _little_endian(array("Q", offsets)).tobytes()


def _little_endian(numbers: array[int]) -> array[int]:
    """Numbers of this machine as the file has them, and the other way round."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


class JsonLines(Sequence[dict[str, Any]]):
    """A JSONL file as a sequence of objects; a row is read when it is asked for.

    May be pickled: a data loader's worker opens the file again.

    Raises:
        IndexError: for a row that is not there.
        CorruptArtifact: for a row that is no line of JSON.
    """

    def __init__(self, path: Path, offsets: Sequence[int]) -> None:
        self.path = path
        self._offsets = offsets
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        if offsets[0] != 0 or offsets[-1] != size:
            raise CorruptArtifact(
                f"{path} has {size} bytes, but its offsets go from {offsets[0]} to {offsets[-1]}: "
                "they belong to another file. Find out which is damaged with: wmtp verify"
            )

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def line(self, row: int) -> bytes:
        """The bytes of a row, without the newline."""
        count = len(self)
        if not -count <= row < count:
            raise IndexError(f"{self.path} has {count} rows: there is no row {row}")
        row %= count
        begin = self._offsets[row]
        line = self._data[begin : self._offsets[row + 1]]
        is_line = line.endswith(b"\n") and b"\n" not in line[:-1]
        if not is_line or (begin and self._data[begin - 1] != ord("\n")):
            raise CorruptArtifact(
                f"{self.path}: row {row} is no line: file and offsets do not belong together. "
                "Find out which is damaged with: wmtp verify"
            )
        return line[:-1]

    @overload
    def __getitem__(self, row: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, row: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, row: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        try:
            return json.loads(self.line(row))
        except (ValueError, RecursionError) as error:
            raise CorruptArtifact(f"{self.path}: row {row}: not JSON: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return open_jsonl, (self.path,)


def open_jsonl(path: str | Path) -> JsonLines:
    """Open a JSONL file for reading rows by number.

    ``processed/{split}.jsonl`` has its offsets in ``index/{split}.offsets``, so that opening it
    costs nothing; any other file is scanned once.

    Args:
        path: of the JSONL file.

    Raises:
        MissingArtifact: if the file is not there.
        CorruptArtifact: if the offsets are none, or belong to another file.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingArtifact(f"{path} does not exist; see what is there with: wmtp status")
    stored = path.parent.parent / offsets_file(path.stem)
    if path.parent.name == "processed" and stored.is_file():
        return JsonLines(path, _read_offsets(stored))
    with path.open("rb") as file:
        offsets = array("Q", accumulate(map(len, file), initial=0))
    return JsonLines(path, offsets)


def _read_offsets(path: Path) -> Sequence[int]:
    """The offsets, mapped and not read."""
    size = path.stat().st_size
    if not size or size % 8:
        raise CorruptArtifact(
            f"{path} has {size} bytes: not a number of unsigned 64-bit integers. Find out more "
            "with: wmtp verify"
        )
    if sys.byteorder == "big":
        return _little_endian(array("Q", path.read_bytes()))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return memoryview(mapped).cast("Q")
