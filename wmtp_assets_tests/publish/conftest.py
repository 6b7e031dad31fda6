"""A storage tree to publish, and folders to publish it to."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets.publish.folder import Folder
from wmtp_assets.store import Store
from wmtp_assets_tests.publish.trees import make_store

PART = 1_000_000
"""Bytes of a part in these tests: a file of 3,000,000 bytes has three."""


@pytest.fixture
def tree_store(tmp_path: Path) -> Store:
    """The store of :func:`make_store`."""
    return make_store(tmp_path / "storage")


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """An empty folder, as a volume is mounted."""
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


@pytest.fixture
def folder(mounted: Path) -> Folder:
    """The same as a destination."""
    return Folder(mounted, part_size=PART)
