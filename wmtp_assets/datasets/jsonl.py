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
import re
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, overload

from wmtp_assets.base.errors import BadLine, CorruptArtifact, MissingArtifact
from wmtp_assets.base.strict_json import MAX_SIZE
from wmtp_assets.storage.files import BLOCK
from wmtp_assets.storage.verified import VerifiedFile, read_verified


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


def count_lines(path: Path, max_size: int = MAX_SIZE) -> int:
    """How many newlines a file has.

    Raises:
        BadLine: where far more than ``max_size`` bytes have none: a hole of any size costs nothing.
        OSError: if it cannot be read.
    """
    lines = without = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            found = block.count(b"\n")
            lines, without = lines + found, 0 if found else without + len(block)
            if without > max_size:
                raise BadLine(path, lines + 1, f"longer than {max_size} bytes")
    return lines


def offsets_file(split: str) -> str:
    """Name of a split's offsets in the processed artifact."""
    return f"index/{split}.offsets"


def pack_offsets(offsets: Iterable[int]) -> bytes:
    """Offsets as they are in the file: little-endian u64."""
    return _little_endian(array("Q", offsets)).tobytes()


def _little_endian(numbers: array[int]) -> array[int]:
    """Numbers of this machine as the file has them, and the other way round."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


class VerifiedData:
    """The bytes of a file that a manifest lists, of which each piece is verified when it is needed.

    A piece is read once, and kept in private memory, from where its bytes are handed out.

    Raises:
        CorruptArtifact: where bytes of a piece that is not the committed one are wanted.
    """

    def __init__(self, file: VerifiedFile) -> None:
        self.file = file
        self._begins = [piece.begin for piece in file.pieces]
        self._read: dict[int, memoryview] = {}

    def __len__(self) -> int:
        return self.file.listed.record.size

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> bytes: ...

    def __getitem__(self, at: int | slice) -> int | bytes:
        if isinstance(at, int):
            return self[at : at + 1][0]
        begin, end, _ = at.indices(len(self))
        numbers = range(bisect_right(self._begins, begin) - 1, bisect_left(self._begins, end))
        return b"".join(
            self._piece(number)[max(begin - first, 0) : end - first]
            for number in numbers
            for first in self._begins[number : number + 1]
        )

    def _piece(self, number: int) -> memoryview:
        if number not in self._read:
            self._read[number] = self.file.read(self.file.pieces[number])
        return self._read[number]


class JsonLines(Sequence[dict[str, Any]]):
    """A JSONL file as a sequence of objects; a row is read when it is asked for.

    May be pickled: a data loader's worker opens the file again.

    Args:
        path: of the file.
        offsets: n + 1 numbers for n rows: where each begins, and the size of the file.
        data: verified; None: the file is mapped.

    Raises:
        IndexError: for a row that is not there.
        CorruptArtifact: for a row that is not a line of JSON, or is not the committed one.
    """

    def __init__(
        self, path: Path, offsets: Sequence[int], data: VerifiedData | None = None
    ) -> None:
        self.path = path
        self._offsets = offsets
        self._verified = data
        self._data = _map(path) if data is None else data
        size = len(self._data)
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
                f"{self.path}: row {row} is not a line: file and offsets do not belong together. "
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
        if self._verified is None:
            return open_jsonl, (self.path,)
        return _open_again, (self.path, self._verified.file.listed.record.sha256)


def _map(path: Path) -> mmap.mmap | bytes:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""


def open_jsonl(path: str | Path, *, verify: bool = False) -> JsonLines:
    """Open a JSONL file for reading rows by number.

    ``processed/{split}.jsonl`` has its offsets in ``index/{split}.offsets``, so that opening it
    costs nothing; any other file is scanned once.

    With ``verify=True`` a row is compared with the hashes of the file's manifest before it is
    handed out: the part of 16 MiB that it lies in, or a small file as a whole. Each part is read
    once and kept in private memory, where it was hashed, so that memory grows to the size of what
    was read; a file without stored offsets is read whole when it is opened. A commit in between
    changes nothing: the rows stay those of the version that was opened, in a data loader's worker,
    too, which refuses another one.

    Args:
        path: of the JSONL file.

    Raises:
        MissingArtifact: if the file is not there; with ``verify``: or no manifest.
        CorruptArtifact: if the offsets are none, or belong to another file; with ``verify``: naming
            file and bytes, if they are not the committed ones, or no manifest lists the file.
    """
    path = Path(path)
    if verify:
        return read_verified(path, _verified_lines)
    if not path.is_file():
        raise MissingArtifact(f"{path} does not exist; see what is there with: wmtp status")
    stored = path.parent.parent / offsets_file(path.stem)
    if path.parent.name == "processed" and stored.is_file():
        return JsonLines(path, _read_offsets(stored))
    return JsonLines(path, array("Q", _line_ends(_blocks(path))))


def _verified_lines(file: VerifiedFile) -> JsonLines:
    listed = file.listed
    data = VerifiedData(file)
    folder, _, name = listed.name.rpartition("/")
    stored = listed.beside(offsets_file(name.removesuffix(".jsonl")))
    if folder == "processed" and stored is not None:
        with closing(VerifiedFile(stored)) as offsets:
            content = offsets.read_whole()
        return JsonLines(listed.path, _as_offsets(content, stored.path), data)
    pieces = (data[piece.begin : piece.end] for piece in file.pieces)
    return JsonLines(listed.path, array("Q", _line_ends(pieces)), data)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        yield from iter(partial(file.read, BLOCK), b"")


def _line_ends(blocks: Iterable[bytes]) -> Iterator[int]:
    """0, and the byte behind each line; a line is never held as a whole."""
    begin = end = 0
    yield end
    for block in blocks:
        for newline in re.finditer(b"\n", block):
            end = begin + newline.end()
            yield end
        begin += len(block)
    if end < begin:
        yield begin


def _open_again(path: Path, sha256: str) -> JsonLines:
    """A verified file in another process: the version that was opened in the first one."""

    def read(file: VerifiedFile) -> JsonLines:
        if file.listed.record.sha256 != sha256:
            raise CorruptArtifact(
                f"{path} was committed anew since it was opened: two processes would read two "
                "versions of it. Open it again"
            )
        return _verified_lines(file)

    return read_verified(path, read)


def _as_offsets(data: memoryview, path: Path) -> Sequence[int]:
    if not len(data) or len(data) % 8:
        raise CorruptArtifact(
            f"{path} has {len(data)} bytes: not a number of unsigned 64-bit integers. Find out "
            "more with: wmtp verify"
        )
    return data.cast("Q") if sys.byteorder == "little" else _little_endian(array("Q", bytes(data)))


def _read_offsets(path: Path) -> Sequence[int]:
    """The offsets, mapped and not read."""
    return _as_offsets(memoryview(_map(path)), path)
