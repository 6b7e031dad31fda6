"""What is mounted where."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")


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
