"""Turns at reading: how many rules read artifacts at the same time on one host, and how fast.

Engines spread verifications over hosts, and several may come to one: more readers than its disk or
its network can serve make each of them slower, and training beside them too. A turn is a lock on a
file in the host's own temporary folder, which the kernel releases when its holder dies; in storage
that hosts share, it would bind all of them together.
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from wmtp_assets.base.errors import StoreError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.base.settings import VERIFY_VARIABLE, read_verify_at_once
from wmtp_assets.storage.locks import make_lock

LOOK_AGAIN = 0.2
"""Seconds, about, between two looks for a turn that is free."""


def folder() -> Path:
    """Where the turns of this user lie on this host."""
    return Path(tempfile.gettempdir()) / f"wmtp-verify-{os.getuid()}"


@contextmanager
def turn(what: str, say: Say = silent) -> Iterator[None]:
    """Inside, one of ``WMTP_VERIFY_AT_ONCE`` turns of this host is taken; without that, at once.

    Args:
        what: reads; for the line that says that it waits.

    Raises:
        SpecError: if the variable is malformed.
        StoreError: if there can be no turns in the temporary folder.
    """
    count = read_verify_at_once()
    if count is None:
        yield
        return
    lock = _take(count, what, say)
    try:
        yield
    finally:
        lock.release()


class Pace:
    """Lets the threads of one verification read no more bytes a second than they may, together.

    Args:
        rate: bytes a second; None: as many as they can.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        rate: int | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._lock = threading.Lock()
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._due = clock()

    def __call__(self, size: int) -> None:
        """Count bytes that were read; return when more may be."""
        if self._rate is None:
            return
        with self._lock:
            self._due = max(self._due, self._clock()) + size / self._rate
            due = self._due
        self._sleep(max(due - self._clock(), 0))


def _take(count: int, what: str, say: Say) -> FileLock:
    """The first of ``count`` locks that is free; waits for one."""
    is_told = False
    try:
        folder().mkdir(mode=0o700, exist_ok=True)
        locks = [make_lock(folder() / f"{number}.lock") for number in range(count)]
        while True:
            for lock in locks:
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                return lock
            if not is_told:
                say(f"{what}: waiting for one of {count} turns on this host ({VERIFY_VARIABLE})")
                is_told = True
            time.sleep(LOOK_AGAIN * random.uniform(0.5, 1.5))
    except OSError as error:
        raise StoreError(
            f"{VERIFY_VARIABLE} is set, but no lock can be taken in {folder()} ({error}). Set "
            f"TMPDIR to a folder on a disk of this host, or unset {VERIFY_VARIABLE}"
        ) from error
