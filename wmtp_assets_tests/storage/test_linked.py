"""A folder gets all its new files in one step, or none; and loses nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wmtp_assets.storage import exchange, mounts
from wmtp_assets.storage.exchange import replace_linked
from wmtp_assets_tests.storage.test_store import contents

UNIT = "models/tiny"
GROUP = 4711 if os.geteuid() == 0 else os.getgid()
FILES = {"raw/weights": "staged/1", "deep/er/added": "staged/2"}
OURS = frozenset(f"{UNIT}/{name}" for name in (*FILES, "raw/same"))

Refuse = Callable[[pytest.MonkeyPatch, int], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A model, and two staged files of what follows."""
    root = tmp_path / "volume"
    (root / UNIT / "raw").mkdir(parents=True)
    (root / UNIT / "raw/weights").write_bytes(b"old")
    (root / UNIT / "raw/same").write_bytes(b"same")
    (root / "staged").mkdir()
    (root / "staged/1").write_bytes(b"new weights")
    (root / "staged/2").write_bytes(b"added")
    return root


def replace(root: Path, unit: str = UNIT) -> bool:
    """Give the two staged files their names."""
    files = {name: root / staged for name, staged in FILES.items()}
    return replace_linked(root, root / unit, root / "next", files, OURS)


def below(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_all_files_change_at_once(root: Path) -> None:
    """What stays is the very same file, so that who has it open notices nothing."""
    unit = root / UNIT
    inode, folder = (unit / "raw/same").stat().st_ino, unit.stat().st_ino
    assert replace(root)
    new = {"deep/er/added": b"added", "raw/same": b"same", "raw/weights": b"new weights"}
    assert below(unit) == new
    assert (unit / "raw/same").stat().st_ino == inode
    assert unit.stat().st_ino != folder
    assert below(root / "next") == {"raw/same": b"same", "raw/weights": b"old"}


@pytest.mark.parametrize(
    "name", ["notes", "raw/checkpoint", "runs/1/log", "empty/", "link", "runs/link", "pipe"]
)
def test_folder_that_holds_what_is_not_ours_is_left_alone(root: Path, name: str) -> None:
    """It would move with it: an empty folder can be a disk that is mounted in another container,
    and a folder of runs be somebody's working directory."""
    path = root / UNIT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("/"):
        path.mkdir()
    elif name.endswith("link"):
        path.symlink_to(root / "staged")
    elif name == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"somebody's")
    before = contents(root / "models")
    assert not replace(root)
    assert contents(root / "models") == before
    assert not (root / "next").exists()


@pytest.mark.parametrize("place", [UNIT, f"{UNIT}/raw"])
def test_mount_point_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Not even an empty one of the same disk: the disk would be moved away."""
    odd = root.with_name("größe von\tallem")
    root.rename(odd)
    (root.parent / "link").symlink_to(odd)  # mount points are listed as they are, not by links
    escaped = str(odd / place).replace(" ", r"\040").replace("\t", r"\011")
    listed = root.parent / "mountinfo"
    listed.write_bytes(f"36 35 98:0 / {escaped} rw,noatime - ext3 /dev/root rw\n".encode())
    with monkeypatch.context() as patch:
        patch.setattr(mounts, "MOUNTS", listed)
        assert not replace(root.parent / "link")
    assert (odd / UNIT / "raw/weights").read_bytes() == b"old"
    assert replace(root.parent / "link")


def test_one_that_is_new(root: Path) -> None:
    """Nobody sees it half: it is built elsewhere and renamed."""
    assert replace(root, "data/mbpp")
    assert below(root / "data/mbpp") == {"raw/weights": b"new weights", "deep/er/added": b"added"}
    assert not (root / "next").exists()


def test_who_may_read_and_write_stays_as_it_was(root: Path) -> None:
    """A group's folder is one after it was exchanged, too, and new folders in it are."""
    unit = root / UNIT
    (unit / "raw").chmod(0o2750)
    for folder in (unit, root / "models"):
        folder.chmod(0o2775)
        os.chown(folder, -1, GROUP)
    assert replace(root)
    assert (unit / "raw").stat().st_mode & 0o7777 == 0o2750
    assert unit.stat().st_mode & 0o7777 == 0o2775
    for new in ("deep", "deep/er"):
        assert (unit / new).stat().st_gid == GROUP
        assert (unit / new).stat().st_mode & 0o7070 == 0o2070
    (root / "next").rename(root / "gone")
    assert replace(root, "models/other")
    assert (root / "models/other/raw").stat().st_gid == GROUP


def refuse_links(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def link(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)


def refuse_exchange(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(exchange, "_native", lambda new, current: code)


REFUSALS = [
    (refuse_links, errno.EPERM),  # exFAT; files of others where hard links are protected
    (refuse_links, errno.EOPNOTSUPP),  # most FUSE filesystems
    (refuse_links, errno.EMLINK),
    (refuse_links, errno.ENOSPC),  # to rename needs no room
    (refuse_exchange, errno.EINVAL),  # NFS
    (refuse_exchange, errno.ENOSYS),
    (refuse_exchange, errno.EBUSY),  # a mount point
    (refuse_exchange, errno.EXDEV),
]


def is_replaced(root: Path) -> bool:
    try:
        return replace(root)
    except OSError:
        return False


@pytest.mark.parametrize(("refuse", "code"), [*REFUSALS, (refuse_links, errno.EIO)])
def test_where_it_cannot_be_nothing_has_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch, refuse: Refuse, code: int
) -> None:
    before = contents(root / "models")
    refuse(monkeypatch, code)
    assert not is_replaced(root)
    assert contents(root / "models") == before


def test_folder_that_may_not_be_written_to(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To exchange its parent would be a way around that."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "raw")
    assert not replace(root)
    assert (root / UNIT / "raw/weights").read_bytes() == b"old"


def test_folder_of_somebody_else(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would become ours, and its owner could not write to it any more."""

    def chown(*args: object) -> None:
        raise PermissionError(errno.EPERM, "")

    monkeypatch.setattr(os, "chown", chown)
    real, alien = Path.stat, root / UNIT / "raw"

    def stat(self: Path, **options: bool) -> os.stat_result:
        found = real(self, **options)
        return os.stat_result((*found[:4], 4711, *found[5:])) if self == alien else found

    monkeypatch.setattr(Path, "stat", stat)
    assert not is_replaced(root)
    monkeypatch.undo()
    assert (root / UNIT / "raw/weights").read_bytes() == b"old"
