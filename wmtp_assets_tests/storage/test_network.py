"""A storage root that several hosts share: what a client of NFS does differently is played here.

``docs/clusters.md`` says what was tried against a real NFSv4 server.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wmtp_assets
from wmtp_assets.base.errors import LackingFilesystem, MissingArtifact
from wmtp_assets.operations.gc import IN_USE, STALE, collect
from wmtp_assets.storage import exchange, mounts
from wmtp_assets.storage.files import names_below, raise_it
from wmtp_assets.storage.locks import hold
from wmtp_assets.storage.mounts import clock, is_network, mount_of, refresh
from wmtp_assets.storage.record import TICK, sign_all
from wmtp_assets.storage.store import Store
from wmtp_assets.storage.verified import VerifiedFile, find, read_verified
from wmtp_assets_tests.storage.filesystems import OpenElsewhere, mounted_as, play
from wmtp_assets_tests.storage.test_store import (
    NEW,
    OLD,
    RAW,
    Files,
    bytes_of,
    commit,
    open_store,
    staging,
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A root on NFS, as far as the system says."""
    root = tmp_path / "storage"
    root.mkdir()
    mounted_as(monkeypatch, root, "nfs4")
    return open_store(root)


class Stale:
    """A client that keeps using the folder it knew, until it has opened the folder above."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, known: Path) -> None:
        self.is_stale = True
        system = os.open

        def opened(path: Any, flags: int, *args: Any, **options: Any) -> int:
            place = Path(path)
            if place == folder.parent and flags & os.O_DIRECTORY:
                self.is_stale = False
            if self.is_stale and place.is_relative_to(folder):
                path = known / place.relative_to(folder)
            return system(path, flags, *args, **options)

        monkeypatch.setattr(os, "open", opened)


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.manifest(store.catalogue[RAW]).content_sha256,
        lambda store: store.read(store.catalogue[RAW], "raw/7B/weights"),
        lambda store: find(store.root / "models_v2/tiny/raw/7B/weights").record,
    ],
)
def test_what_another_host_exchanged_is_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch, read: Callable[[Store], object]
) -> None:
    """Measured on NFSv4.2: a reader kept using the old folder for 11 to 18 s, and once found no
    manifest, unless it opened the parent folder."""
    commit(store, RAW, OLD)
    old = read(store)
    known = store.root / "known"
    commit(store, RAW, {**NEW, "raw/7B/weights": b"newer weights"})
    new = read(store)
    assert old != new
    store.previous(store.catalogue[RAW]).rename(known)
    client = Stale(monkeypatch, store.root / "models_v2/tiny", known)
    assert read(store) == new
    assert not client.is_stale


@pytest.mark.parametrize("is_committed_anew", [True, False])
def test_file_that_another_host_removed(
    store: Store, monkeypatch: pytest.MonkeyPatch, is_committed_anew: bool
) -> None:
    """What is open on one host can be removed by another one, two commits later: what is committed
    then is read, or the error says what happened."""
    commit(store, RAW, OLD)
    path = store.root / "models_v2/tiny/raw/7B/weights"
    preadv = os.preadv

    def removed(*args: Any) -> int:
        monkeypatch.setattr(os, "preadv", preadv)
        if is_committed_anew:
            commit(store, RAW, NEW)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def read() -> bytes:
        return bytes(read_verified(path, VerifiedFile.read_whole))

    monkeypatch.setattr(os, "preadv", removed)
    if is_committed_anew:
        assert read() == b"new weights"
    else:
        with pytest.raises(MissingArtifact, match="was removed by another host"):
            read()
    with (
        pytest.raises(MissingArtifact, match=r"another host while it was read; run this again"),
        store._explained(store.catalogue[RAW], path),
    ):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def test_a_local_disk_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs nothing where nobody else writes."""
    mounted_as(monkeypatch, tmp_path, "ext4")
    client = Stale(monkeypatch, tmp_path / "folder", tmp_path / "known")
    refresh(tmp_path)
    assert client.is_stale


def test_no_folder_to_ask(store: Store) -> None:
    """What is missing is said by whoever opens it."""
    refresh(store.root / "nowhere/at/all")


GENERATIONS: list[Files] = [
    OLD,
    NEW,
    {"raw/7B/weights": b"third"},
    {"raw/7B/weights": b"third"},
    {"raw/7B/weights": b"fifth", "raw/more": b"x"},
    OLD,
]


@pytest.mark.parametrize("swap", ["at once", "three renames"])
def test_reader_that_keeps_old_generations_open(
    store: Store, monkeypatch: pytest.MonkeyPatch, swap: str
) -> None:
    """The commit was done and raised "Directory not empty", the next one "Device or resource busy":
    on NFS a file that is open on the same host can be removed by nobody."""
    if swap == "three renames":
        monkeypatch.setattr(exchange, "_native", lambda new, current: errno.EINVAL)
    reader = OpenElsewhere(monkeypatch)
    unit = store.root / "models_v2/tiny"
    for files in GENERATIONS:
        committed = commit(store, RAW, files)
        assert store.manifest(store.catalogue[RAW]) == committed
        there = {path: data for path, data in bytes_of(unit).items() if path.startswith("raw/")}
        assert there == files
        assert staging(store) == []
        reader.open(store.root)
    trash = store.internal / "trash"
    assert [*trash.rglob(".nfs*")]
    kept = [item for item in collect(store, ["trash"]) if item.kept]
    assert {item.kept for item in kept} == {IN_USE}
    assert len(kept) == len([*trash.iterdir()]) > 0
    reader.close(store.root)
    assert all(not item.kept for item in collect(store))
    assert [*trash.iterdir()] == []


def test_swap_that_was_cut_off_and_is_open(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies aside goes to the trash, too: else no commit there would succeed any more."""
    commit(store, RAW, OLD)
    reader = OpenElsewhere(monkeypatch)
    unit = store.root / "models_v2/tiny"
    aside = unit.with_name("tiny.wmtp-old")
    (aside / "raw").mkdir(parents=True)
    (aside / "raw/weights").write_bytes(b"older")
    reader.open(aside)
    store.recover(store.catalogue[RAW])
    assert not aside.exists()
    assert (unit / "raw/only-old").read_bytes() == b"x"


def test_a_full_trash_does_not_hide_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is in use is put aside: a disk that refuses to rename says so."""
    commit(store, RAW, OLD)
    (store.internal / "trash").mkdir()
    folder = store.internal / "scratch/left"
    (folder / "in").mkdir(parents=True)
    OpenElsewhere(monkeypatch)
    monkeypatch.setattr(os, "rmdir", lambda *args, **options: _refuse())
    monkeypatch.setattr(os, "rename", lambda *args, **options: _refuse())
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        store.discard(folder)


def _refuse() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_removed_files_that_are_open_are_no_files(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be linked into the next generation and stay; a file of that name on a local disk
    is somebody's, and is kept."""
    commit(store, RAW, OLD)
    name = ".nfs0000000000abcdef00000001"
    (store.root / "models_v2/tiny" / name).write_bytes(b"removed")
    (store.root / "models_v2/tiny/.nfs-notes").write_bytes(b"mine")
    commit(store, RAW, NEW)
    assert not (store.root / "models_v2/tiny" / name).exists()
    assert (store.root / "models_v2/tiny/.nfs-notes").read_bytes() == b"mine"
    local = tmp_path / "local"
    local.mkdir()
    (local / name).write_bytes(b"mine")
    mounted_as(monkeypatch, local, "ext4")
    assert [*names_below(local, raise_it)] == [local / name]


def test_age_is_measured_by_one_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose clock is two hours ahead would remove what another one is writing now."""
    commit(store, RAW, OLD)
    fresh = store.internal / "verified" / RAW / ".files.json.123.0123abcd"
    old = store.internal / "verified" / RAW / ".files.json.124.0123abcd"
    for path in (fresh, old):
        path.write_bytes(b"half")
    now = time.time()
    os.utime(old, (now - STALE - 60, now - STALE - 60))
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    assert [item.path for item in collect(store, ["temporary"])] == [old]
    assert fresh.exists()
    assert abs(clock(store.internal) - now) < 60
    assert not [*store.internal.glob(".wmtp-clock-*")]


def test_signs_wait_where_the_clock_is_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a server's clock that is behind, a file of now looks old enough, and a write in the same
    tick would not change its sign."""
    (store.root / "file").write_bytes(b"x")
    os.utime(store.root / "file", (0, 0))
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "time_ns", lambda: 1 << 62)
    sign_all(store.root, ["file"])
    assert slept == [TICK]
    mounted_as(monkeypatch, store.root, "xfs")
    sign_all(store.root, ["file"])
    assert slept == [TICK]


def test_locks_are_made_in_one_place() -> None:
    """A lock that is made elsewhere would fall back to a file that outlives its holder."""
    package = Path(wmtp_assets.__file__).parent
    makers = [p.name for p in package.rglob("*.py") if re.search(r"FileLock\(", p.read_text())]
    assert makers == ["locks.py"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_no_soft_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Lustre with noflock says ENOSYS; a lock file that flock left there would count as held."""
    path = tmp_path / "any.lock"
    path.touch()
    play(monkeypatch, "flock", code)
    with pytest.raises(LackingFilesystem, match=r"has no file locks.*-o flock"), hold(path):
        pass


def test_mount_of_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The innermost one, the last of two at one point; blanks are escaped; FUSE is shared."""
    odd = tmp_path / "with blank"
    (odd / "below").mkdir(parents=True)
    mounted_as(monkeypatch, odd, "nfs4", "rw,vers=4.2,local_lock=all")
    mount = mount_of(odd / "below")
    assert mount is not None
    assert (mount.kind, mount.point, mount.origin) == ("nfs4", odd, "server:/export")
    assert {"vers=4.2", "local_lock=all", "rw"} == mount.options
    assert is_network(odd)
    above = mount_of(tmp_path)
    assert above is not None
    assert above.kind == "ext4"
    point = str(odd).replace(" ", r"\040")
    with mounts.MOUNTS.open("a") as table:
        table.write(f"37 36 0:37 / {point} rw - fuse.juicefs JuiceFS:x rw\n")
    hidden = mount_of(odd)
    assert hidden is not None
    assert hidden.kind == "fuse.juicefs"
    assert hidden.is_network
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "nowhere")
    assert mount_of(odd) is None
    assert not is_network(odd)
