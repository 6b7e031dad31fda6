"""A folder whose files change together: the next generation is built beside it, and exchanged.

It is built of hard links, to the staged files and to all else that lies in the folder, whosever it
is: no payload is moved, and a file that somebody has open stays the same file.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NoReturn

from wmtp_assets.exchange import exchange_at_once
from wmtp_assets.files import fsync_folder, names_below

REFUSED = frozenset(
    (
        errno.EACCES,
        errno.EBUSY,
        errno.EINVAL,
        errno.EMLINK,
        errno.ENOSYS,
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EXDEV,
    )
)
"""What systems say where there are no hard links, or not to files of others; where a folder is a
mount point; and where the folder of somebody else would become ours."""


def replace_in_one_step(current: Path, new: Path, files: Mapping[str, Path]) -> bool:
    """Give ``files`` their names in the folder ``current``; all else in it stays.

    Args:
        current: may be absent, its parent may too.
        new: where the next generation is built; on the same filesystem, and absent. What is there
            afterwards is for :func:`give_back`.
        files: path in the folder → file to link there.

    Returns:
        False where the system, the filesystem or rights do not allow it; nothing has changed then.

    Raises:
        OSError: for every other reason; nothing has changed either.
    """
    if any(place.is_symlink() for name in files for place in _ways(current, name)):
        return False
    try:
        _build(new, current, files)
        current.parent.mkdir(parents=True, exist_ok=True)
        if current.is_dir():
            return exchange_at_once(new, current)
        new.rename(current)
    except OSError as error:
        if error.errno in REFUSED:
            return False
        raise
    return True


def _ways(current: Path, name: str) -> list[Path]:
    """The folders on the way from ``current``, which is one of them, to a file in it."""
    target = current / name
    return [current, *(parent for parent in target.parents if current in parent.parents)]


def _build(new: Path, current: Path, files: Mapping[str, Path]) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    is_there = current.is_dir()
    folders = [Path(name) for name, _, _ in os.walk(current, onerror=_raise)] if is_there else []
    for folder in folders or [current]:
        (new / folder.relative_to(current)).mkdir()
    for path in names_below(current, _raise):
        name = path.relative_to(current)
        if name.as_posix() not in files:
            os.link(path, new / name, follow_symlinks=False)
    for name, staged in files.items():
        parent = (current / name).parent
        if parent.is_dir() and not os.access(parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(parent))
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(staged, new / name)
    for folder in reversed(folders):
        _keep_rights(folder, new / folder.relative_to(current))
    for folder, _, _ in os.walk(new):
        fsync_folder(Path(folder))


def _raise(error: OSError) -> NoReturn:
    raise error


def _keep_rights(folder: Path, new: Path) -> None:
    """Give a new folder the owner, the mode and the times of the one whose place it takes."""
    wanted, found = folder.stat(), new.stat()
    if (wanted.st_uid, wanted.st_gid) != (found.st_uid, found.st_gid):
        os.chown(new, wanted.st_uid, wanted.st_gid)
    shutil.copystat(folder, new)


def give_back(
    left: Path,
    root: Path,
    staged: Collection[tuple[int, int]],
    named: Collection[str] | None = None,
) -> None:
    """Remove what a generation left, be it the one before or one that never came to its place.

    A file that somebody put there, or replaced, while the next one was built gets its name back.

    Args:
        left: what lies in it lies, or lay, below ``root`` with the same path.
        staged: device and inode of the files that wait for their names.
        named: paths below ``root`` that have just got other files; None: nobody knows, so that what
            lies in a place stays.
    """
    folders = [Path(folder) for folder, _, _ in os.walk(left)]
    for folder in folders:
        folder.chmod(0o700)  # one that nobody may write to could not be emptied
    for path in list(names_below(left, _raise)):
        name, status = path.relative_to(left), path.lstat()
        target = root / name
        is_others = named is not None and name.as_posix() not in named
        if (status.st_dev, status.st_ino) not in staged:
            there = _status(target)
            if there is None:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target, follow_symlinks=False)
            elif is_others and status.st_mtime_ns > there.st_mtime_ns:
                path.replace(target)
        path.unlink(missing_ok=True)
    for folder in reversed(folders):
        folder.rmdir()


def _status(path: Path) -> os.stat_result | None:
    """What lies there; None: nothing. An error is no answer, as it is to ``os.path.lexists``."""
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
