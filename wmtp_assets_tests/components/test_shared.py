"""A dataset that is made in several steps: in Dagster it is the same asset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from wmtp_assets.base.settings import STEPS_VARIABLE, Settings
from wmtp_assets.components.artifacts import asset_of
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.components.types import definitions_of
from wmtp_assets.definitions import build_defs
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.contests import (
    commit_raw,
    commit_tokenizer,
    problem,
    shard_name,
    small_repository,
    table,
)

KEY = "codecontests_processed"
STEPS = 3
TIMES = {"seconds", "megabytes_per_second", "dagster/uri"}
"""Metadata that differs between two runs, or two roots."""


def definitions(store: Store, steps: int, patch: pytest.MonkeyPatch) -> dg.Definitions:
    """The graph over a store, with so many steps."""
    patch.setenv(STEPS_VARIABLE, str(steps))
    storage = StorageResource(source="sample", root=str(store.root))
    return build_defs(definitions_of(store.catalogue), storage)


def run(defs: dg.Definitions, instance: dg.DagsterInstance, **config: Any) -> Any:
    """Make the dataset, with its checks."""
    job = dg.define_asset_job("one", dg.AssetSelection.assets(KEY), config=config or None)
    return (
        dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
        .resolve_job_def("one")
        .execute_in_process(instance=instance, raise_on_error=False)
    )


def small_store(root: Path) -> Store:
    """The small repository, from which nothing was made yet."""
    store = Store(Settings("sample", root), load_catalogue())
    commit_tokenizer(store)
    commit_small(store, small_repository())
    return store


def commit_small(store: Store, files: dict[str, Any]) -> None:
    """Commit raw files that say where they are from, as the page of the asset shows it."""
    commit_raw(store, files)
    raw = store.catalogue["codecontests_raw"]
    source = store.manifest(raw).document["source"]
    store.amend(raw, {"source": source | {"type": "dataset", "endpoint": "sample"}})


def said(result: Any) -> tuple[Any, ...]:
    """What Dagster was told: tags and metadata of the asset, and what became of each check."""
    (event,) = result.get_asset_materialization_events()
    materialization = event.materialization
    tags = {
        name: value
        for name, value in (materialization.tags or {}).items()
        if "input" not in name  # pointers to events
    }
    metadata = {k: v for k, v in materialization.metadata.items() if k not in TIMES}
    checks = sorted(
        (evaluation.check_name, evaluation.passed, evaluation.severity, evaluation.blocking)
        for evaluation in result.get_asset_check_evaluations()
    )
    return tags, metadata, checks


@pytest.mark.long
def test_several_steps_say_what_one_says(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content hash, data version, checks and metadata: nobody downstream sees how it was made."""
    told: dict[int, Any] = {}
    stores: dict[int, Store] = {}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for steps in (0, STEPS):
        store = stores[steps] = small_store(tmp_path / str(steps))
        result = run(definitions(store, steps, monkeypatch), instance)
        told[steps] = said(result)
        done = [e.step_key for e in result.all_events if e.is_step_success]
        if steps:
            names = [f"{KEY}.convert_{number}" for number in range(STEPS)]
            assert done[: STEPS + 1] == [*names, f"{KEY}.join"]
    tags, _, checks = told[0]
    assert told[0] == told[STEPS]
    assert len(checks) > 5
    assert tags["dagster/data_version"]
    one, several = (stores[steps].manifest_path(stores[steps].catalogue[KEY]) for steps in stores)
    assert one.read_bytes() == several.read_bytes()


@pytest.mark.long
def test_unchanged_dataset_is_left_and_force_makes_it(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with one step."""
    store = small_store(tmp_path)
    defs = definitions(store, STEPS, monkeypatch)
    config: dict[str, Any] = {"resources": {"options": {"config": {"force": True}}}}
    made = []
    for options in ({}, {}, config):
        (event,) = run(defs, instance, **options).get_asset_materialization_events()
        made.append(event.materialization.metadata["made"].value)
    assert made == ["made", "unchanged", "made"]


@pytest.mark.long
def test_error_in_a_shard_fails_the_run_once(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step says what is wrong; the others keep what they made; nothing is committed."""
    store = small_store(tmp_path)
    name = shard_name("train", 1, 3)
    commit_small(store, small_repository() | {name: table([problem("c", source=99)])})
    result = run(definitions(store, STEPS, monkeypatch), instance)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_key == f"{KEY}.convert_0"
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert f"{name}: row 0" in (data.description or "")
    assert not store.manifest_path(store.catalogue[KEY]).exists()
    summaries = [*store.scratch(store.catalogue[KEY]).glob("*/summary.json")]
    assert len(summaries) == 4


@pytest.mark.parametrize("source", ["sample", "hub"])
def test_asset_is_declared_alike(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Description, group, kinds, owners, code version, upstream, automation: as with one step."""
    monkeypatch.setenv("WMTP_SOURCE", source)
    artifact = load_catalogue()[KEY]
    specs = []
    for steps in ("0", "3"):
        monkeypatch.setenv(STEPS_VARIABLE, steps)
        (spec,) = asset_of(artifact).specs
        specs.append(spec)
    one, several = specs
    for name in (
        "key", "description", "group_name", "tags", "owners", "code_version",
        "automation_condition", "kinds",
    ):  # fmt: skip
        assert getattr(one, name) == getattr(several, name), name
    assert {dep.asset_key for dep in one.deps} == {dep.asset_key for dep in several.deps}
    assert one.metadata["path"] == several.metadata["path"]


def test_only_what_can_be_shared_is_made_in_several_steps(
    store_of_nothing: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is one stream."""
    defs = definitions(store_of_nothing, STEPS, monkeypatch)
    graph = defs.resolve_job_def("everything").graph
    shared = {node.name for node in graph.nodes if isinstance(node.definition, dg.GraphDefinition)}
    processed = {item.key for item in store_of_nothing.catalogue.of_kind("processed")}
    assert shared == {key for key in processed if not store_of_nothing.catalogue[key].optional}


@pytest.fixture
def store_of_nothing(tmp_path: Path) -> Store:
    return Store(Settings("sample", tmp_path), load_catalogue())
