"""A run in which nothing changed: what Dagster shows of it, and how to have everything made."""

from __future__ import annotations

import dagster as dg

from wmtp_assets.components.storage import FORCE, StorageResource
from wmtp_assets.definitions import build_defs
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.components.conftest import Run, assets_and_checks
from wmtp_assets_tests.rules.cases import untouched
from wmtp_assets_tests.trees import own

KEY = "mbpp_small"
SELECTION = dg.AssetSelection.assets(KEY)


def shown(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Check → whether its result was recalled."""
    return {
        check.check_name: "remembered" in check.metadata
        for check in result.get_asset_check_evaluations()
    }


def test_second_run_makes_nothing_and_shows_everything(store: Store, run: Run) -> None:
    """The asset has the same data version and all its metadata, each check its last result."""
    for key in ("mbpp_raw", "mbpp_processed", KEY):
        own(store, store.catalogue[key])
    first = run(dg.AssetSelection.assets("mbpp_raw", "mbpp_processed", KEY))
    before = untouched(store)
    second = run(SELECTION)
    assert second.success and untouched(store) == before
    (was,), (now,) = (result.asset_materializations_for_node(KEY) for result in (first, second))
    assert now.tags is not None and was.tags is not None
    version = "dagster/data_version"
    assert (
        now.tags[version]
        == was.tags[version]
        == store.manifest(store.catalogue[KEY]).content_sha256
    )
    assert now.metadata["made"].value == "unchanged"
    assert now.metadata.keys() >= was.metadata.keys() - {"why"}
    assert shown(first).keys() >= shown(second).keys() and all(shown(second).values())
    check = next(iter(second.get_asset_check_evaluations()))
    assert check.metadata["remembered"].value is True and "verified_at" in check.metadata


def test_forced_run_makes_it_and_reads_every_byte(
    store: Store, run: Run, instance: dg.DagsterInstance
) -> None:
    """In the launchpad, by ``make materialize FORCE=1``, and in the job that runs at night."""
    run(SELECTION)
    path = store.manifest_path(store.catalogue[KEY])
    inode = path.stat().st_ino
    storage = StorageResource(source="sample", root=str(store.root))
    defs = build_defs(assets_and_checks(), storage)
    jobs = dg.Definitions.merge(
        defs, dg.Definitions(jobs=[dg.define_asset_job("forced", SELECTION, config=FORCE)])
    )
    done = jobs.resolve_job_def("forced").execute_in_process(instance=instance)
    assert done.success and not any(shown(done).values())
    assert path.stat().st_ino != inode
    assert defs.resolve_job_def("integrity").run_config == FORCE


def test_job_stale_has_the_optional_assets_that_are_there(store: Store) -> None:
    """One that was never made is not made by it."""
    storage = StorageResource(source="sample", root=str(store.root))
    for optional in ((), ("gsm8k_raw",)):
        defs = build_defs(assets_and_checks(), storage, optional=optional)
        keys = defs.resolve_job_def("stale").asset_layer.executable_asset_keys
        required = {a.key for a in store.catalogue if not a.optional}
        assert {key.to_user_string() for key in keys} == required | {*optional}
