"""Links in the place of our folders and files: nothing is made or removed where they lead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from wmtp_assets.base.errors import StoreError
from wmtp_assets.operations.clean import clean
from wmtp_assets.operations.gc import collect
from wmtp_assets.operations.publish import publish
from wmtp_assets.operations.repair import repair_one
from wmtp_assets.operations.rollback import rollback
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations.trees import (
    LARGE,
    MODEL,
    at,
    commit,
    make_store,
    pull_all,
    random_bytes,
)
from wmtp_assets_tests.quick import first_of_each, thinned
from wmtp_assets_tests.trees import damage, flip

OURS = ("models_v2", "models_v2/meta-llama-mtp", ".wmtp")
STAGED = (".wmtp/locks", ".wmtp/staging", f".wmtp/staging/{MODEL}", ".wmtp/previous")
KEPT = (".wmtp/amended", ".wmtp/previous", ".wmtp/trash", ".wmtp/locks")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two generations of a small model, and the second published."""
    store = make_store(tmp_path / "storage", 30_000)
    change(store)
    (tmp_path / "published").mkdir()
    publish(store, [store.catalogue[MODEL]], at(tmp_path / "published"))
    return store


def change(store: Store) -> None:
    commit(store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(30_000, 3)})


def pull(store: Store) -> None:
    pull_all(store, at(store.root.parent / "published"), MODEL)


def repair(store: Store) -> None:
    damage(store.root / LARGE, flip(5))
    row, code = repair_one(store, store.catalogue[MODEL])
    assert (row["state"], code) == ("not repaired", 1)
    raise StoreError(row["problem"])


WRITING: dict[str, Callable[[Store], object]] = {
    "commit": change,
    "pull": pull,
    "repair": repair,
    "rollback": lambda store: rollback(store, store.catalogue[MODEL]),
    "amend": lambda store: store.amend(store.catalogue[MODEL], {"note": 1}),
}
REMOVING: dict[str, Callable[[Store], object]] = {
    "gc": lambda store: list(collect(store)),
    "clean": lambda store: list(clean(store, [store.catalogue[MODEL]], dry_run=False)),
    "publish": lambda store: publish(store, None, at(store.root.parent / "published")),
}
DO = {**WRITING, **REMOVING}
CASES = [
    *((how, name) for how in WRITING for name in (*OURS, *STAGED)),
    *((how, name) for how in REMOVING for name in (".wmtp", *KEPT)),
]


OF_EACH = first_of_each(CASES, lambda it: it[0])


@pytest.mark.parametrize(
    ("how", "name"),
    thinned(CASES, [("pull", "models_v2/meta-llama-mtp"), *OF_EACH, *CASES[::4]]),
)
def test_link_in_the_place_of_a_folder(store: Store, tmp_path: Path, how: str, name: str) -> None:
    """Whoever can make a link there would have our files written, and somebody's removed."""
    path, elsewhere = store.root / name, tmp_path / "elsewhere"
    path.rename(elsewhere) if path.exists() else elsewhere.mkdir(parents=True)
    (elsewhere / "somebody's").mkdir()
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(elsewhere)
    before = seen(elsewhere)
    with pytest.raises(StoreError) as error:
        DO[how](store)
    said = str(error.value)
    assert f"{path} is a link, and " in said
    assert "Nothing was changed; move it away, then run this again" in said
    if how != "repair":  # which damages a file first
        assert seen(elsewhere) == before
    assert path.is_symlink()
    assert (elsewhere / "somebody's").is_dir()


@pytest.mark.parametrize("do", [change, pull])
@pytest.mark.parametrize("name", ["raw", "raw/7B_1T_4", "raw/7B_1T_4/consolidated.pth"])
def test_link_inside_an_artifact(
    store: Store, tmp_path: Path, do: Callable[[Store], object], name: str
) -> None:
    """The right bytes behind it may be changed there by anybody: the artifact gets its own."""
    artifact = store.catalogue[MODEL]
    path, elsewhere = store.path(artifact, name), tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = seen(elsewhere)
    do(store)
    for made in (path, *path.rglob("*")):
        assert not made.is_symlink()
        assert made.is_dir() or made.stat().st_nlink == 1
    assert seen(elsewhere) == before


def seen(path: Path) -> list[tuple[str, int, bytes]]:
    """Name, inode and content of what is there."""
    return [
        (it.name, it.stat().st_ino, it.read_bytes() if it.is_file() else b"")
        for it in sorted((path, *path.rglob("*")))
    ]
