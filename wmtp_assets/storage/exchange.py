"""Swapping two folders in one step.

Linux has ``renameat2(RENAME_EXCHANGE)``, macOS ``renamex_np(RENAME_SWAP)``. Where the system or
the filesystem has neither (``EINVAL``, ``ENOSYS``, ``ENOTSUP``), the swap takes three renames,
and an interrupted one is completed by :func:`recover`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from wmtp_assets.storage.files import fsync_folder

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_RENAME_SWAP = 2  # macOS sys/stdio.h

_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


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
    if code and code not in _UNSUPPORTED:
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


def recover(current: Path) -> None:
    """Complete a fallback swap of ``current`` that was cut off between its renames.

    Call it under the lock that also covers :func:`exchange`.
    """
    aside = _aside(current)
    if aside.is_dir() and current.exists():
        shutil.rmtree(aside)
    elif aside.is_dir():
        aside.rename(current)
