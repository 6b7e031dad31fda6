"""Repositories in the graph, and a planted token that must not be found anywhere."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http

from wmtp_assets.catalogue.specs import DatasetSpec, ModelSpec
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.definitions import build_defs
from wmtp_assets.hub import remote
from wmtp_assets.hub.endpoint import Endpoint
from wmtp_assets.hub.remote import Pins, repository_key
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.sample.server import serve
from wmtp_assets.transfer import arrival
from wmtp_assets_tests.command import AT_ONCE, run_wmtp
from wmtp_assets_tests.components.conftest import assets_and_checks
from wmtp_assets_tests.hub.conftest import write_files
from wmtp_assets_tests.hub.faults import (
    AUTHORIZATION,
    GATED,
    OPEN,
    SPECS,
    TOKEN,
    Change,
    FaultyHub,
    bad_token,
    closed_gate,
    elsewhere_of,
    faulty_hub,
    files,
    redirect,
    refuse,
    serve_other,
    soundly,
    write_hub,
)
from wmtp_assets_tests.quick import quick, thinned

HUMANEVAL = dg.AssetKey(["upstream", *OPEN.id.split("/")])
CONTESTS = dg.AssetKey(["upstream", *SPECS["codecontests"].repository.id.split("/")])


def keys_of(selection: str) -> set[str]:
    """What a selection means in Dagster."""
    storage = StorageResource(source="sample", root="/nowhere")
    graph = build_defs(assets_and_checks(), storage).resolve_asset_graph()
    return {key.to_user_string() for key in dg.AssetSelection.from_string(selection).resolve(graph)}


def test_selections_mean_what_they_did() -> None:
    """A repository is upstream of its raw asset, and not something that a run could make."""
    assert keys_of("*mbpp_raw") == {"mbpp_raw"}
    assert keys_of("+mbpp_raw") == {"mbpp_raw"}
    assert keys_of("*mbpp_processed") == {
        "meta_llama_mtp_raw",
        "meta_llama_mtp_tokenizer",
        "mbpp_raw",
        "mbpp_processed",
    }
    assert keys_of("*") == {artifact.key for artifact in load_catalogue()}


def test_every_raw_asset_has_its_repository() -> None:
    """Lineage in the UI starts where the bytes come from."""
    storage = StorageResource(source="sample", root="/nowhere")
    graph = build_defs(assets_and_checks(), storage).resolve_asset_graph()
    for artifact in load_catalogue():
        if artifact.kind == "raw" and isinstance(artifact.spec, ModelSpec | DatasetSpec):
            (parent,) = graph.get(dg.AssetKey(artifact.key)).parent_keys
            assert parent.to_user_string() == f"upstream/{artifact.spec.repository.id}"
            assert graph.get(parent).is_observable
            assert not graph.get(parent).is_materializable


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on disk, so that what it keeps can be read."""
    home = tmp_path / "instance"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        yield instance


@pytest.fixture
def front(hubs: tuple[FaultyHub, FaultyHub]) -> FaultyHub:
    """The hub that HF_ENDPOINT names."""
    return hubs[0]


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FaultyHub, FaultyHub]]:
    """A hub with two repositories, and another host with its files; nothing is locked, and nobody
    waits."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WMTP_TRUSTED_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "nobody"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("WMTP_LOCK", str(tmp_path / "wmtp.lock"))
    monkeypatch.setattr(arrival, "FIRST_WAIT", 0.0)
    for module in (_http, file_download):
        monkeypatch.setattr(module, "time", AT_ONCE)
    with (
        serve(write_hub(tmp_path / "hub", b"rows" * 100_000)) as url,
        faulty_hub(url) as front,
        faulty_hub(url) as elsewhere,
    ):
        monkeypatch.setenv("HF_ENDPOINT", front.url)
        yield front, elsewhere


def materialize(key: str, root: Path, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Materialize an asset of the source ``hub``."""
    storage = StorageResource(source="hub", root=str(root))
    selection = dg.AssetSelection.assets(key).without_checks()
    job = dg.Definitions.merge(
        build_defs(assets_and_checks(), storage),
        dg.Definitions(jobs=[dg.define_asset_job("chosen", selection)]),
    ).resolve_job_def("chosen")
    return job.execute_in_process(instance=instance, raise_on_error=False)


def observe(root: Path, instance: dg.DagsterInstance) -> dg.AssetObservation:
    """Observe HumanEval's repository."""
    storage = StorageResource(source="hub", root=str(root))
    defs = build_defs(assets_and_checks(), storage)
    job = defs.resolve_job_def("observe_upstream")
    result = job.execute_in_process(
        instance=instance, raise_on_error=False, asset_selection=[HUMANEVAL]
    )
    assert result.success
    (event,) = (e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION")
    return event.asset_observation_data.asset_observation


def test_observing_shows_the_head(
    front: FaultyHub, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """The data version is the commit at the head of main: Dagster then shows by itself what is
    stale. No byte of a file is downloaded."""
    head = remote.head_of(Endpoint(front.url, "mirror"), SPECS["humaneval"])
    seen = observe(tmp_path / "storage", instance)
    assert seen.tags["dagster/data_version"] == head
    assert seen.metadata["head"].value == head
    assert seen.metadata["used"].value == "unpinned: the head of main"
    assert "moved_past_the_pin" not in seen.metadata
    assert front.payload == 0


def test_observing_shows_that_upstream_moved(
    front: FaultyHub,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A pin that nobody compares with upstream is a version that nobody ever updates."""
    root, spec = tmp_path / "storage", SPECS["humaneval"]
    pinned = remote.resolve(Endpoint(front.url, "mirror"), spec, "main")
    Pins.read().write({repository_key(OPEN): pinned})
    same = observe(root, instance)
    assert same.metadata["moved_past_the_pin"].value is False
    capfd.readouterr()
    with serve(write_hub(tmp_path / "newer", b"newer")) as newer:
        monkeypatch.setenv("HF_ENDPOINT", newer)
        moved = observe(root, instance)
    assert moved.metadata["moved_past_the_pin"].value is True
    assert moved.metadata["used"].value == pinned.commit
    assert moved.tags["dagster/data_version"] == moved.metadata["head"].value != pinned.commit
    assert "wmtp lock --update humaneval_raw" in capfd.readouterr().err


def test_moving_past_a_pin_in_the_spec_names_the_spec(
    front: FaultyHub,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """``wmtp lock --update`` does not move what a defs.yaml pins; the advice must be one that
    works."""
    repository = SPECS["codecontests"].repository
    write_files(tmp_path / "contests/datasets" / repository.id, {"README.md": b"x"})
    storage = StorageResource(source="hub", root=str(tmp_path / "storage"))
    job = build_defs(assets_and_checks(), storage).resolve_job_def("observe_upstream")
    with serve(tmp_path / "contests") as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", url)
        assert job.execute_in_process(instance=instance, asset_selection=[CONTESTS]).success
    assert "set repository.revision in the defs.yaml of codecontests" in capfd.readouterr().err


def test_observing_what_is_not_there_fails_plainly(
    front: FaultyHub, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """The hub of this test has two repositories; for another the message is the download's."""
    storage = StorageResource(source="hub", root=str(tmp_path / "storage"))
    job = build_defs(assets_and_checks(), storage).resolve_job_def("observe_upstream")
    result = job.execute_in_process(
        instance=instance, raise_on_error=False, asset_selection=[CONTESTS]
    )
    assert not result.success
    (event,) = (e for e in result.all_events if e.is_step_failure)
    data = event.step_failure_data.user_failure_data
    assert data is not None
    assert "deepmind/code_contests does not exist at" in (data.description or "")


def test_sample_can_be_observed(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """What a button of the UI does on a fresh clone must not be an error."""
    storage = StorageResource(source="sample", root=str(tmp_path / "storage"))
    job = build_defs(assets_and_checks(), storage).resolve_job_def("observe_upstream")
    assert job.execute_in_process(instance=instance, asset_selection=[HUMANEVAL]).success


# -- secrets ---------------------------------------------------------------------------------------

SIGNATURE = "X-Signature=signed_0123456789"
"""The query of a signed URL, which is as good as a token while it is valid."""

SECRETS: dict[str, tuple[bool, Callable[[], Change]]] = {
    "success": (True, lambda: soundly),
    "bad token": (False, bad_token),
    "closed gate": (False, closed_gate),
    "server error": (False, files(refuse(500, message="boom"))),
    "wrong bytes": (False, files(serve_other(b"sowr" * 100_000))),
    "redirect": (True, redirect(f"{{elsewhere}}{{path}}?{SIGNATURE}")),
    "redirect that fails": (False, redirect(f"{{elsewhere}}/nowhere?{SIGNATURE}")),
    "redirect to plain http": (False, redirect(f"http://192.0.2.1/nowhere?{SIGNATURE}")),
}
"""What a hub does → whether there is an artifact then."""
KEPT = ("success", "redirect that fails")


def bytes_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Name and content of every file."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


@pytest.mark.parametrize("is_trusted", [True, False], ids=["trusted", "not trusted"])
@pytest.mark.parametrize("what", quick(thinned(SECRETS, KEPT), KEPT[:1]))
def test_planted_token_is_nowhere(
    hubs: tuple[FaultyHub, FaultyHub],
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    what: str,
    is_trusted: bool,
) -> None:
    """Instances, roots and logs are shared and backed up; plain Dagster kept ten copies of a token.
    Through Dagster and through ``wmtp``, whether it succeeds or fails: none in the instance, none
    in the root, none in the output, and only a trusted endpoint itself was sent it."""
    front, elsewhere = hubs
    succeeds, make = SECRETS[what]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("WMTP_TRUSTED_ENDPOINT", front.url if is_trusted else "")
    front.change = elsewhere_of(make(), elsewhere.url)
    name, repository = ("meta_llama_mtp", GATED) if what == "closed gate" else ("humaneval", OPEN)
    key, root, by_wmtp = f"{name}_raw", tmp_path / "storage", tmp_path / "by-wmtp"
    (tmp_path / "nothing").mkdir()

    result = materialize(key, root, instance)
    commands = [
        wmtp(by_wmtp, "plan", key),
        wmtp(by_wmtp, "adopt", str(tmp_path / "nothing"), "--as", key),
        wmtp(by_wmtp, "lock", key),
    ]

    # A token that is not sent cannot be refused.
    expected = succeeds or (what == "bad token" and not is_trusted)
    assert result.success is expected
    assert (commands[1].returncode == 0) is expected
    assert any(AUTHORIZATION in request.headers for request in front.requests) is is_trusted
    assert not any(AUTHORIZATION in request.headers for request in elsewhere.requests)
    assert bool(elsewhere.requests) is (what in ("redirect", "redirect that fails"))
    output = capfd.readouterr()
    printed = [output.out, output.err]
    for done in commands:
        printed += [done.stdout, done.stderr]
        assert "Traceback" not in done.stderr
    assert repository.id in "".join(printed)
    for secret in (TOKEN, SIGNATURE):
        assert not any(secret in text for text in printed)
        for folder in (tmp_path / "instance", root, by_wmtp):
            contents = [*bytes_below(folder)]
            assert contents
            assert [path for path, content in contents if secret.encode() in content] == []


def wmtp(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``wmtp`` without waits."""
    environment = {**os.environ, "WMTP_STORAGE_ROOT": str(root), "WMTP_SOURCE": "hub"}
    return run_wmtp(arguments, environment, waits=False)
