"""Filesystems that lack something, as object-store mounts and FUSE do: system calls say no."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest

from wmtp_assets.storage import exchange

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
