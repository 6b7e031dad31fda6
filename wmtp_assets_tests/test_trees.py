"""Trees that are kept for later sessions of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets_tests.trees import damage, keep, link_kept, tree


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A small tree."""
    folder = tmp_path / "made"
    (folder / "models_v2").mkdir(parents=True)
    (folder / "models_v2/metadata.json").write_text("{}\n")
    return folder


def test_kept_tree_is_linked(made: Path, tmp_path: Path) -> None:
    """Also where two sessions keep one at the same time."""
    kept = tmp_path / "kept"
    keep(made, kept)
    keep(made, kept)
    link_kept(kept, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(made)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "kept", "made"]


def test_test_that_writes_to_it_is_found(made: Path, tmp_path: Path) -> None:
    """The files of every copy are the same: each later test would see what one of them wrote."""
    kept = tmp_path / "kept"
    keep(made, kept)
    link_kept(kept, tmp_path / "copy")
    damage(tmp_path / "copy/models_v2/metadata.json", lambda data: data + b" ")
    link_kept(kept, tmp_path / "again")
    with (made / "models_v2/metadata.json").open("a") as file:
        file.write(" ")
    with pytest.raises(AssertionError, match=r"models_v2/metadata\.json"):
        link_kept(kept, tmp_path / "more")
