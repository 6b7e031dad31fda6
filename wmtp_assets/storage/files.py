"""How one file is read, hashed and written durably."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from fcntl import ioctl
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.mounts import LEFTOVER, is_network, refresh

BLOCK = 1 << 20
PART = 16 << 20
"""Bytes of a large file that have a hash of their own, so that it can be verified in parts."""
DISK_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


def open_regular(path: Path) -> FileIO:
    """Open a regular file for reading; never waits, as opening a named pipe would.

    On a network filesystem it is the one that has this path on the server now.

    Raises:
        OSError: if it cannot be read; ELOOP for a symbolic link, EINVAL for a folder or device.
    """
    refresh(path.parent)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return FileIO(descriptor)


class Hasher:
    """Size and SHA-256 of bytes as they come.

    Args:
        parts: gets the SHA-256 of each :data:`PART` bytes too; None: they are not hashed.
    """

    def __init__(self, parts: list[str] | None = None) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._parts = parts
        self._part = hashlib.sha256()

    def update(self, view: memoryview) -> None:
        """Hash what comes behind what was hashed before."""
        self._digest.update(view)
        before = self.size
        self.size += len(view)
        if self._parts is not None:
            for begin in range(before - before % PART, self.size, PART):
                self._part.update(view[max(begin - before, 0) : begin + PART - before])
                if begin + PART <= self.size:
                    self._parts.append(self._part.hexdigest())
                    self._part = hashlib.sha256()

    def take(
        self,
        file: FileIO,
        size: int = sys.maxsize,
        advance: Callable[[int], None] = lambda size: None,
    ) -> Self:
        """Hash what ``file`` holds from where it stands: ``size`` bytes, or all."""
        buffer = memoryview(bytearray(min(size, BLOCK)))
        while count := file.readinto(buffer[:size]):
            self.update(buffer[:count])
            advance(count)
            size -= count
        return self

    def record(self) -> FileRecord:
        """Size and hash of all of it; the last part, which is shorter, is ended."""
        if self._parts is not None and self.size % PART:
            self._parts.append(self._part.hexdigest())
        return FileRecord(size=self.size, sha256=self._digest.hexdigest())


def hash_file(
    path: Path,
    advance: Callable[[int], None] = lambda size: None,
    parts: list[str] | None = None,
) -> FileRecord:
    """Size and SHA-256 of a regular file, read in blocks of 1 MiB.

    Args:
        parts: gets the SHA-256 of each :data:`PART` bytes.

    Raises:
        OSError: as :func:`open_regular`.
    """
    with open_regular(path) as file:
        return Hasher(parts).take(file, advance=advance).record()


def hash_pieces(
    path: Path, sizes: Iterable[int], advance: Callable[[int], None] = lambda size: None
) -> tuple[FileRecord, list[str]]:
    """Size and SHA-256 of a regular file, and the SHA-256 of each piece, in one pass.

    Args:
        sizes: bytes of the pieces, from the file's beginning.

    Raises:
        OSError: as :func:`open_regular`.
    """
    whole, hashes = Hasher(), list[str]()
    buffer = memoryview(bytearray(BLOCK))
    with open_regular(path) as file:
        for size in sizes:
            piece = Hasher()
            while count := file.readinto(buffer[: size - piece.size]):
                whole.update(buffer[:count])
                piece.update(buffer[:count])
                advance(count)
            hashes.append(piece.record().sha256)
        return whole.take(file).record(), hashes


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes) -> None:
    """Write a small file that is not there yet, durably.

    Raises:
        FileExistsError: if it is.
    """
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


_FICLONE = 0x40049409
"""``ioctl`` of Linux, FICLONE: two files share their blocks until one of them is written."""


def clone(source: Path, target: Path) -> bool:
    """Make ``target`` a new file that shares the bytes of ``source``, where the filesystem can.

    Returns:
        False: it cannot (two filesystems, or none of Btrfs, XFS and the like), and there is no
        target.
    """
    try:
        with source.open("rb") as one, target.open("xb") as other:
            ioctl(other.fileno(), _FICLONE, one.fileno())
            os.fsync(other.fileno())
    except FileExistsError:
        return False
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True


def replace_file(path: Path, data: bytes) -> None:
    """Write a small file so that a reader sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        write_new(temporary, data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class HashedFile:
    """A new binary file that is hashed while it is written; fsynced and recorded when closed.

    Has the part of ``typing.BinaryIO`` that ``huggingface_hub``'s ``http_get`` uses to write.

    Args:
        path: of the file.
        done: told size and hash when it is closed.
        advance: told the bytes of each write, and a negative number when it starts over.
        parts: gets the SHA-256 of each :data:`PART` bytes; None: they are not hashed.
        resume: go on behind what the file holds already, if it is there; that is hashed first.
        shared: the file is there, and shares the bytes that will be written with another one: they
            are hashed, and the file is left as it is.
    """

    def __init__(
        self,
        path: Path,
        done: Callable[[FileRecord], None],
        advance: Callable[[int], None],
        parts: list[str] | None = None,
        *,
        resume: bool = False,
        shared: bool = False,
    ) -> None:
        is_there = resume and path.exists()
        self._file = path.open("rb" if shared else "r+b" if is_there else "xb", buffering=0)
        self._shared = shared
        self._done = done
        self._advance = advance
        self._parts = parts
        self._hasher = Hasher(parts)
        if is_there:
            self._hasher.take(self._file, advance=advance)

    def reserve(self, size: int) -> None:
        """Allocate ``size`` bytes now, so that a full disk shows before the work is done.

        Raises:
            OSError: ENOSPC, if they are not there.
        """
        if size and not self._shared and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._file.fileno(), 0, size)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    self._refuse(error, size)

    def write(self, data: bytes | memoryview) -> int:
        """Append ``data`` whole; return its size in bytes."""
        view = memoryview(data).cast("B")
        self._hasher.update(view)
        written = len(view) if self._shared else 0
        try:
            while written < len(view):
                written += self._file.write(view[written:]) or 0
        except OSError as error:
            self._refuse(error, self._hasher.size)
        self._advance(len(view))
        return len(view)

    def _refuse(self, error: OSError, size: int) -> NoReturn:
        """Raise ``error``, saying on a full disk which file needs how much."""
        if error.errno not in DISK_FULL:
            raise error
        needed = f"{human_bytes(size)} or more needed for one file"
        raise OSError(error.errno, f"{needed}: {error.strerror}", self._file.name) from error

    def tell(self) -> int:
        return self._hasher.size

    def seek(self, position: int) -> int:
        """Start over: ``position`` must be 0, and what was written is forgotten."""
        if position:
            raise ValueError("a file that is hashed while it is written can only start over")
        self._advance(-self._hasher.size)
        if self._parts is not None:
            self._parts.clear()
        self._hasher = Hasher(self._parts)
        return self._file.seek(0)

    def truncate(self) -> int:
        """Cut the file at the current position."""
        return self._file.truncate(self._hasher.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if error is not None:
                return
            if not self._shared:
                self._file.truncate(self._hasher.size)
            os.fsync(self._file.fileno())
        self._done(self._hasher.record())


def raise_it(error: OSError) -> NoReturn:
    """What :func:`names_below` and :func:`os.walk` are given where no error may be passed over."""
    raise error


def names_below(folder: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    """Every file, symbolic link and special file below ``folder``; ``unreadable`` gets the errors.

    A folder that is not there holds nothing. On a network filesystem, a file that was removed and
    that somebody still has open is no file either.
    """
    has_leftovers = is_network(folder)

    def told(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            unreadable(error)

    for parent, folders, files in os.walk(folder, onerror=told):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*files, *links):
            if not (has_leftovers and LEFTOVER.fullmatch(name)):
                yield Path(parent, name)
