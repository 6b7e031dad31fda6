"""A folder whose files change together: the next one is built of hard links beside it.

No payload is moved: it links the new files, and those that stay, so that a process that has one
open notices nothing. Where anything in the folder is not ours it is left alone: it would move.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

from wmtp_assets.storage.exchange import exchange_at_once, install
from wmtp_assets.storage.files import names_below, raise_it
from wmtp_assets.storage.filesystem import has_mounts


def replace_linked(
    root: Path, current: Path, new: Path, files: Mapping[str, Path], ours: Collection[str]
) -> bool:
    """Give ``files`` their names in a folder, in one step; all else of ours in it stays.

    Args:
        current: the folder, below ``root``; it may be absent.
        new: where the next one is built; on the same filesystem, and absent. Afterwards it is what
            ``current`` was, or what was built of it so far.
        files: path in the folder → file to link there.
        ours: paths below ``root`` of the files that are ours, the new ones too.

    Returns:
        False where something there is not ours, or the filesystem exchanges no folders; nothing has
        changed then.

    Raises:
        OSError: if the system refuses; nothing has changed either, unless only a flush failed.
    """
    if not _is_only_ours(root, current, ours):
        return False
    staying = {p.relative_to(current).as_posix(): p for p in names_below(current, raise_it)}
    for name, source in {**staying, **files}.items():
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(source, new / name, follow_symlinks=False)
    for folder, _, _ in os.walk(new, topdown=False):
        _keep_rights(current / Path(folder).relative_to(new), Path(folder))
    return install(new, current, exchange_at_once)


def _is_only_ours(root: Path, current: Path, ours: Collection[str]) -> bool:
    """Whether a folder holds only regular files of ours on one disk, in folders of ours that we
    may write to, and no link leads to it."""
    above = [path for path in current.parents if root in path.parents]
    if any(path.is_symlink() for path in (current, *above)) or has_mounts(current):
        return False
    if not current.is_dir():
        return True
    device = current.parent.stat().st_dev
    files = {root / path for path in ours}
    folders = {parent for path in files for parent in path.parents}
    for parent, inner, names in os.walk(current, onerror=raise_it):
        folder = Path(parent)
        paths = [folder / name for name in names]
        if (
            folder not in folders
            or folder.lstat().st_dev != device
            or not os.access(folder, os.W_OK)
            or any((folder / name).is_symlink() for name in inner)
            or not files.issuperset(paths)
            or not all(stat.S_ISREG(path.lstat().st_mode) for path in paths)
        ):
            return False
    return True


def _keep_rights(old: Path, new: Path) -> None:
    """Give a folder the owner, mode and times of the one whose place it takes; where there is
    none, the group that it would have got there."""
    if old.is_dir():
        wanted, found = old.stat(), new.stat()
        if (wanted.st_uid, wanted.st_gid) != (found.st_uid, found.st_gid):
            os.chown(new, wanted.st_uid, wanted.st_gid)
        shutil.copystat(old, new)
        return
    wanted = next(path for path in old.parents if path.is_dir()).stat()
    if wanted.st_mode & stat.S_ISGID:
        os.chown(new, -1, wanted.st_gid)
        new.chmod(stat.S_IMODE(new.stat().st_mode) | stat.S_ISGID | (wanted.st_mode & 0o070))
