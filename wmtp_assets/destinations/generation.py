"""A folder whose files change together: the next generation is built beside it, and exchanged.

It is built of hard links, to the staged files and to those of ours that stay: no payload is moved.
Where anything in the folder is not ours it is not exchanged: it would move with it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from wmtp_assets.storage.exchange import exchange_at_once
from wmtp_assets.storage.files import DISK_FULL, fsync_folder, names_below, write_new

REFUSED = frozenset(
    (
        errno.EACCES,
        errno.EBUSY,
        errno.EINVAL,
        errno.EMLINK,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOSYS,
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EXDEV,
    )
)
"""What systems say where there are no hard links, or not to files of others; where a folder is a
mount point, or would get another owner; and where a file is gone meanwhile."""

MOUNTS = Path("/proc/self/mountinfo")


def replace_in_one_step(
    root: Path, unit: str, new: Path, files: Mapping[str, Path], ours: Collection[str]
) -> bool:
    """Give ``files`` their names in a folder; all else of ours in it stays.

    Args:
        unit: the folder, below ``root``; it may be absent.
        new: where the next generation is built; on the same filesystem, and absent. What is there
            afterwards is for :func:`tidy`.
        files: path in the folder → file to link there.
        ours: paths below ``root`` of the files that are ours.

    Returns:
        False where something there is not ours, or the system, the filesystem or rights do not
        allow it; nothing has changed then.

    Raises:
        OSError: for every other reason; nothing has changed either.
    """
    current = root / unit
    try:
        if not _is_only_ours(root, current, {*ours, *(f"{unit}/{name}" for name in files)}):
            return False
        inodes = _build(current, new, files)
        record = {"unit": unit, "built": new.stat().st_ino, "inodes": inodes, "named": [*files]}
        write_new(_record(new), json.dumps(record).encode())
        current.parent.mkdir(parents=True, exist_ok=True)
        if current.is_dir():
            return exchange_at_once(new, current)
        new.rename(current)
    except OSError as error:
        if error.errno in REFUSED | DISK_FULL:  # to rename needs no room
            return False
        raise
    return True


def _record(new: Path) -> Path:
    """Beside a generation: which folder it is of, and what was linked; written when it is built."""
    return new.with_name(f"{new.name}.json")


def _is_only_ours(root: Path, current: Path, ours: Collection[str]) -> bool:
    """Whether there is nothing in a folder but regular files and folders of ours, no other disk,
    and no link on the way to it."""
    above = [path for path in current.parents if root in path.parents]
    if any(path.is_symlink() for path in (current, *above)):
        return False
    if not current.is_dir():
        return True
    if _has_mounts(current):
        return False
    device = current.parent.stat().st_dev
    folders = {str(parent) for path in ours for parent in PurePosixPath(path).parents}
    for parent, names, files in os.walk(current, onerror=_raise):
        if os.lstat(parent).st_dev != device:
            return False
        for name in names:
            path = Path(parent, name)
            if path.is_symlink() or path.relative_to(root).as_posix() not in folders:
                return False
        for name in files:
            path = Path(parent, name)
            is_file = stat.S_ISREG(path.lstat().st_mode)
            if not is_file or path.relative_to(root).as_posix() not in ours:
                return False
    return True


def _has_mounts(folder: Path) -> bool:
    """Whether something is mounted at or below a folder."""
    place = folder.resolve()
    return any(mount == place or place in mount.parents for mount in mount_points())


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


def _build(current: Path, new: Path, files: Mapping[str, Path]) -> dict[str, int]:
    """Build the next generation; path → inode of each file that lies in ``current`` now."""
    is_there = current.is_dir()
    folders = [Path(name) for name, _, _ in os.walk(current, onerror=_raise)] if is_there else []
    for folder in folders or [current]:
        (new / folder.relative_to(current)).mkdir()
    inodes: dict[str, int] = {}
    for path in names_below(current, _raise):
        name = path.relative_to(current).as_posix()
        inodes[name] = path.lstat().st_ino
        if name not in files:
            os.link(path, new / name, follow_symlinks=False)
            inodes[name] = (new / name).lstat().st_ino
    added: list[Path] = [] if is_there else [new]
    for name, staged in files.items():
        parent = (current / name).parent
        if parent.is_dir() and not os.access(parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(parent))
        above = [path for path in (new / name).parents if new in path.parents]
        added += [path for path in reversed(above) if not path.exists()]
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(staged, new / name)
    for folder in added:
        _inherit(folder, _nearest(current / folder.relative_to(new)))
    for folder in reversed(folders):
        _keep_rights(folder, new / folder.relative_to(current))
    for folder, _, _ in os.walk(new):
        fsync_folder(Path(folder))
    return inodes


def _raise(error: OSError) -> NoReturn:
    raise error


def _nearest(folder: Path) -> Path:
    """The nearest folder above that is there."""
    return next(path for path in folder.parents if path.is_dir())


def _inherit(new: Path, parent: Path) -> None:
    """Give a new folder the group that it would have got had it been made in ``parent``."""
    wanted = parent.stat()
    if wanted.st_mode & stat.S_ISGID:
        os.chown(new, -1, wanted.st_gid)
        new.chmod(stat.S_IMODE(new.stat().st_mode) | stat.S_ISGID | (wanted.st_mode & 0o070))


def _keep_rights(folder: Path, new: Path) -> None:
    """Give a new folder the owner, the mode and the times of the one whose place it takes."""
    wanted, found = folder.stat(), new.stat()
    if (wanted.st_uid, wanted.st_gid) != (found.st_uid, found.st_gid):
        os.chown(new, wanted.st_uid, wanted.st_gid)
    shutil.copystat(folder, new)


def tidy(new: Path, root: Path) -> None:
    """Remove what a generation left, be it the one before or one that never came to its place.

    A file that somebody put there, or put in the place of one of ours, while the next one was
    built gets its name back; where ours has that name now, one beside it.

    Args:
        new: as of :func:`replace_in_one_step`.
    """
    record = _record(new)
    if _has_mounts(new):
        return  # somebody's disk, which is his to unmount
    if new.is_dir() and not new.is_symlink():
        said = _read(record)
        if said is not None and new.stat().st_ino != said["built"]:
            _give_back(new, root / said["unit"], said)
        shutil.rmtree(new)
    record.unlink(missing_ok=True)


def _read(record: Path) -> dict[str, Any] | None:
    """What a record says; None: there is none that is whole, so that nothing was exchanged."""
    try:
        return json.loads(record.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _give_back(left: Path, current: Path, said: Mapping[str, Any]) -> None:
    for folder, _, _ in os.walk(left):
        Path(folder).chmod(0o700)  # one that nobody may write to could not be emptied
    for path in list(names_below(left, _raise)):
        name = path.relative_to(left).as_posix()
        if said["inodes"].get(name) == path.lstat().st_ino:
            continue
        target = current / name
        above = [
            parent for parent in target.parents if parent == current or current in parent.parents
        ]
        if any(parent.is_symlink() or _is_no_folder(parent) for parent in above):
            target = current.parent / target.name
        there = _status(target)
        if there is not None and name not in said["named"] and stat.S_ISREG(there.st_mode):
            path.replace(target)
            continue
        if there is not None:
            target = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.kept")
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.link(path, target, follow_symlinks=False)


def _is_no_folder(path: Path) -> bool:
    status = _status(path)
    return status is not None and not stat.S_ISDIR(status.st_mode)


def _status(path: Path) -> os.stat_result | None:
    """What lies there; None: nothing. An error is no answer, as it is to ``os.path.lexists``."""
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
