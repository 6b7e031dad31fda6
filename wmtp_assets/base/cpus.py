"""How many CPUs this process may use: what it is bound to, and what its cgroups allow it.

Linux: ``cpu.max`` of cgroup v2 (``quota period`` in microseconds, or ``max``);
``cpu.cfs_quota_us`` (-1: no limit) and ``cpu.cfs_period_us`` of v1: see cgroups(7) and the kernel's
page ``cgroup-v2``. A limit binds everything below it, so each folder from the process's cgroup up
to the mount is read.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable_cpus(top: Path = Path("/")) -> int:
    """CPUs that this process may use, at least 1; a part of one counts as one.

    Args:
        top: the folder that holds ``proc/`` and ``sys/``.
    """
    if sys.platform != "linux":
        return os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(top)]
    return max(1, min(len(os.sched_getaffinity(0)), *quotas, sys.maxsize))


def _quotas(top: Path) -> Iterator[float]:
    """The limits that the process's cgroups have, in CPUs."""
    for mount, group in _cgroups(top):
        # in a container without a namespace of its own the folder of the group is not mounted
        for path in (group, *group.parents):
            folder = mount / path.relative_to("/")
            quota = _numbers(folder / "cpu.max") or (
                *_numbers(folder / "cpu.cfs_quota_us"),
                *_numbers(folder / "cpu.cfs_period_us"),
            )
            if len(quota) == 2 and quota[0] > 0 and quota[1] > 0:
                yield quota[0] / quota[1]


def _cgroups(top: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Mount and path of the cgroups that may limit CPUs: ``proc/self/cgroup`` has
    ``hierarchy:controllers:path`` in each line, and no controllers for v2."""
    mounts = top / "sys/fs/cgroup"
    try:
        lines = (top / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/") or ".." in path:  # above the namespace's own root
            path = "/"
        if not controllers:
            for mount in (mounts, mounts / "unified"):
                yield mount, PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            for mount in (mounts / controllers, mounts / "cpu"):
                yield mount, PurePosixPath(path)


def _numbers(path: Path) -> tuple[int, ...]:
    """The whole numbers in a file; none where there is no such file, or it says ``max``."""
    try:
        return tuple(map(int, path.read_text().split()))
    except (OSError, ValueError):
        return ()
