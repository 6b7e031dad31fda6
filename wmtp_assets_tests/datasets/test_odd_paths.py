"""Folders whose names are not UTF-8, or that the locale cannot spell: Python has surrogates in
their place, which pyarrow takes for no path."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets.base.child import directly
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.operations.derive import derive_all
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.verify import verify
from wmtp_assets.sample.repositories import all_repositories, build_repositories
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.trees import link_tree

LATIN = "caf\udce9"
"""``café`` in Latin-1, as Python has it where file names are UTF-8."""


@pytest.fixture
def odd(root: Path, store: Store, tmp_path: Path) -> Store:
    """A copy of the good tree in such a folder."""
    there = tmp_path / LATIN / "storage"
    link_tree(root, there)
    return Store(Settings("sample", there), store.catalogue)


def test_rows_are_made_and_verified(odd: Store) -> None:
    """Written, joined, indexed, verified, and derived once more: each opens parquet files."""
    rows = odd.catalogue["humaneval_processed"]
    before = odd.manifest(rows).content_sha256
    assert materialize(odd, rows, run=directly).content_sha256 == before
    verdicts = verify(odd, [rows])
    assert [v.rule for v in verdicts if v.outcome.findings] == []
    assert [v.rule for v in derive_all(odd, [rows]) if v.outcome.findings] == []


def test_sample_is_made(tmp_path: Path) -> None:
    """Where somebody's project folder is called so, the first command is the one that fails."""
    wanted = [it for it in all_repositories() if it.repo_id == "openai/openai_humaneval"]
    folder = tmp_path / LATIN / INTERNAL / "hub"
    build_repositories(folder, wanted)
    assert [*folder.rglob("*.parquet")]
