"""Publishing as assets: what is sent, when, and what the UI says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from wmtp_assets.components.published import GROUP, PUBLISHED, PublishResource, published_assets
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.components.types import definitions_of
from wmtp_assets.definitions import build_defs, defs
from wmtp_assets.destinations import in_parts
from wmtp_assets.destinations.listing import MANIFEST
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations.conftest import (
    Cloud,
    cloud,
    hub,
    served_azure,
    served_google,
    served_hub,
)
from wmtp_assets_tests.destinations.hub import Hub
from wmtp_assets_tests.quick import full_only
from wmtp_assets_tests.trees import damage, flip, remove_optional

Send = Callable[..., dg.ExecuteInProcessResult]

__all__ = ["cloud", "hub", "served_azure", "served_google", "served_hub"]
"""Fixtures of another folder."""


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A mounted folder to publish to."""
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


@pytest.fixture
def send(store: Store, volume: Path, instance: dg.DagsterInstance) -> Send:
    """Materialize assets over ``store``, with ``volume`` as the destination."""

    def run(
        *keys: str, url: str = volume.as_uri(), to: PublishResource | None = None
    ) -> dg.ExecuteInProcessResult:
        every = dg.Definitions.merge(
            definitions_of(store.catalogue),
            dg.Definitions(assets=published_assets(store.catalogue)),
        )
        storage = StorageResource(source="sample", root=str(store.root))
        job = build_defs(every, storage, to or PublishResource(url=url))
        return job.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(key) for key in keys],
        )

    return run


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """The metadata of the only materialization."""
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def sent(volume: Path) -> set[str]:
    """The artifacts that are published."""
    return set(json.loads((volume / MANIFEST).read_bytes())["artifacts"])


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Why the only step failed."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return data.description or ""


@full_only
def test_all_three_are_the_whole_storage(store: Store, volume: Path, send: Send) -> None:
    """Models, datasets, and only by name what is for one machine; nothing is sent twice."""
    remove_optional(store)
    here = {item.key for item in store.catalogue if not item.optional}
    result = send("published_models")
    assert result.success
    first = told(result)
    assert first["destination"] == volume.as_uri()
    assert first["bytes_sent"] == first["dagster/size_bytes"] > 0
    assert first["verified"] == "hash"
    assert {"meta_llama_mtp_raw", "storage_release"} < sent(volume)
    assert "humaneval_processed" not in sent(volume)

    assert send("published_datasets").success
    assert not any(store.catalogue[key].is_local for key in sent(volume))
    assert send("published_small").success
    assert sent(volume) == here

    result = send("published_models")
    again = told(result)
    assert again["bytes_sent"] == 0
    assert again["bytes_skipped"] == first["bytes_sent"]
    assert again["release"] == first["release"] == "v2.0.0"


def test_optional_artifacts_are_sent_where_they_were_made(
    store: Store, volume: Path, send: Send
) -> None:
    """The tree above had none of them."""
    assert send("published_small").success
    assert sent(volume) == {item.key for item in store.catalogue if item.is_local}


@pytest.mark.long
def test_to_the_hub(store: Store, hub: Hub, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder goes to a repository of its own. Consent and the right to make repositories come
    from the environment; without them nothing is made, and nothing is ever made public."""
    monkeypatch.setenv("WMTP_PUBLISH_URL", "hf://models/acme/{folder}")
    refused = send("published_small", to=PublishResource.of_environment())
    assert not refused.success
    assert "--create" in failure(refused)
    monkeypatch.setenv("WMTP_PUBLISH_CREATE", "1")
    refused = send("published_small", to=PublishResource.of_environment())
    assert "WMTP_PUBLISH_ACCEPT_LICENCE=1" in failure(refused)
    assert not hub.repositories
    monkeypatch.setenv("WMTP_PUBLISH_ACCEPT_LICENCE", "1")
    assert send("published_small", to=PublishResource.of_environment()).success
    assert ("model", "acme/micro-mtp") in hub.repositories
    for repository in hub.repositories.values():
        assert repository.is_private
        assert {"LICENSE", "NOTICE", MANIFEST} <= repository.main.keys()


@pytest.mark.long
def test_to_google_and_azure(
    store: Store, cloud: Cloud, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project's own definitions, with nothing but the environment: the bytes arrive, the
    second run sends none, and the UI shows where to."""
    monkeypatch.setenv("WMTP_SOURCE", "sample")
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(store.root))
    monkeypatch.setenv("WMTP_PUBLISH_URL", cloud.url)
    monkeypatch.setattr(in_parts, "READ_SECONDS", 60)  # parts of 16 MiB
    key = dg.AssetKey("published_small")
    job = defs().resolve_implicit_global_asset_job_def()

    def run() -> dict[str, Any]:
        return told(job.execute_in_process(instance=instance, asset_selection=[key]))

    first = run()
    assert first["destination"] == cloud.url
    assert first["bytes_sent"] == first["dagster/size_bytes"] > 0
    there = cloud.objects()
    listed = json.loads(there[MANIFEST])["artifacts"]
    assert set(listed) == {item.key for item in store.catalogue if item.is_local}
    for item in listed.values():
        for path in item["files"]:
            assert there[path] == (store.root / path).read_bytes()
    assert run()["bytes_sent"] == 0
    assert cloud.objects() == there
    assert defs().resolve_asset_graph().get(key).kinds == {cloud.scheme}


def test_damaged_artifact_is_not_sent(store: Store, volume: Path, send: Send) -> None:
    """Checks that passed last night say nothing about the bytes that are sent now."""
    damage(store.path(store.catalogue["humaneval_small"], "test_small.jsonl"), flip(9))
    result = send("published_small")
    assert not result.success
    assert "nothing was sent: humaneval_small does not pass the rule sha256" in failure(result)
    assert not (volume / MANIFEST).exists()


def test_nothing_is_sent_beside_other_assets(volume: Path, send: Send) -> None:
    """``--select 'micro_mtp*'`` asks for all that is downstream; nobody named a destination."""
    result = send("humaneval_small", "published_small")
    assert result.success
    assert [
        event.asset_key and event.asset_key.to_user_string()
        for event in result.get_asset_materialization_events()
    ] == ["humaneval_small"]
    assert list(volume.iterdir()) == []


def test_job_that_makes_other_assets_too(store: Store, volume: Path) -> None:
    """Launched without a selection a run is of all that its job has."""

    @dg.asset
    def other() -> None:
        """Something else."""

    job = dg.define_asset_job("both", selection=["published_small", "other"])
    resources = {
        "storage": StorageResource(source="sample", root=str(store.root)),
        "destination": PublishResource(url=volume.as_uri()),
    }
    assets = [*published_assets(store.catalogue), other]
    every = dg.Definitions(assets=assets, jobs=[job], resources=resources)
    result = every.resolve_job_def("both").execute_in_process()
    assert result.success
    assert not result.dagster_run.asset_selection
    assert [*volume.iterdir()] == []


def test_without_a_destination_it_says_what_to_set(send: Send) -> None:
    """The button is in the UI whether or not anybody has a cluster."""
    result = send("published_small", url="")
    assert not result.success
    assert "WMTP_PUBLISH_URL is not set" in failure(result)


@pytest.mark.parametrize(
    ("url", "kinds"), [("file:///mnt/x", {"file"}), ("ftp://x", set[str]()), ("", set[str]())]
)
def test_kind_is_the_scheme(url: str, kinds: set[str]) -> None:
    """The UI does not say S3 of what goes elsewhere; an unknown URL fails the run only."""
    for asset in published_assets(load_catalogue(), url):
        for spec in asset.specs:
            assert spec.kinds == kinds


def test_published_assets_stand_in_the_lineage() -> None:
    """Downstream of what they send, in a group of their own, and in no job."""
    graph = defs().resolve_asset_graph()
    catalogue = load_catalogue()
    parents = set()
    for name in PUBLISHED:
        node = graph.get(dg.AssetKey(name))
        assert node.group_name == GROUP
        assert node.tags["optional"] == "true"
        assert not node.kinds
        parents |= {key.to_user_string() for key in node.parent_keys}
    assert parents == {artifact.key for artifact in catalogue}
    for job in ("models", "datasets", "small", "everything"):
        selected = defs().resolve_job_def(job).asset_layer.executable_asset_keys
        assert not {key.to_user_string() for key in selected} & PUBLISHED.keys()
