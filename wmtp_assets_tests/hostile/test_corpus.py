"""Hostile files are refused: named, cheaply, and by a child process that continues.

CPU time and memory are those of the child, which a busy machine changes little.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wmtp_assets.base.child import call, stop
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.hostile import (  # noqa: F401 -- they fill the corpus
    json_corpus,
    node_corpus,
    parquet_corpus,
    rows_corpus,
    safetensors_corpus,
    torch_corpus,
)
from wmtp_assets_tests.hostile.corpus import CORPUS, Hostile, seal
from wmtp_assets_tests.hostile.probe import Meter, number
from wmtp_assets_tests.trees import damage, link_tree

CPU = 1.0
"""Seconds that a file may take."""

MEMORY = 200 << 20
"""Bytes that it may take beyond what the child has."""

ATTEMPTS = 3
"""A file that is dear is so every time, in a new child too; a core that was shared is not."""

if sys.platform != "linux":
    pytest.skip("costs are read from /proc", allow_module_level=True)

Make = Callable[[Path], Store]


@pytest.fixture(scope="module")
def good_stores() -> dict[Make, Store]:
    """Good stores, by what makes them; made when they are needed first."""
    return {}


@pytest.fixture(scope="module")
def warm() -> set[tuple[int, str]]:
    """Doors through which a child, by its number, has read a good file: its imports are done."""
    return set()


def copy(store: Store, root: Path) -> Store:
    """A store with the same artifacts."""
    link_tree(store.root, root)
    settings = store.settings
    return Store(type(settings)(settings.source, root), store.catalogue)


def test_corpus_is_large() -> None:
    """60 files at least, none of them twice."""
    names = [str(item) for item in CORPUS]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.faults
@pytest.mark.parametrize("item", CORPUS, ids=str)
def test_hostile_file_is_refused_cheaply(
    item: Hostile,
    good_stores: dict[Make, Store],
    warm: set[tuple[int, str]],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Said what is wrong and with which file; nothing executed, nothing left staged."""
    monkeypatch.chdir(tmp_path)
    door = item.door
    if door.make not in good_stores:
        good_stores[door.make] = door.make(tmp_path_factory.mktemp("good") / "store")
    for attempt in range(ATTEMPTS):
        folder = tmp_path / str(attempt)
        if (call(number), door.name) not in warm:
            assert not any(door.enter(copy(good_stores[door.make], folder / "warm")))
            warm.add((call(number), door.name))
        store = copy(good_stores[door.make], folder / "store")
        path = door.path(store)
        damage(path, lambda data: data)
        try:
            item.write(path)
        except PermissionError as error:
            pytest.skip(f"cannot be made here: {error}")
        seal(store, store.catalogue[door.key], door.file)
        meter = Meter()
        said: list[str] = []
        costs = []
        for step in door.enter(store):
            said += step
            costs.append(meter.read())
        assert meter.is_same_child(), said
        assert any(path.name in line for line in said), said
        assert re.search(item.said, "\n".join(said)), said
        assert all(line.isprintable() for line in said)
        assert not list(tmp_path.rglob(torch_corpus.MARKER))
        assert not any(path.is_file() for path in (store.internal / "staging").rglob("*"))
        if all(cost.cpu < CPU and cost.memory < MEMORY for cost in costs):
            return
        stop()
    pytest.fail(f"{costs} for {said}")
