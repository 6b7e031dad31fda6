"""The nightly schedule, and the sensor that tells a person when it fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest

from wmtp_assets.base.settings import WEBHOOK_VARIABLE
from wmtp_assets.components.alerts import failure_alerts
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.definitions import defs
from wmtp_assets.operations.derive import NAME
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.components.conftest import Run
from wmtp_assets_tests.trees import damage, flip

SECRET = "T0KEN-in-the-path"


class Receiver(ThreadingHTTPServer):
    """A webhook on loopback.

    Attributes:
        received: the documents that were posted.
        status: what it answers with.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[dict[str, Any]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/{SECRET}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status == 200:
            assert self.path.endswith(SECRET)
            self.server.received.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A webhook, and an environment that names it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with receiving() as server:
        monkeypatch.setenv(WEBHOOK_VARIABLE, server.url)
        yield server


class Sensor:
    """Evaluates the sensor as the daemon does, with the cursor it left."""

    def __init__(self, store: Store, instance: dg.DagsterInstance) -> None:
        self._store, self._instance = store, instance
        self.cursor: str | None = None

    def tick(self) -> str:
        """Evaluate once; what the UI shows of it."""
        storage = StorageResource(source="sample", root=str(self._store.root))
        context = dg.build_sensor_context(
            instance=self._instance, cursor=self.cursor, resources={"storage": storage}
        )
        result = failure_alerts(context)
        self.cursor = context.cursor
        assert isinstance(result, dg.SkipReason)
        assert result.skip_message is not None
        return result.skip_message


@pytest.fixture
def sensor(store: Store, instance: dg.DagsterInstance) -> Sensor:
    return Sensor(store, instance)


def checks_of(key: str) -> dg.AssetSelection:
    return dg.AssetSelection.checks_for_assets(dg.AssetKey(key))


def test_every_rule_is_applied_every_night() -> None:
    """The schedule runs as soon as there is a daemon."""
    repository = defs().get_repository_def()
    schedule = repository.get_schedule_def("integrity_daily")
    assert schedule.job_name == "integrity"
    assert schedule.cron_schedule == "0 3 * * *"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    layer = repository.get_job("integrity").asset_layer
    every = repository.asset_graph.asset_check_keys
    assert set(layer.asset_graph.asset_check_keys) == {key for key in every if key.name != NAME}
    assert layer.executable_asset_keys == set()


def test_upstream_is_asked_every_week_by_whoever_wants_it() -> None:
    """The hub is asked by nobody who did not switch that on."""
    schedule = defs().get_repository_def().get_schedule_def("observe_upstream_weekly")
    assert (schedule.job_name, schedule.cron_schedule) == ("observe_upstream", "0 4 * * 1")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED


def test_failed_run_is_posted_with_what_failed(
    store: Store, run: Run, sensor: Sensor, receiver: Receiver
) -> None:
    """Asset, check, file and both hashes: enough to know what to do without opening the UI."""
    sensor.tick()
    damage(store.path(store.catalogue["humaneval_small"], "test_small.jsonl"), flip(10))
    assert not run(checks_of("humaneval_small")).success
    assert sensor.tick() == "1 failed runs posted"
    (document,) = receiver.received
    assert {(item["asset"], item["check"]) for item in document["failed_checks"]} >= {
        ("humaneval_small", "sha256")
    }
    assert "test_small.jsonl: expected SHA-256" in document["text"]
    assert str(store.root) in document["text"]
    assert document["run_id"] in document["text"]
    assert sensor.tick() == "no run failed"
    assert len(receiver.received) == 1


def test_run_that_failed_without_a_check_says_why(
    store: Store, run: Run, sensor: Sensor, receiver: Receiver
) -> None:
    """A download that was refused is told in the same words as in the log."""
    sensor.tick()
    for key in ("humaneval_raw", "humaneval_processed"):
        store.manifest_path(store.catalogue[key]).unlink()
    assert not run(dg.AssetSelection.assets("humaneval_processed")).success
    sensor.tick()
    (document,) = receiver.received
    assert document["failed_checks"] == []
    assert "humaneval_raw (looked for" in document["text"]


def test_warnings_are_no_alert(run: Run, sensor: Sensor, receiver: Receiver) -> None:
    """Upstream's own twins are there every night; a person would stop reading."""
    sensor.tick()
    assert run(checks_of("mbpp_processed")).success
    assert sensor.tick() == "no run failed"
    assert receiver.received == []


def test_failures_before_the_first_tick_are_history(
    store: Store, run: Run, sensor: Sensor, receiver: Receiver
) -> None:
    """Whoever turns the sensor on does not want all that ever failed."""
    store.manifest_path(store.catalogue["humaneval_small"]).unlink()
    run(checks_of("humaneval_small"))
    sensor.tick()
    sensor.tick()
    assert receiver.received == []


@pytest.mark.parametrize("status", [404, 429, 500])
def test_what_cannot_be_posted_is_posted_later(
    store: Store, run: Run, sensor: Sensor, receiver: Receiver, status: int
) -> None:
    """A webhook that is down for a night must not swallow the failure of that night."""
    sensor.tick()
    store.manifest_path(store.catalogue["humaneval_small"]).unlink()
    run(checks_of("humaneval_small"))
    receiver.status = status
    with pytest.raises(dg.Failure) as error:
        sensor.tick()
    assert f"answered {status}" in str(error.value.description)
    assert SECRET not in repr(error.value) + str(error.getrepr())
    receiver.status = 200
    assert sensor.tick() == "1 failed runs posted"
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "url", [f"http://127.0.0.1:9/{SECRET}", f"nonsense://{SECRET}", f"http://[{SECRET}", SECRET]
)
def test_address_is_in_no_error(
    store: Store,
    run: Run,
    sensor: Sensor,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
) -> None:
    """Whoever knows it can post as this project, and Dagster keeps every error forever."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(WEBHOOK_VARIABLE, url)
    sensor.tick()
    store.manifest_path(store.catalogue["humaneval_small"]).unlink()
    run(checks_of("humaneval_small"))
    with pytest.raises(dg.Failure) as error:
        sensor.tick()
    assert WEBHOOK_VARIABLE in str(error.value.description)
    assert SECRET not in repr(error.value) + str(error.value.description)
    assert error.value.__cause__ is None and error.value.__context__ is None


def test_off_when_not_configured(run: Run, sensor: Sensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the UI says which variable turns it on."""
    monkeypatch.delenv(WEBHOOK_VARIABLE, raising=False)
    assert sensor.tick() == f"{WEBHOOK_VARIABLE} is not set"
    assert sensor.cursor is None
