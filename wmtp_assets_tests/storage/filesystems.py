"""Filesystems that lack something, as object-store mounts and FUSE do: system calls say no; and
those of several hosts."""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest

from wmtp_assets.storage import exchange, mounts

Lack = Literal["flock", "link", "rename"]


def play(
    monkeypatch: pytest.MonkeyPatch,
    lack: Lack,
    code: int = errno.ENOSYS,
    below: Path = Path("/"),
) -> None:
    """The filesystem of ``below`` lacks this from now on, as is known to nobody yet."""
    flock, link, rename, native = fcntl.flock, os.link, os.rename, exchange._native

    def is_meant(path: Any) -> bool:
        return Path(path).resolve().is_relative_to(below.resolve())

    def refuse() -> NoReturn:
        raise OSError(code, os.strerror(code))

    def flock_or_not(file: Any, operation: int) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        if is_meant(f"/proc/self/fd/{descriptor}"):
            refuse()
        flock(file, operation)

    def link_or_not(source: Any, target: Any, **options: Any) -> None:
        if is_meant(target):
            refuse()
        link(source, target, **options)

    def rename_or_not(source: Any, target: Any) -> None:
        if is_meant(target) and Path(source).is_dir():
            refuse()
        rename(source, target)

    def native_or_not(new: Path, current: Path) -> int:
        return code if is_meant(current) else native(new, current)

    monkeypatch.setattr(exchange, "_SOUND", set())
    if lack == "flock":
        monkeypatch.setattr(fcntl, "flock", flock_or_not)
    elif lack == "link":
        monkeypatch.setattr(os, "link", link_or_not)
    else:
        monkeypatch.setattr(os, "rename", rename_or_not)
        monkeypatch.setattr(exchange, "_native", native_or_not)


def mounted_as(
    monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str, options: str = "rw"
) -> None:
    """A folder is a mount of this kind, as the system's table says it."""
    table = folder.parent / f"mountinfo-{uuid.uuid4()}"
    point = str(folder.resolve()).replace(" ", r"\040")
    table.write_text(
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
        f"36 21 0:36 / {point} {options} shared:9 - {kind} server:/export {options}\n"
    )
    monkeypatch.setattr(mounts, "MOUNTS", table)
    monkeypatch.setattr(mounts, "_KNOWN", _Forgetful())


class _Forgetful(dict[Any, bool]):
    """One device is several mounts here, so that nothing is known of a device."""

    def __contains__(self, key: object) -> bool:
        return False


class OpenElsewhere:
    """A client of NFS with files that a process has open: a removed one gets another name, which
    cannot be removed, so that its folder cannot be, either."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: set[int] = set()
        unlink = os.unlink

        def removed(path: Any, *, dir_fd: int | None = None) -> None:
            status = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
            if status.st_ino not in self.files:
                unlink(path, dir_fd=dir_fd)
            elif Path(path).name.startswith(".nfs"):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
            else:
                name = f".nfs{status.st_ino:016x}{0:08x}"
                os.rename(path, Path(path).with_name(name), src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

        monkeypatch.setattr(os, "unlink", removed)

    def open(self, folder: Path) -> None:
        """Somebody opens every file below a folder."""
        found = (path.lstat() for path in folder.rglob("*") if path.is_file())
        self.files |= {status.st_ino for status in found}

    def close(self, root: Path) -> None:
        """Everything is closed, and the names are gone."""
        self.files.clear()
        for path in root.rglob(".nfs*"):
            path.unlink()
