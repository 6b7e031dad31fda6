"""Assets through Dagster: what a materialization says, and what a failure leaves behind."""

from __future__ import annotations

import dagster as dg

from wmtp_assets.components.storage import StorageResource
from wmtp_assets.definitions import build_defs
from wmtp_assets.layout import Catalogue
from wmtp_assets.store import Store
from wmtp_assets_tests.components.conftest import Run, runner
from wmtp_assets_tests.trees import damage, flip, tree

EVERYTHING_FOR_MICRO = (
    "meta_llama_mtp_raw,meta_llama_mtp_tokenizer,meta_llama_mtp_safetensors,micro_mtp"
)


def _failure(result: dg.ExecuteInProcessResult, step: str) -> str:
    (event,) = [e for e in result.all_events if e.is_step_failure and e.step_key == step]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return data.description or ""


def test_unchanged_bytes_have_the_same_data_version(
    store: Store, run: Run, instance: dg.DagsterInstance
) -> None:
    """A re-run that changes nothing must make nothing downstream stale."""
    versions = []
    for _ in range(2):
        assert run(dg.AssetSelection.assets("micro_mtp")).success
        event = instance.get_latest_materialization_event(dg.AssetKey("micro_mtp"))
        assert event is not None
        materialization = event.asset_materialization
        assert materialization is not None
        assert materialization.tags is not None
        versions.append(materialization.tags["dagster/data_version"])
    manifest = store.manifest(store.catalogue["micro_mtp"])
    assert versions == [manifest.content_sha256] * 2


def test_materialization_describes_the_artifact(store: Store, run: Run) -> None:
    """What the UI shows is read from the committed manifest."""
    result = run(dg.AssetSelection.assets("micro_mtp", "humaneval_small"))
    metadata = {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    micro = {key: value.value for key, value in metadata["micro_mtp"].items()}
    assert micro["n_params"] == 24_908_288
    assert micro["dtype"] == "float16"
    assert micro["dagster/size_bytes"] == store.manifest(store.catalogue["micro_mtp"]).size
    assert micro["repository"] == "https://huggingface.co/facebook/multi-token-prediction"
    assert metadata["humaneval_small"]["dagster/row_count"].value == 32


def test_missing_upstream_is_one_clear_message(
    empty_store: Store, instance: dg.DagsterInstance
) -> None:
    """Dagster does not test that upstream exists; people need what, where, and the command."""
    result = runner(empty_store, instance)(dg.AssetSelection.assets("micro_mtp"))
    assert not result.success
    message = _failure(result, "micro_mtp")
    assert "meta_llama_mtp_safetensors" in message
    assert str(empty_store.root / "models_v2/meta-llama-mtp/metadata.json") in message
    assert message.endswith(f"dagster asset materialize --select '{EVERYTHING_FOR_MICRO}'")


def test_damaged_parent_leaves_the_old_micro_model(store: Store, run: Run) -> None:
    """The hash of every parent tensor is checked as it is read, checks or no checks."""
    parent = store.catalogue["meta_llama_mtp_safetensors"]
    damage(store.path(parent, "safetensors/model.safetensors"), flip(5_000_000))
    before = tree(store.root / "models_v2/micro-mtp")
    result = run(dg.AssetSelection.assets("micro_mtp").without_checks())
    assert not result.success
    assert "is damaged: SHA-256" in _failure(result, "micro_mtp")
    assert tree(store.root / "models_v2/micro-mtp") == before


def test_instance_of_the_other_source_is_refused(
    empty_store: Store, instance: dg.DagsterInstance, run: Run
) -> None:
    """History of sample artifacts under real assets would lie about where bytes came from."""
    assert run(dg.AssetSelection.assets("humaneval_small")).success
    storage = StorageResource(source="hub", root=str(empty_store.root))
    job = build_defs(_only("humaneval_small"), storage).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert "export WMTP_SOURCE=hub; source activate.sh" in _failure(result, "humaneval_small")


def _only(key: str) -> dg.Definitions:
    from wmtp_assets.components.artifacts import asset_of

    return dg.Definitions(assets=[asset_of(Catalogue.load()[key])])
