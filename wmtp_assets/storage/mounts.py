"""What is mounted where, and what is different where other hosts write to it too.

A client of NFS may believe names and times that it saw up to a minute ago, gives a file that is
removed while it is open another name, and has another clock than the server.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

NETWORK = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4"),
        *("orangefs", "panfs", "smb3", "wekafs"),
    )
)
"""Filesystems of several hosts. FUSE is taken for one: JuiceFS, sshfs and s3fs are."""

LEFTOVER = re.compile(r"\.nfs[0-9a-f]{24}|\.fuse_hidden[0-9a-f]{16}")
"""Names of files that are removed and still open: fs/nfs/unlink.c of Linux (``.nfs``, file number
in 16 hexadecimal digits, counter in 8), lib/fuse.c of libfuse. They go when the file is closed."""


@dataclass(frozen=True)
class Mount:
    """One mounted filesystem.

    Attributes:
        kind: its type, such as ``nfs4``.
        origin: what is mounted, such as ``server:/export``.
        options: those of the mount and of the filesystem.
    """

    point: Path
    kind: str
    origin: str
    options: frozenset[str]

    @property
    def is_network(self) -> bool:
        """Whether other hosts may write to it."""
        return self.kind in NETWORK or self.kind.split(".")[0] == "fuse"


def mounts() -> list[Mount]:
    """All mounts, in order; empty where the system does not say it (macOS).

    Format: proc_pid_mountinfo(5), which escapes blanks and the like.
    """
    try:
        lines = MOUNTS.read_bytes().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(b" - ")
        _, _, _, _, point, options, *_ = before.split(b" ")
        kind, _, rest = after.partition(b" ")
        origin, _, more = rest.partition(b" ")
        every = b",".join((options, more)).decode(errors="replace").split(",")
        found.append(
            Mount(Path(_text(point)), _text(kind), _text(origin), frozenset(filter(None, every)))
        )
    return found


def _text(escaped: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda c: bytes([int(c[1], 8)]), escaped))


def resolved(path: Path) -> Path:
    """A path without links, as far as it is there; links that form a loop stay, and whoever opens
    them is told so: ``Path.resolve()`` raises what is not an ``OSError``, before Python 3.13."""
    return Path(os.path.realpath(path))


def mount_of(path: Path) -> Mount | None:
    """What a path lies on; None where the system does not say it."""
    place = resolved(path)
    above = [mount for mount in mounts() if place.is_relative_to(mount.point)]
    # of two at one point, the later one hides the other
    return max(reversed(above), key=lambda mount: len(mount.point.parts), default=None)


def mount_points() -> list[Path]:
    """Where something is mounted; empty where the system does not say it (macOS)."""
    return [mount.point for mount in mounts()]


def has_mounts(folder: Path) -> bool:
    """Whether something is mounted at or below a folder."""
    place = resolved(folder)
    return any(mount.is_relative_to(place) for mount in mount_points())


def is_network(path: Path) -> bool:
    """Whether other hosts may write to what lies at a path; False where nothing does."""
    try:
        return _is_network(path.stat().st_dev, path, MOUNTS)
    except OSError:
        return False


_KNOWN: dict[tuple[int, Path], bool] = {}


def _is_network(device: int, path: Path, table: Path) -> bool:
    """As :func:`is_network`, asked once for each device."""
    if (device, table) not in _KNOWN:
        mount = mount_of(path)
        _KNOWN[device, table] = mount is not None and mount.is_network
    return _KNOWN[device, table]


def refresh(folder: Path) -> None:
    """See the names in a folder, and in those above it, as the server has them now.

    A client of NFS keeps names and attributes of folders for 30 to 60 s, and would keep using a
    folder that another host has exchanged; to open a folder is to ask the server (close-to-open
    consistency, nfs(5); not with ``nocto``). Nothing is done on a filesystem of this host, nor for
    folders that are not there.
    """
    folder = folder.absolute()
    for path in (*reversed(folder.parents), folder):
        if is_network(path):
            with suppress(OSError):
                os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))


def clock(folder: Path) -> float:
    """The time of the filesystem's own clock, in seconds since 1970: that of a new file in a
    folder, which is removed again.

    Raises:
        OSError: if none can be made there.
    """
    with tempfile.NamedTemporaryFile(prefix=".wmtp-clock-", dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime
