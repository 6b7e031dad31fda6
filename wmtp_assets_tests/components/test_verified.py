"""What the UI says about the age of a verification."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from wmtp_assets.base.settings import utc_now
from wmtp_assets.components import verified
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.components.verified import MAX_AGE, OVERDUE, VERIFIED_AT, verification_overdue
from wmtp_assets.definitions import build_defs
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.components.conftest import Run, assets_and_checks
from wmtp_assets_tests.trees import damage, flip

KEY = "humaneval_small"
CHECK = dg.AssetCheckKey(dg.AssetKey(KEY), "sha256")


def checks() -> dg.AssetSelection:
    return dg.AssetSelection.checks_for_assets(KEY)


def tick(store: Store, instance: dg.DagsterInstance) -> str:
    """Evaluate the sensor once; what the UI shows of it."""
    storage = StorageResource(source="sample", root=str(store.root))
    context = dg.build_sensor_context(instance=instance, resources={"storage": storage})
    result = verification_overdue(context)
    assert isinstance(result, dg.SkipReason)
    return result.skip_message or ""


def last(instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    record = instance.get_latest_asset_check_evaluation_record(CHECK)
    assert record is not None and record.evaluation is not None
    return record.evaluation


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine slept for two days."""
    monkeypatch.setattr(verified, "utc_now", lambda: utc_now() + MAX_AGE + timedelta(hours=12))


def observed(instance: dg.DagsterInstance) -> list[float]:
    """The times that the asset's page shows, newest first."""
    records = instance.fetch_observations(dg.AssetKey(KEY), limit=10).records
    found = [record.asset_observation for record in records]
    values = [it.metadata[VERIFIED_AT].value for it in found if it is not None]
    return [value for value in values if isinstance(value, float)]


def test_verification_is_seen_on_the_page_of_the_asset(
    store: Store, run: Run, instance: dg.DagsterInstance
) -> None:
    """The time of the last time that all bytes were right; damaged ones were not verified."""
    before = utc_now()
    assert run(checks()).success
    (first,) = observed(instance)
    assert before.timestamp() <= first <= utc_now().timestamp()
    damage(store.path(store.catalogue[KEY], "test_small.jsonl"), flip(9))
    assert not run(checks()).success
    assert observed(instance) == [first]


def test_recent_verification_is_not_overdue(
    store: Store, run: Run, instance: dg.DagsterInstance
) -> None:
    """Last night's result is what is to be seen."""
    assert run(checks()).success
    assert tick(store, instance) == "nothing is overdue"
    assert last(instance).passed


@pytest.mark.usefixtures("later")
def test_overdue_verification_is_a_warning(
    store: Store, run: Run, instance: dg.DagsterInstance
) -> None:
    """A green check of the week before is what people believe in; said once, not every hour."""
    assert run(checks()).success
    assert tick(store, instance) == f"overdue: {KEY}"
    evaluation = last(instance)
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert evaluation.blocking
    assert "overdue" in (evaluation.description or "")
    assert "dagster job execute -j integrity" in str(evaluation.metadata[OVERDUE].value)
    record = instance.get_latest_asset_check_evaluation_record(CHECK)
    assert tick(store, instance) == f"overdue: {KEY}"
    again = instance.get_latest_asset_check_evaluation_record(CHECK)
    assert record is not None and again is not None and again.id == record.id


def test_warning_ends_with_a_verification(
    store: Store, run: Run, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with one of ``wmtp verify``, of which Dagster knows nothing."""
    assert run(checks()).success
    with monkeypatch.context() as patch:
        patch.setattr(verified, "utc_now", lambda: utc_now() + 2 * MAX_AGE)
        tick(store, instance)
    assert not last(instance).passed
    artifact = store.catalogue[KEY]
    (rule,) = (rule for rule in rules_of(artifact) if rule.name == "sha256")
    assert not apply_rule(rule, store, artifact).findings
    assert tick(store, instance) == "nothing is overdue"
    assert last(instance).passed


def test_check_that_is_being_applied_is_left_alone(
    store: Store, run: Run, instance: dg.DagsterInstance
) -> None:
    """Its latest record is then that of a run that has not come to it, which has no result."""
    assert run(checks()).success
    storage = StorageResource(source="sample", root=str(store.root))
    job = build_defs(assets_and_checks(), storage).resolve_job_def("integrity")
    instance.create_run_for_job(job, run_config=job.run_config)
    record = instance.get_latest_asset_check_evaluation_record(CHECK)
    assert record is not None and record.status == AssetCheckExecutionRecordStatus.PLANNED
    assert tick(store, instance) == "nothing is overdue"


@pytest.mark.usefixtures("later")
def test_failure_is_not_made_a_warning(
    store: Store, run: Run, instance: dg.DagsterInstance
) -> None:
    """It stops what is downstream, however old it is."""
    damage(store.path(store.catalogue[KEY], "test_small.jsonl"), flip(9))
    assert not run(checks()).success
    assert tick(store, instance) == "nothing is overdue"
    assert last(instance).severity == dg.AssetCheckSeverity.ERROR
