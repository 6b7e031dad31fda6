"""How one file is read, hashed and written durably."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fcntl import ioctl
from functools import cache
from io import FileIO
from itertools import cycle, repeat
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.mounts import LEFTOVER, is_network, refresh

BLOCK = 1 << 20
PART = 16 << 20
"""Bytes of a large file that have a hash of their own, so that it can be verified in parts."""
UNCACHED = 0.25
"""Share of this machine's memory: a file above it is read past the page cache, which would lose its
beginning, and what others have there, before anyone reads it again."""
SMALL = 4 << 20
"""Bytes of a file whose reading is worth no other thread."""
_ALONE = 1 << 16
"""Bytes that are hashed sooner than another thread is told to."""
_RWF_DONTCACHE = 0x80
"""Flag of ``preadv2`` since Linux 6.14 (``linux/fs.h``): what a read brings into the page cache
leaves it again; what was there stays."""
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


@cache
def _memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class PageCache:
    """How bytes are transferred, through the page cache or past it.

    Args:
        is_passed: what is transferred does not stay there, as far as the system has a call for it.
    """

    def __init__(self, *, is_passed: bool) -> None:
        self.is_passed = is_passed
        self._flags = _RWF_DONTCACHE if is_passed and sys.platform == "linux" else 0

    @classmethod
    def of(cls, size: int) -> Self:
        """For a file of ``size`` bytes, see :data:`UNCACHED`."""
        return cls(is_passed=size > UNCACHED * _memory())

    def read(self, descriptor: int, view: memoryview, begin: int) -> int:
        """Fill some of ``view`` with what a file has at ``begin``; return how many bytes."""
        count = self._transfer(lambda flags: os.preadv(descriptor, [view], begin, flags))
        if self.is_passed and not self._flags and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, begin, count, os.POSIX_FADV_DONTNEED)
        return count

    def write(self, descriptor: int, view: memoryview, begin: int) -> int:
        """Write some of ``view`` to a file at ``begin``; return how many bytes."""
        return self._transfer(lambda flags: os.pwritev(descriptor, [view], begin, flags))

    def _transfer(self, call: Callable[[int], int]) -> int:
        flags = self._flags  # another thread may have changed them when the call comes back
        try:
            return call(flags)
        except OSError as error:
            if not flags or error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            self._flags = 0  # an older kernel, or a filesystem without it
            return call(0)


def read_ahead(
    file: FileIO, begin: int = 0, end: int = sys.maxsize, length: int = BLOCK
) -> Generator[memoryview, None, None]:
    """The bytes of a file from ``begin`` to ``end``, or to where it ends, in blocks of ``length``;
    each is read in another thread while the one before is used.

    A block is valid until the next one is asked for. The position of ``file`` does not move. A
    large file does not stay in the page cache, see :data:`UNCACHED`, where the system has a call
    for that.

    Raises:
        OSError: if they cannot be read.
    """
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    cache = PageCache.of(size)
    length = max(min(length, size - begin, end - begin), 1)
    buffers = cycle([memoryview(bytearray(length)) for _ in range(2)])

    def read(begin: int) -> memoryview:
        view = next(buffers)[: end - begin]
        filled = 0
        while filled < len(view) and (
            count := cache.read(descriptor, view[filled:], begin + filled)
        ):
            filled += count
        return view[:filled]

    block = read(begin)
    if min(size, end) - begin <= SMALL:  # read sooner than a thread is started
        while block:
            yield block
            begin += len(block)
            block = read(begin)
        return
    with ThreadPoolExecutor(1) as reader:
        while block:
            begin += len(block)
            coming = reader.submit(read, begin)
            yield block
            block = coming.result()


class Cutter:
    """SHA-256 of pieces, one behind the other, of bytes as they come.

    Args:
        sizes: bytes of each piece; what comes behind the last one is not hashed.
        hashes: gets the SHA-256 of each.
    """

    def __init__(self, sizes: Iterable[int], hashes: list[str]) -> None:
        self._sizes, self._hashes = iter(sizes), hashes
        self._next()

    def _next(self) -> None:
        """Begin the next piece that is not empty."""
        while (size := next(self._sizes, None)) == 0:
            self._hashes.append(hashlib.sha256().hexdigest())
        self._left, self._digest, self._is_begun = size, hashlib.sha256(), False

    def _end(self) -> None:
        self._hashes.append(self._digest.hexdigest())
        self._next()

    def update(self, view: memoryview) -> None:
        """Hash what comes behind what was hashed before."""
        while view and self._left is not None:
            piece = view[: self._left]
            self._digest.update(piece)
            self._is_begun = True
            self._left -= len(piece)
            view = view[len(piece) :]
            if not self._left:
                self._end()

    def end(self) -> None:
        """End a piece of which not all came."""
        if self._is_begun:
            self._end()


class Hasher:
    """Size and SHA-256 of bytes as they come.

    Args:
        parts: gets the SHA-256 of each :data:`PART` bytes too; None: they are not hashed.
        sizes: of pieces, in the place of parts; see :class:`Cutter`. They are hashed here, the
            whole in another thread.
    """

    def __init__(self, parts: list[str] | None = None, sizes: Iterable[int] | None = None) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._cutter = None if parts is None else Cutter(sizes or repeat(PART), parts)
        self._beside: ThreadPoolExecutor | None = None

    def update(self, view: memoryview) -> None:
        """Hash what comes behind what was hashed before."""
        self.size += len(view)
        if self._cutter is None or len(view) < _ALONE:
            self._digest.update(view)
            if self._cutter is not None:
                self._cutter.update(view)
            return
        self._beside = self._beside or ThreadPoolExecutor(1)
        whole = self._beside.submit(self._digest.update, view)
        self._cutter.update(view)
        whole.result()

    def take(
        self,
        file: FileIO,
        size: int = sys.maxsize,
        advance: Callable[[int], None] = lambda size: None,
    ) -> Self:
        """Hash what ``file`` holds from its position: ``size`` bytes, or all."""
        begin, before = file.tell(), self.size
        for block in read_ahead(file, begin, begin + size):
            self.update(block)
            advance(len(block))
        file.seek(begin + self.size - before)
        return self

    def record(self) -> FileRecord:
        """Size and hash of all of it; the last part, which is shorter, is ended."""
        if self._cutter is not None:
            self._cutter.end()
        if self._beside is not None:
            self._beside.shutdown()
            self._beside = None
        return FileRecord(size=self.size, sha256=self._digest.hexdigest())


def hash_file(
    path: Path,
    advance: Callable[[int], None] = lambda size: None,
    parts: list[str] | None = None,
    sizes: Iterable[int] | None = None,
) -> FileRecord:
    """Size and SHA-256 of a regular file.

    It is read once; reading, hashing the whole and hashing parts is done side by side.

    Args:
        parts: gets the SHA-256 of each :data:`PART` bytes.
        sizes: bytes of each part, where they are others.

    Raises:
        OSError: as :func:`open_regular`.
    """
    with open_regular(path) as file:
        return Hasher(parts, sizes).take(file, advance=advance).record()


def has_content(path: Path, record: FileRecord) -> bool:
    """Whether a regular file has this size and SHA-256; of one with another size nothing is read:
    a sparse file of any size costs nothing. False also where it cannot be read."""
    try:
        return path.lstat().st_size == record.size and hash_file(path) == record
    except OSError:
        return False


def hash_range(
    path: Path, begin: int, sizes: Iterable[int], advance: Callable[[int], None] = lambda size: None
) -> list[str]:
    """SHA-256 of pieces of a regular file that lie one behind the other.

    Args:
        begin: the first byte of the first one.
        sizes: bytes of each; of one that lies behind the end of the file it is that of no bytes.

    Raises:
        OSError: as :func:`open_regular`.
    """
    hashes: list[str] = []
    wanted = [*sizes]
    cutter = Cutter(wanted, hashes)
    with open_regular(path) as file:
        for block in read_ahead(file, begin, begin + sum(wanted)):
            cutter.update(block)
            advance(len(block))
    cutter.end()
    return hashes + [hashlib.sha256().hexdigest()] * (len(wanted) - len(hashes))


def is_made_of(
    path: Path,
    begins: Sequence[int],
    hashes: Sequence[str],
    workers: int,
    advance: Callable[[int], None] = lambda size: None,
) -> bool:
    """Whether the pieces of a regular file have these SHA-256; hashed side by side.

    Args:
        begins: the first byte of each piece, and the end of the last one: the size of the file.
        workers: pieces that are hashed at a time.

    Raises:
        OSError: as :func:`open_regular`.
    """

    def is_right(number: int) -> bool:
        begin, end = begins[number : number + 2]
        return hash_range(path, begin, [end - begin], advance) == [hashes[number]]

    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size != begins[-1]:
            return False
    with ThreadPoolExecutor(workers) as pool:
        return all(pool.map(is_right, range(len(hashes))))


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
        resume: append to what the file holds already, if it is there; that is hashed first.
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
        self.advance = advance
        self._parts = parts
        self._hasher = Hasher(parts)
        self._cache = PageCache(is_passed=False)
        if is_there:
            self._hasher.take(self._file, advance=advance)

    def reserve(self, size: int) -> None:
        """Allocate ``size`` bytes now, so that a full disk shows before the work is done.

        Raises:
            OSError: ENOSPC, if they are not there.
        """
        self._cache = PageCache.of(size)
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
        if not self._cache.is_passed:
            self._cache = PageCache.of(self._hasher.size)
        written = len(view) if self._shared else 0
        try:
            while written < len(view):
                written += self._write(view[written:])
        except OSError as error:
            self._refuse(error, self._hasher.size)
        self.advance(len(view))
        return len(view)

    def _write(self, view: memoryview) -> int:
        """Write some of ``view``; return how many bytes."""
        if not self._cache.is_passed:
            return self._file.write(view) or 0
        descriptor, position = self._file.fileno(), self._file.tell()
        count = self._cache.write(descriptor, view, position)
        self._file.seek(position + count)
        return count

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
        self.advance(-self._hasher.size)
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
    that somebody still has open is not a file either.
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
