"""A mounted folder on a real disk that has too little room, by varying amounts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from wmtp_assets.base.errors import PublishError
from wmtp_assets.destinations import file as module
from wmtp_assets.operations.publish import publish
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations.trees import (
    MODEL,
    at,
    commit,
    files_below,
    make_store,
    random_bytes,
)
from wmtp_assets_tests.faults.test_full_disk import AMPLE, namespace, resize, used
from wmtp_assets_tests.storage.test_store import in_fresh_process

__all__ = ["namespace"]

SIZE = 3_000_000
PAGE = 4096


@contextmanager
def blind() -> Iterator[None]:
    """The disk says that it has room: as when somebody else fills it."""
    real = module.shutil
    stub = SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=AMPLE), rmtree=real.rmtree)
    module.shutil = stub  # type: ignore[assignment]
    try:
        yield
    finally:
        module.shutil = real


def attempt(store: Store, disk: Path) -> str:
    """Publish; the message, or nothing."""
    try:
        publish(store, None, at(disk, part_size=1_000_000))
    except PublishError as error:
        return str(error)
    return ""


def fill(disk: Path) -> None:
    """What must hold; run where ``disk`` is one that can be resized."""
    assert shutil.disk_usage(disk).total == AMPLE
    store = make_store(disk.parent / "storage", SIZE)
    assert attempt(store, disk) == ""
    commit(store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(SIZE, 5)})
    before, base = files_below(disk), used(disk)
    said = []
    for room in range(0, SIZE + 20 * PAGE, SIZE // 3):
        resize(disk, base + room + PAGE)
        if room < SIZE // 2:
            said.append(attempt(store, disk))
            assert "has no room: 3.0 MB to send" in said[-1], (room, said)
            assert "Nothing was sent" in said[-1]
        with blind():
            said.append(attempt(store, disk))
        if not said[-1]:
            break
        assert "is full (No space left on device" in said[-1], said
        assert files_below(disk) == before, room
        assert used(disk) <= base + PAGE, room
    resize(disk, AMPLE)
    assert attempt(store, disk) == ""
    there = files_below(disk)
    assert {path: there[path] for path in files_below(store.root)} == files_below(store.root)
    assert len(said) > 3


def test_folder_on_disks_that_are_too_small(tmp_path: Path, namespace: list[str]) -> None:
    """What is published stays as it is, nothing staged is left to fill the disk further, and with
    room enough the same command succeeds."""
    statement = (
        "from wmtp_assets_tests.destinations import test_full_disk; test_full_disk.fill(folder)"
    )
    in_fresh_process(statement, tmp_path / "disk", namespace)
