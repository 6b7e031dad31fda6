"""Exchange: two folders change places, or nothing changes."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from wmtp_assets.storage import exchange as module
from wmtp_assets.storage.exchange import exchange, is_atomic, is_cut_off, recover
from wmtp_assets_tests.trees import tree

CUT_OFF_POINTS = range(4)
"""After no rename of the fallback, the first, the second, and all three."""


def discard(folder: Path) -> None:
    """What a store does with an old folder, without its trash."""
    shutil.rmtree(folder)


class Killed(BaseException):
    """Stands for SIGKILL: no ``except`` clause of the program runs."""


@pytest.fixture
def new(tmp_path: Path) -> Path:
    folder = tmp_path / "staging/model"
    (folder / "raw").mkdir(parents=True)
    (folder / "raw/weights").write_bytes(b"new")
    return folder


@pytest.fixture
def current(tmp_path: Path) -> Path:
    folder = tmp_path / "models/model"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"old")
    (folder / "notes").write_bytes(b"old notes")
    return folder


@pytest.fixture
def fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filesystem without the system call, such as NFS."""
    monkeypatch.setattr(module, "_native", lambda first, second: errno.EINVAL)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, BaseException], None]:
    """Makes the rename after the first ``done`` ones fail, once."""

    def failing(done: int, error: BaseException) -> None:
        real = os.rename
        calls = iter(range(100))

        def rename(source: Path, target: Path) -> None:
            if next(calls) == done:
                raise error
            real(source, target)

        monkeypatch.setattr(os, "rename", rename)

    return failing


# -- the system call -----------------------------------------------------------------------------


def test_exchange(new: Path, current: Path) -> None:
    """The very folders change places: no file is copied, none has another inode."""
    was_new, was_current = tree(new), tree(current)
    exchange(new, current)
    assert tree(current) == was_new
    assert tree(new) == was_current


def test_whether_it_is_atomic_is_tried(tmp_path: Path, fallback: None) -> None:
    """What a filesystem can do is known only by doing it; nothing is left of the trial."""
    assert not is_atomic(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_here_it_is_atomic(tmp_path: Path) -> None:
    """Tests run on filesystems that can, as CI's."""
    assert is_atomic(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_exchange_twice_is_nothing(new: Path, current: Path) -> None:
    """The way back is the same way."""
    was_new, was_current = tree(new), tree(current)
    exchange(new, current)
    exchange(new, current)
    assert (tree(new), tree(current)) == (was_new, was_current)


def test_exchange_leaves_nothing_beside(new: Path, current: Path) -> None:
    """What lies beside an artifact is a stray to verification."""
    exchange(new, current)
    assert list(current.parent.iterdir()) == [current]
    assert list(new.parent.iterdir()) == [new]
    assert not is_cut_off(current)


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EACCES, errno.ENOSPC, errno.EIO, errno.EROFS])
def test_other_errors_change_nothing(
    new: Path, current: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Only 'there is no such call' leads to the fallback; any other refusal is told as it is."""
    was_new, was_current = tree(new), tree(current)
    monkeypatch.setattr(module, "_native", lambda first, second: code)
    with pytest.raises(OSError, match=os.strerror(code)) as error:
        exchange(new, current)
    assert error.value.errno == code
    assert error.value.filename == str(current)
    assert (tree(new), tree(current)) == (was_new, was_current)
    assert list(current.parent.iterdir()) == [current]


def test_missing_folder(new: Path, current: Path) -> None:
    """The real call's own error comes through; the folder that is there stays."""
    was_current = tree(current)
    with pytest.raises(FileNotFoundError):
        exchange(new.with_name("nowhere"), current)
    assert tree(current) == was_current


def test_names_of_any_script(tmp_path: Path) -> None:
    """The system takes bytes: names go to it in the filesystem's encoding."""
    one, two = tmp_path / "ü 模型", tmp_path / "plain"
    for folder in (one, two):
        folder.mkdir()
        (folder / folder.name).touch()
    exchange(one, two)
    assert (two / "ü 模型").exists()
    assert (one / "plain").exists()


# -- the fallback --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", sorted({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
)
def test_fallback(new: Path, current: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Where the system or the filesystem cannot exchange, three renames do the same."""
    was_new, was_current = tree(new), tree(current)
    monkeypatch.setattr(module, "_native", lambda first, second: code)
    exchange(new, current)
    assert (tree(current), tree(new)) == (was_new, was_current)
    assert list(current.parent.iterdir()) == [current]


def test_system_without_the_call(new: Path, current: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old C library has no ``renameat2``: that is not a reason to fail."""
    was_new = tree(new)
    monkeypatch.setattr(module.ctypes, "CDLL", lambda *args, **kwargs: object())
    exchange(new, current)
    assert tree(current) == was_new


@pytest.mark.parametrize("done", range(3))
@pytest.mark.usefixtures("fallback")
def test_failing_rename_is_undone(
    new: Path, current: Path, failing: Callable[[int, BaseException], None], done: int
) -> None:
    """Two plain renames that fail at the second leave no artifact at all: here each is undone."""
    was_new, was_current = tree(new), tree(current)
    failing(done, PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(PermissionError):
        exchange(new, current)
    assert (tree(new), tree(current)) == (was_new, was_current)
    assert list(current.parent.iterdir()) == [current]


# -- recovery ------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", CUT_OFF_POINTS)
@pytest.mark.usefixtures("fallback")
def test_recover_after_each_cut_off_point(
    new: Path, current: Path, failing: Callable[[int, BaseException], None], done: int
) -> None:
    """Killed anywhere in the fallback: the old folder or the new, whole, after recovery."""
    was_new, was_current = tree(new), tree(current)
    failing(done, Killed())
    if done < 3:
        with pytest.raises(Killed):
            exchange(new, current)
        assert is_cut_off(current) is (done > 0)
    else:
        exchange(new, current)
    recover(current, discard)
    assert tree(current) == (was_current if done < 2 else was_new)
    assert list(current.parent.iterdir()) == [current]
    assert not is_cut_off(current)
    if done < 2:
        assert tree(new) == was_new


@pytest.mark.parametrize("done", CUT_OFF_POINTS)
@pytest.mark.usefixtures("fallback")
def test_recovery_can_be_cut_off_too(
    new: Path,
    current: Path,
    failing: Callable[[int, BaseException], None],
    monkeypatch: pytest.MonkeyPatch,
    done: int,
) -> None:
    """A machine that crashes once may crash again while it recovers."""
    was_new, was_current = tree(new), tree(current)
    failing(done, Killed())
    try:
        exchange(new, current)
    except Killed:
        assert done < 3

    def killed(path: Path) -> None:
        next(path.rglob("*")).unlink()
        raise Killed

    monkeypatch.setattr(module.shutil, "rmtree", killed)
    try:
        recover(current, discard)
    except Killed:
        assert done == 2
    monkeypatch.undo()
    recover(current, discard)
    assert tree(current) == (was_current if done < 2 else was_new)
    assert list(current.parent.iterdir()) == [current]


def test_recover_does_nothing_otherwise(current: Path) -> None:
    """It runs before every commit: on a sound folder, or none, it must not touch anything."""
    was_current = tree(current)
    recover(current, discard)
    assert tree(current) == was_current
    nowhere = current.with_name("nowhere")
    recover(nowhere, discard)
    assert not nowhere.exists()
