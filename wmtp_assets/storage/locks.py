"""Where locks are made: locks that the system releases when their holder dies, or none.

``filelock`` takes a file that is there for a lock (``SoftFileLock``) where ``flock`` is unknown
(ENOSYS, as on Lustre with ``noflock``): a killed process would hold it until somebody removes it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from wmtp_assets.base.errors import LackingFilesystem, StoreError
from wmtp_assets.storage.exchange import LOCKS, UNSUPPORTED

NO_LOCKS = UNSUPPORTED - {errno.EPERM}
"""What ``flock`` says where there are no locks; EPERM is a right that lacks."""


def make_lock(path: Path) -> FileLock:
    """A lock on a file, which need not be there; nobody holds it yet."""
    return FileLock(path, fallback_to_soft=False)


def give_back(lock: FileLock) -> None:
    """Release a lock. The system is asked a second time where it refuses: else the lock would be
    held as long as this process lives.

    Raises:
        StoreError: if it refuses again.
    """
    try:
        lock.release()
    except OSError:
        try:
            lock.release()
        except OSError as error:
            raise StoreError(
                f"the lock {lock.lock_file} cannot be given back ({error.strerror}): nobody gets "
                "it before this process has ended. What was done under it is done"
            ) from error


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Wait for the lock on a file, and hold it.

    Raises:
        LackingFilesystem: if the filesystem has no locks.
        StoreError: as :func:`give_back`.
        OSError: if the disk refuses.
    """
    lock = make_lock(path)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise LackingFilesystem(
                f"the filesystem of {path.parent} has no {LOCKS}: two processes would write there "
                "at the same time. Nothing was changed; keep this folder on a local disk, or mount "
                "it with locks (Lustre: -o flock)"
            ) from error
        raise
    try:
        yield
    finally:
        give_back(lock)
