"""A filesystem that lacks locks, hard links or renames of folders is not a place for a root."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from wmtp_assets.base.errors import LackingFilesystem
from wmtp_assets.storage.exchange import LINKS, LOCKS, RENAMES, lacking
from wmtp_assets_tests.storage.filesystems import Lack, play
from wmtp_assets_tests.storage.test_store import OLD, RAW, bytes_of, commit, open_store

LACKS: list[tuple[Lack, str]] = [("flock", LOCKS), ("link", LINKS), ("rename", RENAMES)]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
@pytest.mark.parametrize(("lack", "what"), LACKS)
def test_our_own_root_needs_all_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: Lack, what: str, code: int
) -> None:
    """One error before any work, instead of one behind hours of it: what, where, why, and what to
    type. What is committed stays as it is."""
    store = open_store(tmp_path / "storage")
    commit(store, RAW, OLD)
    before = bytes_of(store.root / "models_v2")
    play(monkeypatch, lack, code)
    with pytest.raises(LackingFilesystem) as error:
        commit(store, RAW, {"raw/0": b"new"})
    text = str(error.value)
    assert f"the filesystem of {store.root} has no {what}, so no commit there is safe" in text
    assert "export WMTP_STORAGE_ROOT=" in text
    assert "\n" not in text
    assert bytes_of(store.root / "models_v2") == before


def test_lock_alone_says_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """filelock would take a file that outlives a killed run for a lock."""
    store = open_store(tmp_path)
    play(monkeypatch, "flock", errno.ENOSYS)
    with pytest.raises(LackingFilesystem), store.lock("anything"):
        pass


@pytest.mark.parametrize("lack", ["flock", "link", "rename"])
def test_another_error_is_no_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: Lack
) -> None:
    """A failing disk has all three, and is said as what it is."""
    play(monkeypatch, lack, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        lacking(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_here_nothing_lacks(tmp_path: Path) -> None:
    """Tried, and cleaned up."""
    assert lacking(tmp_path) == []
    assert [*tmp_path.iterdir()] == []
