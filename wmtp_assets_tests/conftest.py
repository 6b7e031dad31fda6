"""The sample graph, materialized once a session, and copies of it to damage."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest
from filelock import FileLock

from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import INTERNAL, Catalogue
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.rules import apply as applying
from wmtp_assets.sample.repositories import build_repositories
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.examples import EPOCH
from wmtp_assets_tests.trees import Copy, keep, link_kept, link_tree

with suppress(ImportError):  # of mlcroissant, of the extra dev
    from absl import logging as absl_logging

    # Its handler keeps the output of pytest that is there when it is imported, and closes it when
    # Dagster configures logging (which shuts all handlers down) while a test has its own.
    absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


KEPT = "PYTEST_KEPT"
"""Variable: a folder in which the sample's repositories and the good tree are kept for later
sessions of the same checkout. Without it each session makes its own."""


@cache
def catalogue() -> Catalogue:
    """Read once a process: nothing can change it, and there are two thousand tests."""
    return load_catalogue()


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of this session, and of all its test workers."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def sample_folder(session_folder: Path) -> Path:
    """The sample's repositories in full, 590 MB: made once, also for parallel test workers."""
    folder = Path(os.environ.get(KEPT, session_folder)) / "sample-hub"
    build_repositories(folder)
    return folder


@pytest.fixture(scope="session")
def good_root(session_folder: Path, sample_folder: Path) -> Path:
    """A storage root with the whole sample graph, optional artifacts too, for reading only: made
    once, also for parallel test workers."""
    root = session_folder / "good" / "storage"
    with FileLock(root.parent.with_suffix(".lock")):
        if not root.is_dir():
            kept = Path(os.environ[KEPT]) / "good" if KEPT in os.environ else None
            made = root.with_name("made")
            if kept is not None and kept.is_dir():
                link_kept(kept, made)
            else:
                _make(made, sample_folder)
                if kept is not None:
                    keep(made, kept)
            made.rename(root)
    return root


def _make(root: Path, sample_folder: Path) -> None:
    link_tree(sample_folder, root / INTERNAL / "hub")
    store = Store(Settings("sample", root), catalogue())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH)
        for artifact in store.catalogue:
            materialize(store, artifact)
    # Copies link what is here: they would wait for each other's locks.
    shutil.rmtree(root / INTERNAL / "locks")


@pytest.fixture(scope="session")
def good_copy(good_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The copy of :func:`good_root` that the tests of one process change in turn."""
    return Copy(good_root, tmp_path_factory.mktemp("copy") / "storage")


@pytest.fixture
def root(good_copy: Copy) -> Path:
    """A copy of :func:`good_root`; change files through :func:`trees.damage` only."""
    good_copy.restore()
    return good_copy.root


@pytest.fixture
def store(root: Path) -> Store:
    """The store of :func:`root`."""
    return Store(Settings("sample", root), catalogue())


@pytest.fixture(autouse=True)
def no_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that raises what it should not is a failed test, and no finding like others."""

    def fail(error: Exception) -> NoReturn:
        raise error

    monkeypatch.setattr(applying, "defect", fail)


@pytest.fixture
def empty_store(tmp_path: Path) -> Store:
    """The store of an empty root."""
    return Store(Settings("sample", tmp_path / "empty"), catalogue())
