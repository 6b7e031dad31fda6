"""The real graph over a copy of the good storage tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import dagster as dg
import pytest

from wmtp_assets.components.storage import StorageResource
from wmtp_assets.components.types import definitions_of
from wmtp_assets.definitions import build_defs
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store

Run = Callable[[dg.AssetSelection], dg.ExecuteInProcessResult]


@cache
def assets_and_checks() -> dg.Definitions:
    """The assets and checks, made once a process: they are immutable, and know no storage."""
    return definitions_of(load_catalogue())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of its own."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def run(store: Store, instance: dg.DagsterInstance) -> Run:
    """Run a selection of the graph over ``store``; a failed run is a result too."""
    return runner(store, instance)


def runner(store: Store, instance: dg.DagsterInstance) -> Run:
    """A function that runs a selection of the graph over ``store``."""
    storage = StorageResource(source="sample", root=str(store.root))
    defs = build_defs(assets_and_checks(), storage)

    def run(selection: dg.AssetSelection) -> dg.ExecuteInProcessResult:
        job = dg.Definitions.merge(
            defs, dg.Definitions(jobs=[dg.define_asset_job("selection", selection)])
        ).resolve_job_def("selection")
        return job.execute_in_process(instance=instance, raise_on_error=False)

    return run
