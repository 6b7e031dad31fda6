"""A folder of a mounted tree gets all its new files in one step, or none; and loses nothing."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from wmtp_assets.destinations import folder as module
from wmtp_assets.destinations import generation
from wmtp_assets.destinations.folder import NEXT, STAGING, Folder
from wmtp_assets.destinations.generation import replace_in_one_step, tidy
from wmtp_assets.destinations.listing import MANIFEST
from wmtp_assets.storage import exchange as exchanging
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations.test_folder import publish_all, torn
from wmtp_assets_tests.destinations.trees import LARGE, MODEL, commit, files_below, random_bytes
from wmtp_assets_tests.storage.test_store import contents

Refuse = Callable[[pytest.MonkeyPatch, int], None]


UNIT = "models/tiny"
GROUP = 4711 if os.geteuid() == 0 else os.getgid()
OURS = frozenset(f"{UNIT}/{name}" for name in ("raw/weights", "raw/same"))


class Killed(BaseException):
    """Stands for SIGKILL: no ``except`` clause of the program runs."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A published model, and two staged files of its next generation."""
    root = tmp_path / "volume"
    (root / UNIT / "raw").mkdir(parents=True)
    (root / UNIT / "raw/weights").write_bytes(b"old")
    (root / UNIT / "raw/same").write_bytes(b"same")
    (root / "staged").mkdir()
    (root / "staged/1").write_bytes(b"new weights")
    (root / "staged/2").write_bytes(b"added")
    return root


def replace(root: Path, ours: Collection[str] = OURS) -> bool:
    """Give the two staged files their names."""
    files = {"raw/weights": root / "staged/1", "deep/er/added": root / "staged/2"}
    return replace_in_one_step(root, UNIT, root / "next", files, ours)


def test_all_files_change_at_once(root: Path) -> None:
    """What stays is the very same file, so that who has it open notices nothing."""
    unit = root / UNIT
    inode, folder = (unit / "raw/same").stat().st_ino, unit.stat().st_ino
    assert replace(root)
    new = {"deep/er/added": b"added", "raw/same": b"same", "raw/weights": b"new weights"}
    assert files_below(unit) == new
    assert (unit / "raw/same").stat().st_ino == inode
    assert unit.stat().st_ino != folder
    before = contents(unit)
    tidy(root / "next", root)
    assert contents(unit) == before
    assert sorted(path.name for path in root.iterdir()) == ["models", "staged"]


@pytest.mark.parametrize(
    "name", ["notes", "raw/checkpoint", "runs/1/log", "empty/", "link", "runs/link", "pipe"]
)
def test_folder_that_holds_what_is_not_ours_is_not_exchanged(root: Path, name: str) -> None:
    """It would move with it: an empty folder can be a disk that is mounted in another container,
    and a folder of runs be somebody's working directory. Its files are renamed one by one."""
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
def test_mount_point_is_not_exchanged(
    root: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Not even an empty one of the same disk: the disk would be moved into the staging folder."""
    odd = root.with_name("größe von\tallem")
    root.rename(odd)
    (root.parent / "link").symlink_to(odd)  # mount points are listed as they are, not by links
    escaped = str(odd / place).replace(" ", r"\040").replace("\t", r"\011")
    listed = root.parent / "mountinfo"
    listed.write_bytes(f"36 35 98:0 / {escaped} rw,noatime - ext3 /dev/root rw\n".encode())
    with monkeypatch.context() as patch:
        patch.setattr(generation, "MOUNTS", listed)
        assert not replace(root.parent / "link")
    assert (odd / UNIT / "raw/weights").read_bytes() == b"old"
    assert replace(root.parent / "link")


def test_one_that_is_new(root: Path) -> None:
    """Nobody sees it half: it is built elsewhere and renamed."""
    files = {"raw/rows": root / "staged/1"}
    assert replace_in_one_step(root, "data/mbpp", root / "next", files, OURS)
    assert files_below(root / "data") == {"mbpp/raw/rows": b"new weights"}


def test_who_may_read_and_write_stays_as_it_was(root: Path) -> None:
    """A group's folder is one after it was exchanged, too, and new folders in it are."""
    unit = root / UNIT
    (unit / "raw").chmod(0o2750)
    unit.chmod(0o2775)
    os.chown(unit, -1, GROUP)
    (root / "models").chmod(0o2775)
    os.chown(root / "models", -1, GROUP)
    assert replace(root)
    assert (unit / "raw").stat().st_mode & 0o7777 == 0o2750
    assert unit.stat().st_mode & 0o7777 == 0o2775
    for new in ("deep", "deep/er"):
        assert (unit / new).stat().st_gid == GROUP
        assert (unit / new).stat().st_mode & 0o7070 == 0o2070
    tidy(root / "next", root)
    files = {"raw/rows": root / "staged/1"}
    assert replace_in_one_step(root, "models/other", root / "next", files, OURS)
    assert (root / "models/other/raw").stat().st_gid == GROUP


def test_folder_that_nobody_may_write_to_can_be_tidied_up(root: Path) -> None:
    assert replace(root)
    (root / "next/raw").chmod(0o500)
    tidy(root / "next", root)
    assert not (root / "next").exists()


def refuse_links(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def link(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)


def refuse_exchange(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(exchanging, "_native", lambda new, current: code)


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


@pytest.mark.parametrize(("refuse", "code"), REFUSALS)
def test_where_it_cannot_be_nothing_has_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch, refuse: Refuse, code: int
) -> None:
    before = contents(root / "models")
    refuse(monkeypatch, code)
    assert not replace(root)
    assert contents(root / "models") == before
    monkeypatch.undo()
    tidy(root / "next", root)
    assert contents(root / "models") == before
    assert replace(root)


@pytest.mark.parametrize(("refuse", "code"), REFUSALS)
def test_then_files_get_their_names_one_by_one(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch, refuse: Refuse, code: int
) -> None:
    """Publishing needs no more of a filesystem than renames."""
    publish_all(tree_store, mounted)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(3_000_000, 5)})
    with monkeypatch.context() as patch:
        refuse(patch, code)
        publish_all(tree_store, mounted)
    assert torn(mounted) == []
    assert (mounted / LARGE).read_bytes() == (tree_store.root / LARGE).read_bytes()
    assert not (mounted / STAGING).exists()


def test_folder_that_may_not_be_written_to(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To exchange its parent would be a way around that."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "raw")
    assert not replace(root)
    assert (root / "models/tiny/raw/weights").read_bytes() == b"old"


def test_folder_of_somebody_else(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would become ours, and its owner could not write to it any more."""

    def chown(*args: object) -> None:
        raise PermissionError(errno.EPERM, "")

    monkeypatch.setattr(os, "chown", chown)
    os.utime(root / "models/tiny/raw")
    real = Path.stat
    alien = root / "models/tiny/raw"

    def stat(self: Path, **options: bool) -> os.stat_result:
        found = real(self, **options)
        return os.stat_result((*found[:4], 4711, *found[5:])) if self == alien else found

    monkeypatch.setattr(Path, "stat", stat)
    assert not replace(root)
    monkeypatch.undo()
    assert (root / "models/tiny/raw/weights").read_bytes() == b"old"


def test_failing_disk_is_no_reason_to_go_another_way(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        replace(root)


def between(monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]) -> None:
    """Something happens between the building and the exchange."""
    real = generation.exchange_at_once

    def late(new: Path, current: Path) -> bool:
        change(current)
        return real(new, current)

    monkeypatch.setattr(generation, "exchange_at_once", late)


def test_what_somebody_wrote_meanwhile_is_given_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that training put there; a value head that it wrote anew under its name, as
    programs do, with whatever time; and one in a place that has just got ours."""
    unit = root / UNIT

    def change(current: Path) -> None:
        (current / "raw/late").write_bytes(b"checkpoint")
        (current / "runs/1").mkdir(parents=True)
        (current / "runs/1/log").write_bytes(b"log")
        for name in ("same", "weights"):
            (current / "tmp").write_bytes(b"written anew")
            os.utime(current / "tmp", (1, 1))
            (current / "tmp").replace(current / "raw" / name)

    between(monkeypatch, change)
    assert replace(root)
    tidy(root / "next", root)
    assert (unit / "raw/late").read_bytes() == b"checkpoint"
    assert (unit / "runs/1/log").read_bytes() == b"log"
    assert (unit / "raw/same").read_bytes() == b"written anew"
    assert (unit / "raw/weights").read_bytes() == b"new weights"
    (kept,) = unit.glob("raw/weights.*.kept")
    assert kept.read_bytes() == b"written anew"
    assert not (root / "next").exists()


def test_what_was_deleted_stays_deleted(root: Path) -> None:
    """A run was killed behind the exchange, and before it had tidied up: what is deleted there in
    the meantime, be it by a publication, does not come back with the next one."""
    assert replace(root)
    (root / UNIT / "raw/same").unlink()
    (root / UNIT / "raw/weights").unlink()
    tidy(root / "next", root)
    assert files_below(root / UNIT) == {"deep/er/added": b"added"}


@pytest.mark.parametrize("what", ["link", "file"])
def test_nothing_is_given_back_through_a_link(
    root: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Somebody put one in the place of the folder: the file is kept beside it."""
    between(monkeypatch, lambda current: (current / "raw/late").write_bytes(b"checkpoint"))
    assert replace(root)
    elsewhere = root.parent / "elsewhere"
    (root / UNIT / "raw").rename(elsewhere)
    if what == "link":
        (root / UNIT / "raw").symlink_to(elsewhere)
    else:
        (root / UNIT / "raw").write_bytes(b"")
    tidy(root / "next", root)
    assert not (elsewhere / "late").exists()
    assert (root / "models/late").read_bytes() == b"checkpoint"
    assert not (root / "next").exists()


def test_what_never_came_to_its_place_is_not_published(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run was killed before the exchange: its new files have no names, and the next run, which
    may have another generation, does not give them any."""
    publish_all(tree_store, mounted)
    before = files_below(mounted)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": b"newer", "raw/added": b"added"})

    def kill(new: Path, current: Path) -> bool:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(generation, "exchange_at_once", kill)
        patch.setattr(module, "tidy", lambda *args: None)
        with pytest.raises(Killed):
            publish_all(tree_store, mounted)
    there = files_below(mounted)
    assert any(f"/{NEXT}/" in path for path in there)
    assert {p: d for p, d in there.items() if not p.startswith(STAGING)} == before
    destination = Folder(mounted, part_size=1_000_000)
    destination.prepare(0)
    there = files_below(mounted)
    assert not any(f"/{NEXT}/" in path for path in there)
    assert {p: d for p, d in there.items() if not p.startswith(STAGING)} == before
    publish_all(tree_store, mounted)
    assert torn(mounted) == []
    assert (mounted / "models_v2/meta-llama-mtp/raw/added").read_bytes() == b"added"
    assert files_below(mounted).keys() == before.keys() | {
        "models_v2/meta-llama-mtp/raw/added",
        MANIFEST,
    }


def test_published_file_is_not_written_into(tree_store: Store, mounted: Path) -> None:
    """A killed run can leave a staged name of it: the next generation was written through that
    name into what readers read."""
    publish_all(tree_store, mounted)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(2_000_000, 5)})
    destination = Folder(mounted, part_size=1_000_000)
    destination.prepare(0)
    before = (mounted / LARGE).read_bytes()
    destination._staged(LARGE).hardlink_to(mounted / LARGE)
    with (mounted / LARGE).open("rb") as reader:
        publish_all(tree_store, mounted)
        assert reader.read() == before
    assert torn(mounted) == []


@pytest.mark.parametrize("how", ["exchange", "rename"])
def test_staged_names_are_gone_when_it_is_published(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Killed behind MANIFEST.json: the next run has nothing to send, and tidies up all the same."""
    finish = Folder.finish
    monkeypatch.setattr(Folder, "finish", lambda self, paths: None)
    if how == "rename":
        refuse_exchange(monkeypatch, errno.EINVAL)
    publish_all(tree_store, mounted)
    assert (mounted / STAGING).exists()
    monkeypatch.setattr(Folder, "finish", finish)
    assert publish_all(tree_store, mounted).payload == 0
    assert not (mounted / STAGING).exists()


def leftover(mounted: Path, owner: str, age: float = 0.0) -> Path:
    """What another publisher is building, or left, that long ago."""
    new = Folder(mounted, owner).staging / NEXT
    (new / "raw").mkdir(parents=True)
    (new / "raw/added").write_bytes(b"never published")
    os.utime(new, (time.time() - age, time.time() - age))
    return new


def test_what_another_builds_now_is_left(tree_store: Store, mounted: Path) -> None:
    """Only what nobody went on with for a week is removed, and nothing of it gets a name."""
    fresh, old = leftover(mounted, "a"), leftover(mounted, "b", 8 * 24 * 3600)
    publish_all(tree_store, mounted, "another machine")
    assert fresh.exists()
    assert not old.exists()
    assert not list(mounted.rglob("models_v2/**/added"))


def test_generation_of_a_killed_run_is_tidied_up_by_a_run_that_sends_nothing(
    tree_store: Store, mounted: Path
) -> None:
    publish_all(tree_store, mounted)
    leftover(mounted, "")
    publish_all(tree_store, mounted)
    assert not (mounted / STAGING).exists()


def test_names_are_durable_before_the_manifest(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that a run gave that was cut off: its folders may not have been flushed."""
    flushed: list[Path] = []
    monkeypatch.setattr(module, "fsync_folder", flushed.append)

    def kill(self: Folder, data: bytes) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write_manifest", kill)
        with pytest.raises(Killed):
            publish_all(tree_store, mounted)
    assert flushed == []
    assert publish_all(tree_store, mounted).payload == 0
    assert {mounted, mounted / "models_v2", (mounted / LARGE).parent} <= set(flushed)
    assert flushed[-1] == mounted
