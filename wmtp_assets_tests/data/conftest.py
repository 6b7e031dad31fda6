"""A store for small CodeContests repositories."""

from __future__ import annotations

import pytest

from wmtp_assets.store import Store
from wmtp_assets_tests.data.contests import commit_tokenizer


@pytest.fixture
def bare_store(empty_store: Store) -> Store:
    """A store with a tokenizer and nothing else."""
    commit_tokenizer(empty_store)
    return empty_store
