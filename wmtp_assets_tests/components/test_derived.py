"""The check ``derived`` in Dagster: applied by its job only, and seen with its age."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from wmtp_assets.components.derived import JOB, SCHEDULE
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.components.verified import VERIFIED_AT
from wmtp_assets.definitions import build_defs
from wmtp_assets.operations.derive import NAME, is_derived
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.components.conftest import assets_and_checks
from wmtp_assets_tests.components.test_runs import query
from wmtp_assets_tests.pages import PROJECT, copy_project
from wmtp_assets_tests.poison import poison
from wmtp_assets_tests.webserver import serving

MBPP = "mbpp_processed"
KEY = dg.AssetCheckKey(dg.AssetKey(MBPP), NAME)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance of our class, in a folder."""
    shutil.copy(PROJECT / ".dagster/sample/dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def defs(store: Store) -> dg.Definitions:
    return build_defs(assets_and_checks(), StorageResource(source="sample", root=str(store.root)))


def derive(store: Store, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """A run of the job, for one dataset."""
    job = defs(store).resolve_job_def(JOB).get_subset(asset_check_selection={KEY})
    return job.execute_in_process(instance=instance, raise_on_error=False)


def make(store: Store, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """A run of ``--select mbpp_processed``."""
    job = dg.Definitions.merge(
        defs(store),
        dg.Definitions(jobs=[dg.define_asset_job("chosen", dg.AssetSelection.assets(MBPP))]),
    ).resolve_job_def("chosen")
    return job.execute_in_process(instance=instance, raise_on_error=False)


def last(instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    """The last evaluation, as the page of the asset has it."""
    record = instance.get_latest_asset_check_evaluation_record(KEY)
    assert record is not None
    assert isinstance(record.evaluation, dg.AssetCheckEvaluation), "planned, and never applied"
    return record.evaluation


def test_rows_that_are_derived(store: Store, kept: dg.DagsterInstance) -> None:
    """It passes, with the time and what was compared."""
    assert derive(store, kept).success
    evaluation = last(kept)
    assert evaluation.passed
    assert {VERIFIED_AT, "seconds", "read", "findings"} <= evaluation.metadata.keys()


def test_poisoned_row_fails_the_job(store: Store, kept: dg.DagsterInstance) -> None:
    """Its place is on the page of the check, and the exit code is 1."""
    poison(store, "mbpp", "code")
    result = derive(store, kept)
    assert not result.success
    evaluation = last(kept)
    assert not evaluation.passed
    assert evaluation.severity == dg.AssetCheckSeverity.ERROR
    file = f"{store.catalogue[MBPP].base}/processed/train.jsonl"
    assert (evaluation.description or "").startswith(f"{file}: line 1, output: expected ")
    failures = kept.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert [entry.step_key for entry in failures] == [MBPP]


def test_selecting_the_asset_does_not_apply_it(
    store: Store, kept: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversion after each materialization would double its time; what the page shows is the
    last result, with its age, and not that the check was skipped."""
    assert derive(store, kept).success
    before = kept.get_latest_asset_check_evaluation_record(KEY)
    monkeypatch.setattr("wmtp_assets.components.checks.derive", None)
    result = make(store, kept)
    assert result.success
    checks = {evaluation.check_name for evaluation in result.get_asset_check_evaluations()}
    assert "sha256" in checks
    assert NAME not in checks
    after = kept.get_latest_asset_check_evaluation_record(KEY)
    assert before is not None
    assert after is not None
    assert after.id == before.id
    assert last(kept).passed


def test_jobs_that_apply_it(store: Store) -> None:
    """Only its own, for every dataset; the weekly schedule is on."""
    repository = defs(store).get_repository_def()
    wanted = {
        dg.AssetCheckKey(dg.AssetKey(artifact.key), NAME)
        for artifact in store.catalogue
        if is_derived(artifact)
    }
    for name in repository.job_names:
        keys = repository.get_job(name).asset_layer.asset_graph.asset_check_keys
        found = {key for key in keys if key.name == NAME}
        assert found == (wanted if name in (JOB, "__ASSET_JOB") else set()), name
    schedule = repository.get_schedule_def(SCHEDULE)
    assert (schedule.job_name, schedule.cron_schedule) == (JOB, "0 5 * * 0")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


@pytest.mark.long
def test_command_and_web_ui(tmp_path: Path, root: Path, store: Store) -> None:
    """``dagster job execute -j derived`` for cron, and what the web UI is told of it."""
    folder = tmp_path / "project"
    copy_project(folder)
    (folder / "wmtp_assets").symlink_to(PROJECT / "wmtp_assets")
    (folder / ".venv").symlink_to(sys.prefix)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"},
        "WMTP_STORAGE_ROOT": str(root),
        "PYTHONPATH": str(PROJECT),
    }
    poison(store, "mbpp", "code", row=3)

    def shell(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f"source activate.sh; {line}"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert shell("python -m wmtp_assets.components.instance").returncode == 0
    done = shell(f"dagster job execute -j {JOB}")
    assert done.returncode == 1
    assert "processed/train.jsonl: line 4, output: expected" in done.stderr
    asked = """{ assetNodeOrError(assetKey: {path: ["%s"]}) { ... on AssetNode {
      assetChecksOrError { ... on AssetChecks { checks { name description
        executionForLatestMaterialization { status timestamp evaluation { success description } }
      } } } } } }"""
    web = "source activate.sh; exec dagster-webserver -w workspace.yaml"
    with serving(web, folder, environment) as url:
        for key, status in ((MBPP, "FAILED"), ("humaneval_processed", "SUCCEEDED")):
            node = query(url, asked % key)["assetNodeOrError"]
            checks = {it["name"]: it for it in node["assetChecksOrError"]["checks"]}
            execution = checks[NAME]["executionForLatestMaterialization"]
            assert execution["status"] == status
            assert execution["evaluation"]["success"] == (status == "SUCCEEDED")
            assert "dagster job execute -j derived" in checks[NAME]["description"]
