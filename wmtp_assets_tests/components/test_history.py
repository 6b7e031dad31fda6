"""Dagster's history in databases that stay open: the same files, and nothing of them lost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from wmtp_assets.components import history
from wmtp_assets.components.history import KeptEventLog

PROJECT = Path(__file__).parents[2]
STORAGE = {"module": history.__name__, "class": "KeptStorage"}


@dg.asset
def one() -> dg.MaterializeResult:
    """An asset."""
    return dg.MaterializeResult(data_version=dg.DataVersion("1"))


def _instance(home: Path, storage: Mapping[str, object]) -> dg.DagsterInstance:
    home.mkdir(exist_ok=True)
    said = {"storage": storage, "telemetry": {"enabled": False}}
    (home / "dagster.yaml").write_text(json.dumps(said))
    return dg.DagsterInstance.from_config(str(home))


def _kept(home: Path) -> dg.DagsterInstance:
    return _instance(home, {"custom": {**STORAGE, "config": {"base_dir": str(home)}}})


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance whose databases stay open."""
    with _kept(tmp_path / "home") as instance:
        yield instance


def _events(instance: dg.DagsterInstance) -> list[str]:
    runs = sorted(run.run_id for run in instance.get_runs())
    return [entry.to_json() for run in runs for entry in instance.all_logs(run)]


@pytest.mark.parametrize(
    "name", ["dagster.yaml", ".dagster/sample/dagster.yaml", ".dagster/hub/dagster.yaml"]
)
def test_instances_of_the_project_use_it(name: str) -> None:
    """Of three files one is easily forgotten."""
    document: Any = yaml.safe_load((PROJECT / name).read_text())
    custom = document["storage"]["custom"]
    assert {key: custom[key] for key in STORAGE} == STORAGE


def test_the_files_are_dagsters(tmp_path: Path) -> None:
    """An instance from before keeps its history, and can go back."""
    home = tmp_path / "home"
    plain = {"sqlite": {"base_dir": str(home)}}
    with _instance(home, plain) as before:
        assert dg.materialize([one], instance=before).success
        first = _events(before)
    with _kept(home) as kept:
        assert _events(kept) == first
        assert dg.materialize([one], instance=kept).success
        second = _events(kept)
    with _instance(home, plain) as after:
        assert _events(after) == second
        assert len(second) > len(first)
        event = after.get_latest_materialization_event(one.key)
        assert event is not None


def test_another_process_sees_each_event_at_once(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """The web server reads while a run writes: no transaction may stay open."""
    result = dg.materialize([one], instance=instance)
    log = instance.event_log_storage
    assert isinstance(log, KeptEventLog)
    other = sqlite3.connect(log.path_for_shard(result.run_id), timeout=0)
    (count,) = other.execute("select count(*) from event_logs").fetchone()
    assert count == len(instance.all_logs(result.run_id))
    other.execute("begin immediate")
    other.close()


def test_few_databases_stay_open(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web server reads the events of hundreds of runs, each a file."""
    monkeypatch.setattr(history, "KEPT", 2)
    for _ in range(2):
        assert dg.materialize([one], instance=instance).success
    assert len(_events(instance)) > 0
    log = instance.event_log_storage
    assert isinstance(log, KeptEventLog)
    assert len(log._engines) == 2
    instance.wipe()
    assert _events(instance) == []
    assert dg.materialize([one], instance=instance).success
