"""``wmtp init``: the folders of the plan, which are in nobody's way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wmtp_assets.base.errors import StoreError, WrongRoot
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.operations.init import folders_of, init
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.status import status_of
from wmtp_assets.operations.verify import exit_code, strays, verify
from wmtp_assets.storage.store import Store

PLANNED = [
    *(
        f"models_v2/{model}/{folder}"
        for model in ("meta-llama-mtp", "ref-sheared-llama-2.7b", "micro-mtp")
        for folder in ("raw", "safetensors", "configs", "tokenizer")
        if (model, folder) != ("micro-mtp", "raw")  # a micro model is cut here: it has no raw files
    ),
    *(
        f"datasets_v2/{dataset}/{folder}"
        for dataset in ("codecontests", "mbpp", "humaneval")
        for folder in ("raw", "processed", "stats")
    ),
    *(f"datasets_local_small/{name}_small" for name in ("codecontests", "mbpp", "humaneval")),
]
"""The layout of step 1 of the phase-1 plan."""


def required(store: Store) -> list[str]:
    """Make the folders of all that is not optional; return those that are new."""
    artifacts = [artifact for artifact in store.catalogue if not artifact.optional]
    return [folder.path for folder in init(store, artifacts) if folder.is_new]


def test_layout_of_the_plan(empty_store: Store) -> None:
    """The folders that the plan makes by hand, and no optional model's; a second time, none."""
    made = required(empty_store)
    assert set(PLANNED) <= set(made)
    assert len(made) == len(set(made))
    assert not any("starling" in path or "gsm8k" in path for path in made)
    assert all((empty_store.root / path).is_dir() for path in made)
    assert required(empty_store) == []


def test_empty_folders_are_no_strays(empty_store: Store) -> None:
    """Nothing is materialized, and nothing is wrong but that."""
    required(empty_store)
    assert exit_code([strays(empty_store)]) == 0
    for artifact in empty_store.catalogue:
        assert status_of(empty_store, artifact).state == "absent"
    verdicts = verify(empty_store, empty_store.catalogue)
    assert {item.rule for item in verdicts} == {"committed"}
    assert exit_code(verdicts) == 2


def test_folders_of_others_stay_when_one_is_made(store: Store) -> None:
    """The card is committed by exchanging the folder of the whole model."""
    card = store.catalogue["micro_mtp_card"]
    (store.folder(card) / "raw/empty").mkdir(parents=True)
    store.path(card, "README.md").unlink()
    materialize(store, card)
    assert (store.folder(card) / "raw/empty").is_dir()
    assert not store.previous(card).exists()


def test_folders_hold_what_is_made(good_root: Path, store: Store) -> None:
    """The skeleton is that of the artifacts, as they are: each has files in its folders only."""
    for artifact in store.catalogue:
        folders = folders_of(artifact)
        for name in store.manifest(artifact).files:
            path = f"{artifact.base}/{name}"
            is_below = any(path.startswith(f"{folder}/") for folder in folders)
            assert is_below or name in (*artifact.owns, artifact.pieces), path


def test_good_tree_stays_as_it_is(store: Store) -> None:
    """All folders of a full tree are there."""
    assert [folder.path for folder in init(store, store.catalogue) if folder.is_new] == []


def test_dry_run_makes_nothing(empty_store: Store) -> None:
    """Not even the root."""
    assert all(folder.is_new for folder in init(empty_store, empty_store.catalogue, dry_run=True))
    assert not empty_store.root.exists()


@pytest.mark.parametrize("name", ["datasets_v2/humaneval", "datasets_v2/humaneval/raw"])
def test_file_in_the_way(empty_store: Store, name: str) -> None:
    """It is somebody's; it says which, and what to do."""
    path = empty_store.root / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(
        StoreError, match=f"{path} is not a folder, and is in the way of humaneval_raw"
    ):
        list(init(empty_store, empty_store.catalogue.select("humaneval_raw")))
    assert path.read_text() == "mine"


def test_root_of_the_other_source(store: Store) -> None:
    """A root belongs to one source from its first folder on."""
    required(store)
    other = Store(Settings("hub", store.root), store.catalogue)
    assert (store.root / INTERNAL / "source").read_text() == "sample\n"
    (store.root / "datasets_v2/humaneval/raw").rename(store.root / "elsewhere")
    with pytest.raises(WrongRoot):
        required(other)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_root_that_cannot_be_written(empty_store: Store) -> None:
    """As every command says it."""
    empty_store.root.mkdir(mode=0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        required(empty_store)
