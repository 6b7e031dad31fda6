"""Parts of files that are elsewhere, read as if the files were here.

What reads a file is given :meth:`Excerpts.open` in place of :func:`open_whole`. Of bytes that are
not here it gets :class:`Hole`, never zeros; whoever can fetch them adds them, and calls it again.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

OpenFile = Callable[[Path], IO[bytes]]
"""How a file is opened to be read."""


def open_whole(path: Path) -> IO[bytes]:
    """An :data:`OpenFile` for files that are here."""
    return path.open("rb")


class Hole(Exception):
    """Bytes were asked for that are not here.

    Attributes:
        path: of the file.
        begin, end: the first of them, and the one after the last.
    """

    def __init__(self, path: Path, begin: int, end: int) -> None:
        super().__init__(f"{path}: bytes {begin} to {end} are not here")
        self.path, self.begin, self.end = path, begin, end

    def __reduce__(self) -> tuple[type[Hole], tuple[Path, int, int]]:
        return Hole, (self.path, self.begin, self.end)


@dataclass(frozen=True)
class Excerpt:
    """What is here of one file.

    Attributes:
        size: of the whole file, in bytes.
        parts: first byte → the bytes from there on. What is read at a time lies in one part.
    """

    size: int
    parts: dict[int, bytes] = field(default_factory=dict)


class Excerpts(dict[Path, Excerpt]):
    """Parts of several files, by the paths that the files would have."""

    def add(self, path: Path, begin: int, data: bytes) -> None:
        """Have more of a file."""
        parts = self[path].parts
        parts[begin] = max(parts.get(begin, b""), data, key=len)

    def read(self, path: Path, begin: int = 0, end: int | None = None) -> bytes:
        """Bytes of a file, up to its end.

        Raises:
            FileNotFoundError: if nothing is known of the file.
            Hole: if they are not here.
        """
        if path not in self:
            raise FileNotFoundError(f"{path} is not among the excerpts")
        size = self[path].size
        end = size if end is None else min(end, size)
        if end <= begin:
            return b""
        for first, data in self[path].parts.items():
            if first <= begin and end <= first + len(data):
                return data[begin - first : end - first]
        raise Hole(path, begin, end)

    def open(self, path: Path) -> IO[bytes]:
        """An :data:`OpenFile`: unbuffered, so that nothing is read that nobody asked for."""
        return _ExcerptFile(self, path)  # type: ignore[return-value]


class _ExcerptFile(io.RawIOBase):
    def __init__(self, excerpts: Excerpts, path: Path) -> None:
        self._excerpts, self._path, self._position = excerpts, path, 0
        excerpts.read(path, 0, 0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(
            whence, self._excerpts[self._path].size
        )
        if begin + offset < 0:
            raise ValueError(f"{self._path}: {begin + offset} is before its begin")
        self._position = begin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        end = None if size is None or size < 0 else self._position + size
        data = self._excerpts.read(self._path, self._position, end)
        self._position += len(data)
        return data
