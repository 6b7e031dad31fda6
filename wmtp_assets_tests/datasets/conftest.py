"""Stores for small CodeContests repositories."""

from __future__ import annotations

import pytest

from wmtp_assets.base.settings import Settings
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.contests import commit_raw, commit_tokenizer, make, small_repository
from wmtp_assets_tests.trees import Copy


@pytest.fixture
def bare_store(empty_store: Store) -> Store:
    """A store with a tokenizer and nothing else."""
    commit_tokenizer(empty_store)
    return empty_store


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with the small repository, processed, and its tests; for reading only."""
    root = tmp_path_factory.mktemp("small") / "storage"
    store = Store(Settings("sample", root), load_catalogue())
    commit_tokenizer(store)
    commit_raw(store, small_repository())
    for part in ("processed", "tests"):
        make(store, part)
    return store


@pytest.fixture(scope="session")
def small_copy(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The copy of it that the tests of one process change in turn."""
    return Copy(small_store.root, tmp_path_factory.mktemp("copy") / "storage")


@pytest.fixture
def contests(small_store: Store, small_copy: Copy) -> Store:
    """A copy of it."""
    small_copy.restore()
    return Store(Settings("sample", small_copy.root), small_store.catalogue)
