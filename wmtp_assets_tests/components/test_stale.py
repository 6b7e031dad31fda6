"""What Dagster calls stale after a setting or a builder changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleCauseCategory
from dagster._core.loader import LoadingContext

from wmtp_assets.catalogue.specs import DEFS_FOLDER
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.components.types import definitions_of
from wmtp_assets.definitions import build_defs
from wmtp_assets.kinds import registry
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets_tests.components.conftest import Run

MBPP = [f"mbpp_{kind}" for kind in ("raw", "processed", "pairs", "small", "stats", "croissant")]


class _Context(LoadingContext):
    """What a request to the web server keeps of what it read."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance, self._loaders = instance, {}

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._instance

    @property
    def loaders(self) -> dict:
        return self._loaders


def stale(instance: dg.DagsterInstance, defs_folder: Path) -> set[str]:
    """The assets of MBPP that have a new code version; there is no other cause."""
    storage = StorageResource(source="sample", root="/nowhere")
    graph = build_defs(definitions_of(load_catalogue(defs_folder)), storage).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, _Context(instance))
    found = set()
    for key in MBPP:
        causes = resolver.get_stale_causes(dg.AssetKey(key))
        assert {cause.category for cause in causes} <= {StaleCauseCategory.CODE}
        if causes:
            found.add(key)
    return found


@pytest.fixture
def defs_folder(tmp_path: Path) -> Path:
    """A copy of the ``defs.yaml`` files."""
    return Path(shutil.copytree(DEFS_FOLDER, tmp_path / "defs"))


@pytest.fixture
def made(run: Run, instance: dg.DagsterInstance) -> Iterator[dg.DagsterInstance]:
    """The instance that saw all of MBPP being made."""
    assert run(dg.AssetSelection.assets(*MBPP).without_checks()).success
    yield instance


def test_a_setting_makes_stale_what_its_bytes_are_made_with(
    made: dg.DagsterInstance, defs_folder: Path
) -> None:
    """Each for itself; what is made from it is stale when its content is another."""
    assert stale(made, defs_folder) == set()
    path = defs_folder / "datasets/mbpp/defs.yaml"
    shipped = path.read_text()
    for old, new, keys in (
        ("max_tokens: 2048", "max_tokens: 1024", {"mbpp_processed"}),
        ("  max_tokens: 2048", "  max_tokens: 2048\n  small: {train: 9}", {"mbpp_small"}),
        ("license: ", "license: not ", {"mbpp_raw", "mbpp_croissant"}),
    ):
        assert old in shipped
        path.write_text(shipped.replace(old, new, 1))
        assert stale(made, defs_folder) == keys


def test_a_new_builder_makes_its_artifacts_stale(
    made: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version is raised when the same upstream content becomes other bytes."""
    kinds = dict(registry.all_kinds())
    kinds["pairs"] = replace(kinds["pairs"], version=kinds["pairs"].version + 1)
    monkeypatch.setattr(registry, "all_kinds", lambda: kinds)
    assert stale(made, DEFS_FOLDER) == {"mbpp_pairs"}
