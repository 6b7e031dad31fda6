"""What filesystems can do, and where they are mounted.

A storage root needs file locks, hard links and renames of folders. Object-store mounts and many
FUSE filesystems lack one or the other: a mounted folder that is published to does without, our own
storage root cannot.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

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

MOUNTS = Path("/proc/self/mountinfo")

_SOUND: set[Path] = set()
"""Folders of which this process knows already that they lack nothing."""


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
        found = [what for what, attempt in attempts.items() if _is_unsupported(attempt)]
    if not found:
        _SOUND.add(folder)
    return found


def _is_unsupported(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return True
    return False


def mount_points() -> list[Path]:
    """Where something is mounted; empty where the system does not say it (macOS).

    Format: proc_pid_mountinfo(5), which escapes blanks and the like.
    """
    try:
        lines = MOUNTS.read_bytes().splitlines()
    except OSError:
        return []
    escaped = (line.split(b" ")[4] for line in lines)
    names = (re.sub(rb"\\([0-7]{3})", lambda c: bytes([int(c[1], 8)]), name) for name in escaped)
    return [Path(os.fsdecode(name)) for name in names]


def has_mounts(folder: Path) -> bool:
    """Whether something is mounted at or below a folder."""
    place = folder.resolve()
    return any(mount.is_relative_to(place) for mount in mount_points())
