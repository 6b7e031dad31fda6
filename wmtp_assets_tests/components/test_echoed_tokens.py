"""A token that a server echoes, wherever and however: it is nowhere afterwards.

Instances, roots and logs are shared and backed up; a webhook's posts go to a chat.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorType, TickData, TickStatus
from dagster._serdes import serialize_value
from dagster._utils.error import SerializableErrorInfo

from wmtp_assets.base.secrets import HIDDEN
from wmtp_assets.components import artifacts
from wmtp_assets.components.alerts import failure_alerts
from wmtp_assets.components.storage import StorageResource
from wmtp_assets_tests.components.test_alerts import Receiver, receiver
from wmtp_assets_tests.components.test_upstream import (
    bytes_below,
    front,
    hubs,
    materialize,
    wmtp,
)
from wmtp_assets_tests.hub.faults import (
    AUTHORIZATION,
    TOKEN,
    Answer,
    Change,
    FaultyHub,
    Request,
    elsewhere_of,
)
from wmtp_assets_tests.pages import PROJECT
from wmtp_assets_tests.quick import quick, thinned

__all__ = ["front", "hubs", "receiver"]

OTHERS = "hf_" + "Zq9" * 11
"""A token of somebody else: nobody here knows its value, only its form."""


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance of our class, on disk."""
    home = tmp_path / "instance"
    home.mkdir()
    shutil.copy(PROJECT / ".dagster/sample/dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def _echoes(request: Request) -> str:
    """The token in each form in which a server may give it back."""
    header = request.headers.get(AUTHORIZATION, f"Bearer {TOKEN}")
    return (
        f"{TOKEN} {header} Authorization: {header} https://user:{TOKEN}@host/x?token={TOKEN} "
        f"{quote(header)} {json.dumps({'authorization': header})} {OTHERS}"
    )


def _error(status: int, code: str = "") -> Callable[[], Change]:
    """Status, code, message, other headers and the body say it."""

    def change(request: Request, answer: Answer) -> None:
        said = _echoes(request)
        answer.refuse(status, code or TOKEN, said, X_Echo=said, X_Request_Id=TOKEN)
        answer.headers["Content-Type"] = "application/json"
        answer.replace(json.dumps({"error": said}).encode())

    return lambda: change


def _files(change: Change) -> Callable[[], Change]:
    return lambda: lambda request, answer: change(request, answer) if request.is_file else None


def _redirect(to: str) -> Callable[[], Change]:
    return _files(lambda request, answer: answer.refuse(302, Location=to))


def _body(text: bytes) -> Callable[[], Change]:
    """200, and another answer than a hub's."""

    def change(request: Request, answer: Answer) -> None:
        if not request.is_file:
            answer.replace(text)

    return lambda: change


def _document(edit: Callable[[dict[str, object]], None]) -> Callable[[], Change]:
    """What the hub says of a repository has it."""

    def change(request: Request, answer: Answer) -> None:
        if not request.is_file and answer.body.startswith(b"{"):
            document = json.loads(answer.body)
            edit(document)
            answer.replace(json.dumps(document).encode())

    return lambda: change


def _headers(request: Request, answer: Answer) -> None:
    if request.is_file:
        answer.headers |= {
            "ETag": f'"{TOKEN}"',
            "X-Linked-Etag": f'"{TOKEN}"',
            "X-Repo-Commit": TOKEN,
        }


ECHOES: dict[str, Callable[[], Change]] = {
    "500": _error(500),
    "503 of files": _files(_error(503)()),
    "401": _error(401),
    "403 gated": _files(_error(403, "GatedRepo")()),
    "404": _error(404, "RepoNotFound"),
    "404 of files": _files(_error(404, "EntryNotFound")()),
    "429": _error(429),
    "redirect to a path": _redirect(f"{{elsewhere}}/{TOKEN}/nowhere?token={OTHERS}"),
    "redirect with a password": _redirect(f"https://{TOKEN}:{OTHERS}@127.0.0.1:1/x"),
    "redirect to plain http": _redirect(f"http://{TOKEN}.example/x"),
    "redirect to nothing": _redirect(f"https://127.0.0.1:1/{TOKEN}"),
    "no JSON": _body(f"<html>{TOKEN} {OTHERS}</html>".encode()),
    "a list": _body(json.dumps([TOKEN]).encode()),
    "commit": _document(lambda it: it.update(sha=TOKEN)),
    "file name": _document(
        lambda it: it.update(siblings=[{"rfilename": f"../{TOKEN}", "size": 1, "blobId": TOKEN}])
    ),
    "hash": _document(
        lambda it: it.update(
            siblings=[
                {
                    "rfilename": "openai_humaneval/test-00000-of-00001.parquet",
                    "size": 400_000,
                    "lfs": {"sha256": TOKEN, "size": 400_000, "pointerSize": 100},
                }
            ]
        )
    ),
    "headers": lambda: _headers,
}


KEPT = ("500", "redirect with a password", "hash", "headers")
"""One of each place that a token comes back in."""


@pytest.mark.parametrize("how", quick(thinned(ECHOES, KEPT), KEPT[:1]))
def test_hub_that_echoes(
    hubs: tuple[FaultyHub, FaultyHub],
    instance: dg.DagsterInstance,
    receiver: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    how: str,
) -> None:
    """In the body, in headers, in what it redirects to, in what it announces; through Dagster,
    through ``wmtp``, and in what is posted of the failed run."""
    front, elsewhere = hubs
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("WMTP_TRUSTED_ENDPOINT", front.url)
    root, by_wmtp = tmp_path / "storage", tmp_path / "by-wmtp"
    storage = StorageResource(source="hub", root=str(root))
    (tmp_path / "nothing").mkdir()

    def tick(cursor: str | None) -> str | None:
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, resources={"storage": storage}
        )
        failure_alerts(context)
        return context.cursor

    cursor = tick(None)
    front.change = elsewhere_of(ECHOES[how](), elsewhere.url)
    result = materialize("humaneval_raw", root, instance)
    tick(cursor)
    commands = [
        wmtp(by_wmtp, *arguments)
        for arguments in (
            ("plan", "humaneval_raw"),
            ("adopt", str(tmp_path / "nothing"), "--as", "humaneval_raw"),
            ("lock", "humaneval_raw"),
            ("doctor",),
        )
    ]

    assert any(AUTHORIZATION in request.headers for request in front.requests)
    assert len(receiver.received) == (0 if result.success else 1)
    output = capfd.readouterr()
    texts = [output.out, output.err, json.dumps(receiver.received)]
    for done in commands:
        texts += [done.stdout, done.stderr]
        assert "Traceback" not in done.stderr
    _are_nowhere(texts, [tmp_path / "instance", root, by_wmtp, tmp_path / "nobody"])
    assert (
        not (tmp_path / "wmtp.lock").exists() or TOKEN not in (tmp_path / "wmtp.lock").read_text()
    )


def _are_nowhere(texts: list[str], folders: list[Path]) -> None:
    """Neither token is in a text or a file, in the forms that a disk or a chat shows."""
    for secret in (TOKEN, OTHERS):
        forms = (secret, base64.b64encode(secret.encode()).decode())
        for form in forms:
            assert [text for text in texts if form in text] == []
            for folder in folders:
                found = [path for path, data in bytes_below(folder) if form.encode() in data]
                assert found == []


def test_error_that_nobody_expected(
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A library's own error, with what it was made from, and its frames: in events, in the captured
    output of the step, and on the terminal."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def update(*args: object, **kwargs: object) -> None:
        try:
            raise KeyError(f"Bearer {TOKEN}")
        except KeyError as error:
            raise RuntimeError(f"the server said {TOKEN} {OTHERS}") from error

    monkeypatch.setattr(artifacts, "update", update)
    result = materialize("humaneval_raw", tmp_path / "storage", instance)
    assert not result.success
    (event,) = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert f"the server said {HIDDEN} {HIDDEN}" in event.to_json()
    output = capfd.readouterr()
    assert "the server said" in output.err
    _are_nowhere([output.out, output.err], [tmp_path / "instance"])


def test_what_is_logged_and_described(
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Lines of progress, and metadata of a materialization."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    @dg.asset
    def talks(context) -> dg.MaterializeResult:
        context.log.info(f"asking with {TOKEN} {OTHERS}")
        context.log.warning("asking with %s", TOKEN)
        return dg.MaterializeResult(
            metadata={"said": TOKEN, "table": dg.JsonMetadataValue([OTHERS])}
        )

    assert dg.materialize([talks], instance=instance).success
    event = instance.get_latest_materialization_event(dg.AssetKey("talks"))
    assert event is not None and event.asset_materialization is not None
    assert event.asset_materialization.metadata["said"].value == HIDDEN
    output = capfd.readouterr()
    assert f"asking with {HIDDEN} {HIDDEN}" in output.err
    _are_nowhere([output.out, output.err], [tmp_path / "instance"])


WORDS = ("dagster", "metadata", "message", "event_type", "AssetKey", "run_id", "SUCCESS", "data-p1")
"""Passwords that occur in what Dagster stores: in names of its own, and of an asset."""


@pytest.mark.parametrize("password", WORDS)
def test_password_that_is_a_name(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    """Runs go on: events keep their kinds, keys, steps, partitions and tags, and texts lose it."""
    monkeypatch.setenv("WMTP_DATABASE_URL", f"postgresql://wmtp:{password}@h/d")

    @dg.asset(
        name="metadata",
        key_prefix="message",
        tags={"dagster": "metadata"},
        partitions_def=dg.StaticPartitionsDefinition(["data-p1"]),
    )
    def named(context) -> dg.MaterializeResult:
        context.log.info(f"it says '{password}' in {dg.__file__}")
        return dg.MaterializeResult(metadata={password: 1, "said": password, "json": {password: 2}})

    @dg.asset(deps=[named])
    def fails() -> None:
        raise RuntimeError(f"it says '{password}'")

    result = dg.materialize(
        [named, fails], instance=instance, partition_key="data-p1", raise_on_error=False
    )
    assert result.get_failed_step_keys() == {"fails"}
    (event,) = instance.fetch_materializations(
        dg.AssetKey(["message", "metadata"]), limit=9
    ).records
    assert event.partition_key == "data-p1"
    made = event.asset_materialization
    assert made is not None
    assert made.metadata[password].value == 1
    assert made.metadata["said"].value == HIDDEN
    assert made.metadata["json"].value == {password: 2}
    (failure,) = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert failure.step_key == "fails"
    text = serialize_value(failure)
    assert f"it says '{HIDDEN}'" in text and f"'{password}'" not in text
    assert f"site-packages{HIDDEN}" not in text and "site-packages/dagster/_core" in text
    assert any(
        log.user_message == f"it says '{HIDDEN}' in {dg.__file__}"
        for log in instance.all_logs(result.run_id)
    )
    assert instance.get_run_by_id(result.run_id).status == dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]


def test_tick_of_a_sensor(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is stored apart from the events of runs."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    tick = instance.create_tick(
        TickData(
            instigator_origin_id="origin",
            instigator_name="sensor",
            instigator_type=InstigatorType.SENSOR,
            status=TickStatus.STARTED,
            timestamp=1.0,
            selector_id="selector",
        )
    )
    error = SerializableErrorInfo(f"said {TOKEN}", [f"frame {OTHERS}"], "Error")
    instance.update_tick(tick.with_status(TickStatus.FAILURE, error=error))
    (stored,) = instance.get_ticks("origin", "selector")
    assert stored.error is not None
    assert stored.error.message == f"said {HIDDEN}"
    _are_nowhere([], [tmp_path / "instance"])
