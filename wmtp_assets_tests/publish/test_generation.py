"""A folder of a mounted tree gets all its new files in one step, or none; and loses nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wmtp_assets import exchange as exchanging
from wmtp_assets.publish import folder as module
from wmtp_assets.publish import generation
from wmtp_assets.publish.folder import NEXT, STAGING, Folder
from wmtp_assets.publish.generation import give_back, replace_in_one_step
from wmtp_assets.publish.listing import MANIFEST
from wmtp_assets.store import Store
from wmtp_assets_tests.publish.test_folder import publish_all, torn
from wmtp_assets_tests.publish.trees import LARGE, MODEL, commit, files_below, random_bytes
from wmtp_assets_tests.test_store import contents

Refuse = Callable[[pytest.MonkeyPatch, int], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A published model with files of others, and two staged files of its next generation."""
    root = tmp_path / "volume"
    (root / "models/tiny/raw").mkdir(parents=True)
    (root / "models/tiny/empty").mkdir()
    (root / "models/tiny/raw/weights").write_bytes(b"old")
    (root / "models/tiny/raw/same").write_bytes(b"same")
    (root / "models/tiny/notes").write_bytes(b"somebody's")
    (root / "models/tiny/link").symlink_to("raw/same")
    (root / "staged").mkdir()
    (root / "staged/1").write_bytes(b"new weights")
    (root / "staged/2").write_bytes(b"added")
    return root


def replace(root: Path) -> bool:
    """Give the two staged files their names."""
    files = {"raw/weights": root / "staged/1", "deep/er/added": root / "staged/2"}
    return replace_in_one_step(root / "models/tiny", root / "next/models/tiny", files)


def ours(root: Path) -> set[tuple[int, int]]:
    return {(s.st_dev, s.st_ino) for s in map(os.stat, (root / "staged").iterdir())}


def test_all_files_change_and_what_others_have_there_stays(root: Path) -> None:
    """It is the very same file, so that who has it open or writes to it notices nothing."""
    unit = root / "models/tiny"
    inode, link = (unit / "notes").stat().st_ino, (unit / "link").readlink()
    assert replace(root)
    assert files_below(unit) == {
        "deep/er/added": b"added",
        "link": b"same",
        "notes": b"somebody's",
        "raw/same": b"same",
        "raw/weights": b"new weights",
    }
    assert (unit / "notes").stat().st_ino == inode
    assert (unit / "link").readlink() == link
    assert (unit / "empty").is_dir()
    before = contents(unit)
    give_back(root / "next", root, ours(root))
    assert contents(unit) == before
    assert not (root / "next").exists()


def test_one_that_is_new(root: Path) -> None:
    """Nobody sees it half: it is built elsewhere and renamed."""
    assert replace_in_one_step(
        root / "data/mbpp", root / "next/data/mbpp", {"raw/rows": root / "staged/1"}
    )
    assert files_below(root / "data") == {"mbpp/raw/rows": b"new weights"}


def test_who_may_read_and_write_stays_as_it_was(root: Path) -> None:
    """A group's folder is one after it was exchanged, too; one that nobody may write to is no
    obstacle to tidying up."""
    unit = root / "models/tiny"
    (unit / "empty").chmod(0o555)
    (unit / "raw").chmod(0o2770)
    assert replace(root)
    assert (unit / "raw").stat().st_mode & 0o7777 == 0o2770
    assert (unit / "empty").stat().st_mode & 0o7777 == 0o555
    give_back(root / "next", root, ours(root))
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
    if (root / "next").exists():
        give_back(root / "next", root, ours(root))
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


@pytest.mark.parametrize("place", ["models/tiny", "models/tiny/raw"])
def test_link_in_the_way_is_not_exchanged(root: Path, place: str) -> None:
    """Who linked a folder to another disk has it there still; a file is never written through it
    before its time."""
    real = root / "elsewhere"
    (root / place).rename(real)
    (root / place).symlink_to(real)
    before = contents(real)
    assert not replace(root)
    assert contents(real) == before
    assert (root / place).is_symlink()
    assert not (root / "next").exists()


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


def test_full_disk_is_no_reason_to_go_another_way(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        replace(root)


def test_what_somebody_wrote_meanwhile_is_given_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that training put there between the building and the exchange."""
    real = generation.exchange_at_once

    def late(new: Path, current: Path) -> bool:
        (current / "raw/late").write_bytes(b"checkpoint")
        (current / "runs/1").mkdir(parents=True)
        (current / "runs/1/log").write_bytes(b"log")
        return real(new, current)

    monkeypatch.setattr(generation, "exchange_at_once", late)
    assert replace(root)
    give_back(root / "next", root, ours(root))
    assert (root / "models/tiny/raw/late").read_bytes() == b"checkpoint"
    assert (root / "models/tiny/runs/1/log").read_bytes() == b"log"
    assert (root / "models/tiny/raw/weights").read_bytes() == b"new weights"


def test_what_somebody_replaced_meanwhile_is_given_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value head that training wrote anew under its name, as programs do: written beside, and
    renamed over the old one. The old one is in the next generation already."""
    real = generation.exchange_at_once
    notes = root / "models/tiny/notes"
    os.utime(notes, (1, 1))

    def late(new: Path, current: Path) -> bool:
        (current / "notes.tmp").write_bytes(b"newer notes")
        (current / "notes.tmp").replace(current / "notes")
        return real(new, current)

    monkeypatch.setattr(generation, "exchange_at_once", late)
    assert replace(root)
    assert notes.read_bytes() == b"somebody's"
    give_back(root / "next", root, ours(root), ["models/tiny/raw/weights"])
    assert notes.read_bytes() == b"newer notes"
    assert (root / "models/tiny/raw/weights").read_bytes() == b"new weights"
    assert not (root / "next").exists()


def test_what_never_came_to_its_place_is_not_published(
    tree_store: Store, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run was killed before the exchange: its new files have no names, and the next run, which
    may have another generation, does not give them any."""
    publish_all(tree_store, mounted)
    before = files_below(mounted)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": b"newer", "raw/added": b"added"})

    class Killed(BaseException):
        pass

    def kill(new: Path, current: Path) -> bool:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(generation, "exchange_at_once", kill)
        patch.setattr(module, "give_back", lambda *args: None)
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
