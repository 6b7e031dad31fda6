"""What storage asks of a filesystem: to swap two folders in one step, locks, links, renames.

Linux has ``renameat2(RENAME_EXCHANGE)``, macOS ``renamex_np(RENAME_SWAP)``. Where the system or
the filesystem has neither (``EINVAL``, ``ENOSYS``, ``ENOTSUP``), the swap takes three renames,
and an interrupted one is completed by :func:`recover`. A storage root also needs file locks, hard
links and renames of folders. Object-store mounts and many FUSE filesystems lack one or the other: a
mounted folder that is published to does without, our own storage root cannot.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from wmtp_assets.storage.files import fsync_folder, names_below, raise_it
from wmtp_assets.storage.mounts import has_mounts

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_RENAME_SWAP = 2  # macOS sys/stdio.h

_NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

UNSUPPORTED = frozenset(
    (
        errno.EINVAL,
        errno.EMLINK,
        errno.ENOLCK,
        errno.ENOSYS,
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EXDEV,
    )
)
"""What systems say where a filesystem cannot do something, whoever asks."""

LOCKS, LINKS, RENAMES = "file locks (flock)", "hard links", "renames of folders"

_SOUND: set[Path] = set()
"""Folders of which this process knows already that they lack nothing."""


def _aside(current: Path) -> Path:
    """Where the fallback keeps ``current`` between its renames."""
    return current.with_name(f"{current.name}.wmtp-old")


def _native(first: Path, second: Path) -> int:
    """Exchange through the system; return 0 or the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    one, two = os.fsencode(first), os.fsencode(second)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(one, two, _RENAME_SWAP)
    elif hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, two, _RENAME_EXCHANGE)
    else:
        return errno.ENOSYS
    return ctypes.get_errno() if failed else 0


def exchange_at_once(new: Path, current: Path) -> bool:
    """Make ``current`` what ``new`` is now, and ``new`` what ``current`` was, in one step.

    Both are existing folders on one filesystem.

    Returns:
        False where system or filesystem cannot do that; nothing has changed then.

    Raises:
        OSError: if the system refuses; both folders are then as before.
    """
    code = _native(new, current)
    if code and code not in _NO_EXCHANGE:
        raise OSError(code, os.strerror(code), str(current))
    return code == 0


def exchange(new: Path, current: Path) -> bool:
    """Make ``current`` what ``new`` is now, and ``new`` what ``current`` was.

    A reader sees the old folder or the new one; in the fallback it may for a moment see none.

    Raises:
        OSError: as :func:`exchange_at_once`.
    """
    if exchange_at_once(new, current):
        return True
    aside = _aside(current)
    current.rename(aside)
    try:
        new.rename(current)
        try:
            aside.rename(new)
        except OSError:
            current.rename(new)
            raise
    except OSError:
        aside.rename(current)
        raise
    return True


def install(new: Path, current: Path, swap: Callable[[Path, Path], bool] = exchange) -> bool:
    """Put a finished folder in the place of ``current``, durably; what was there is ``new`` then.

    The files in it are flushed already. ``current`` may be absent.

    Args:
        swap: :func:`exchange`, or :func:`exchange_at_once` where a reader must never find nothing.

    Returns:
        Whether it was done, as ``swap`` says.

    Raises:
        OSError: if the system refuses; no name has changed then, unless only its flush failed.
    """
    for folder, _, _ in os.walk(new):
        fsync_folder(Path(folder))
    if not current.is_dir():
        current.parent.mkdir(parents=True, exist_ok=True)
        new.rename(current)
    elif not swap(new, current):
        return False
    fsync_folder(current.parent)
    return True


def is_atomic(folder: Path) -> bool:
    """Whether the system swaps two folders below ``folder`` in one step; tried, and cleaned up.

    Raises:
        OSError: if none can be made there.
    """
    with tempfile.TemporaryDirectory(prefix=".wmtp-exchange-", dir=folder) as there:
        first, second = Path(there, "first"), Path(there, "second")
        first.mkdir()
        second.mkdir()
        return _native(first, second) == 0


def is_cut_off(current: Path) -> bool:
    """Whether a fallback swap of ``current`` is under way or was cut off."""
    return _aside(current).is_dir()


def recover(current: Path, discard: Callable[[Path], None]) -> None:
    """Complete a fallback swap of ``current`` that was cut off between its renames.

    Call it under the lock that also covers :func:`exchange`.

    Args:
        discard: removes a folder.
    """
    aside = _aside(current)
    if aside.is_dir() and current.exists():
        discard(aside)
    elif aside.is_dir():
        aside.rename(current)


def replace_linked(
    root: Path, current: Path, new: Path, files: Mapping[str, Path], ours: Collection[str]
) -> bool:
    """Give ``files`` their names in a folder, in one step; all our other files in it stay.

    No payload is moved: the next folder is built of hard links, to the new files and to those that
    stay, so that a process that has one open notices nothing. Where anything in the folder is not
    ours it is left alone: it would move.

    Args:
        current: the folder, below ``root``; it may be absent.
        new: where the next one is built; on the same filesystem, and absent. Afterwards it is what
            ``current`` was, or what was built of it so far.
        files: path in the folder → file to link there.
        ours: paths below ``root`` of the files that are ours, the new ones too.

    Returns:
        False where something there is not ours, or the filesystem exchanges no folders; nothing has
        changed then.

    Raises:
        OSError: if the system refuses; nothing has changed either, unless only a flush failed.
    """
    if not _is_only_ours(root, current, ours):
        return False
    staying = {p.relative_to(current).as_posix(): p for p in names_below(current, raise_it)}
    for name, source in {**staying, **files}.items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(source, new / name, follow_symlinks=False)
    for folder, _, _ in os.walk(new, topdown=False):
        _keep_rights(current / Path(folder).relative_to(new), Path(folder))
    return install(new, current, exchange_at_once)


def _is_only_ours(root: Path, current: Path, ours: Collection[str]) -> bool:
    """Whether a folder holds only our own regular files on one disk, in our own folders that we
    may write to, and no link leads to it."""
    above = [path for path in current.parents if root in path.parents]
    if any(path.is_symlink() for path in (current, *above)) or has_mounts(current):
        return False
    if not current.is_dir():
        return True
    device = current.parent.stat().st_dev
    files = {root / path for path in ours}
    folders = {parent for path in files for parent in path.parents}
    for parent, inner, names in os.walk(current, onerror=raise_it):
        folder = Path(parent)
        paths = [folder / name for name in names]
        if (
            folder not in folders
            or folder.lstat().st_dev != device
            or not os.access(folder, os.W_OK)
            or any((folder / name).is_symlink() for name in inner)
            or not files.issuperset(paths)
            or not all(stat.S_ISREG(path.lstat().st_mode) for path in paths)
        ):
            return False
    return True


def _keep_rights(old: Path, new: Path) -> None:
    """Give a folder the owner, mode and times of the one whose place it takes; where there is
    none, the group that it would have got there."""
    if old.is_dir():
        wanted, found = old.stat(), new.stat()
        if (wanted.st_uid, wanted.st_gid) != (found.st_uid, found.st_gid):
            os.chown(new, wanted.st_uid, wanted.st_gid)
        shutil.copystat(old, new)
        return
    wanted = next(path for path in old.parents if path.is_dir()).stat()
    if wanted.st_mode & stat.S_ISGID:
        os.chown(new, -1, wanted.st_gid)
        new.chmod(stat.S_IMODE(new.stat().st_mode) | stat.S_ISGID | (wanted.st_mode & 0o070))


def lacking(folder: Path) -> list[str]:
    """Which of :data:`LOCKS`, :data:`LINKS` and :data:`RENAMES` the filesystem of ``folder`` lacks.

    Each is tried in a temporary folder there, once per process where all work.

    Raises:
        OSError: if that cannot be made, or fails for another reason.
    """
    if folder in _SOUND:
        return []
    with (
        tempfile.TemporaryDirectory(prefix="probe-", dir=folder) as name,
        Path(name, "file").open("xb") as file,
    ):
        inner = Path(name, "folder")
        inner.mkdir()
        attempts: dict[str, Callable[[], object]] = {
            LOCKS: lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB),
            LINKS: lambda: os.link(file.name, inner / "link"),
            RENAMES: lambda: inner.rename(Path(name, "renamed")),
        }
        found: list[str] = []
        for what, attempt in attempts.items():
            try:
                attempt()
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
                found.append(what)
    if not found:
        _SOUND.add(folder)
    return found
