"""``wmtp doctor --lock-test`` from two hosts, which are threads with an identity each: ``flock``
excludes them from each other as it does processes.

``docs/clusters.md`` says what it said on two clients of a real NFSv4 server.
"""

from __future__ import annotations

import errno
import fcntl
import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.base.settings import Settings
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.doctor import lock_test as module
from wmtp_assets.operations.doctor.lock_test import (
    BROKEN,
    NOTHING,
    PROVEN,
    LockTestResult,
    lock_test,
)
from wmtp_assets.operations.doctor.mount_options import WEAKNESSES, Weakness, weaknesses
from wmtp_assets.storage import mounts
from wmtp_assets.storage.mounts import mount_of
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.storage.filesystems import mounted_as, play

WAIT = 20.0


def open_store(root: Path) -> Store:
    root.mkdir(exist_ok=True)
    return Store(Settings("sample", root), load_catalogue())


def both(
    first: Store,
    second: Store,
    machines: tuple[str, str] = ("a", "b"),
    wait: float = WAIT,
) -> tuple[LockTestResult, LockTestResult]:
    """The command on two hosts, the second when the first one holds the lock."""
    with ThreadPoolExecutor(2) as pool:
        holding: Future[str] = Future()

        def say(line: str) -> None:
            if line.startswith("holding"):
                holding.set_result(line)

        one = pool.submit(lock_test, first, say, wait=wait, machine=machines[0])
        holding.result(60)
        two = pool.submit(lock_test, second, wait=wait, machine=machines[1])
        return one.result(), two.result()


def said(tested: LockTestResult) -> dict[str, tuple[str, str]]:
    return {it.topic: (it.state, it.says) for it in tested.conditions}


def left(store: Store) -> list[str]:
    """Messages that are still there."""
    return sorted(path.name for path in (store.internal / "lock-test").glob("*.json"))


def test_two_hosts(tmp_path: Path) -> None:
    """Both say it: the lock was refused to one while the other held it, and handed over."""
    store = open_store(tmp_path / "storage")
    one, two = both(store, store)
    for tested in (one, two):
        assert tested.exit_code == PROVEN
        assert [*said(tested)] == ["mount", "lock", "file", "clock"]
        assert all(state == "ok" for state, _ in said(tested).values())
    assert "was refused the lock while" in said(one)["lock"][1]
    assert "then got it" in said(two)["lock"][1]
    assert left(store) == []


def test_one_machine_proves_nothing(tmp_path: Path) -> None:
    """Two shells, or two containers on one host: the kernel is the same, whatever is mounted."""
    store = open_store(tmp_path / "storage")
    for tested in both(store, store, ("a", "a")):
        assert tested.exit_code == NOTHING
        assert "both commands ran on one machine" in said(tested)["lock"][1]


def test_locks_that_are_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS with local_lock=all, Lustre with localflock, BeeGFS by default: each host has its own
    locks, and every other test passes."""
    store = open_store(tmp_path / "storage")
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: None)
    for tested in both(store, store):
        assert tested.exit_code == BROKEN
        state, says = said(tested)["lock"]
        assert state == "error"
        assert "hold the same lock at the same time" in says
    assert left(store) == []


def test_folders_that_are_not_shared(tmp_path: Path) -> None:
    """Each host holds a lock that nobody else tries."""
    one, two = open_store(tmp_path / "one"), open_store(tmp_path / "two")
    for tested in both(one, two, wait=1):
        assert tested.exit_code == NOTHING
        assert "nobody else tried the lock within 1 s" in said(tested)["lock"][1]
        assert "sees another folder" in tested.conditions[-1].remedy


def test_holder_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it wrote is left; its lock is not, and nobody answers."""
    monkeypatch.setattr(module, "ANSWER", 0.5)
    store = open_store(tmp_path / "storage")
    folder = store.internal / "lock-test"
    folder.mkdir(parents=True)
    message = {"run": "1" * 32, "host": "dead", "pid": 1, "machine": "c", "ahead": 0.0}
    (folder / "holder.json").write_text(json.dumps(message))
    assert [tested.exit_code for tested in both(store, store)] == [PROVEN, PROVEN]
    assert left(store) == []


def test_files_that_are_seen_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is refused, but what its holder wrote does not come: nocto, or another export."""
    monkeypatch.setattr(module, "ANSWER", 0.5)
    store = open_store(tmp_path / "storage")
    real: Callable[[Any, Path], Any] = module._Test._read

    def blind(test: Any, path: Path) -> Any:
        return None if test.machine == "b" else real(test, path)

    monkeypatch.setattr(module._Test, "_read", blind)
    _, two = both(store, store, wait=2)
    assert two.exit_code == BROKEN
    assert "what its holder wrote is not seen" in said(two)["file"][1]


def test_clocks_that_are_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured against the filesystem's own clock, so that the delay of the network is not in."""
    store = open_store(tmp_path / "storage")
    real = module._Test.__init__

    def ahead(test: Any, folder: Path, say: Any, machine: str) -> None:
        real(test, folder, say, machine)
        test.ahead += 7.25 * (machine == "b")

    monkeypatch.setattr(module._Test, "__init__", ahead)
    for tested in both(store, store):
        state, says = said(tested)["clock"]
        assert state == "warning"
        assert "are 7." in says
        assert tested.exit_code == PROVEN


def test_no_locks_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lustre with noflock: said at once, and no file is taken for a lock."""
    store = open_store(tmp_path / "storage")
    play(monkeypatch, "flock", errno.ENOSYS)
    tested = lock_test(store, wait=5, machine="a")
    assert tested.exit_code == BROKEN
    assert "has no file locks" in said(tested)["lock"][1]


@pytest.mark.parametrize("weak", WEAKNESSES, ids=lambda weak: f"{weak.kinds[0]}-{weak.option}")
def test_mount_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weak: Weakness) -> None:
    """Refused where several hosts would write at the same time; else a warning. Each filesystem has
    its own: what is not its option says nothing."""
    store = open_store(tmp_path / "storage")
    mounted_as(monkeypatch, store.root, weak.kinds[0], f"rw,{weak.option}")
    tested = lock_test(store, wait=0, machine="a")
    state, says = said(tested)["mount"]
    assert state == ("error" if weak.is_refused else "warning")
    assert says.startswith(weak.sentence)
    assert tested.exit_code == (BROKEN if weak.is_refused else NOTHING)
    mounted_as(monkeypatch, store.root, "ext4", f"rw,{weak.option}")
    mount = mount_of(store.root)
    assert mount is not None
    assert weaknesses(mount) == []


def test_system_without_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS does not say what is mounted where; the lock is tested all the same."""
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "nowhere")
    store = open_store(tmp_path / "storage")
    tested = lock_test(store, wait=0, machine="a")
    assert said(tested)["mount"][0] == "ok"
    assert tested.exit_code == NOTHING
