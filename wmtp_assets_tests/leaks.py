"""What a process must not keep: threads and open files."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def open_files() -> list[str]:
    """Targets of this process's descriptors, where the system tells them."""
    found = []
    for link in Path("/proc/self/fd").glob("*"):
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:  # the one that listed them
            continue
    return sorted(found)


@contextmanager
def leaves_nothing() -> Iterator[None]:
    """Fail where the block leaves a thread or an open file behind, also one that a cycle holds.

    Nothing is collected meanwhile: what tests before this one left stays what it is.
    """
    gc.disable()
    try:
        before = open_files(), threading.active_count()
        yield
        assert (open_files(), threading.active_count()) == before
    finally:
        gc.enable()
