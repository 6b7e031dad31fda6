"""What "Materialize all" starts where an asset is 27 GB that nobody asked for."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from urllib.error import HTTPError

import dagster as dg
import pytest

from wmtp_assets.base.errors import SpecError
from wmtp_assets.components.optional import require_chosen
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.components.test_runs import query
from wmtp_assets_tests.pages import PROJECT, copy_project
from wmtp_assets_tests.webserver import serving

STARLING = ("starling_rm_raw", "starling_rm_tokenizer", "starling_rm_safetensors")
EVERY = tuple(artifact.key for artifact in load_catalogue())
REQUIRED = tuple(artifact.key for artifact in load_catalogue() if not artifact.optional)


LAUNCH = """mutation { launchPipelineExecution(executionParams: {mode: "default", selector: {
  pipelineName: "__ASSET_JOB", repositoryLocationName: "wmtp_assets",
  repositoryName: "__repository__", assetSelection: [CHOSEN]}})
  { __typename ... on PythonError { message } } }"""


def select(*keys: str) -> frozenset[dg.AssetKey]:
    return frozenset(map(dg.AssetKey, keys))


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The storage root of the real source, empty."""
    monkeypatch.setenv("WMTP_SOURCE", "hub")
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(tmp_path / "storage"))
    return tmp_path / "storage"


@pytest.mark.parametrize(
    "keys",
    [
        EVERY,
        ("starling_rm_raw", "ref_sheared_llama_raw"),
        ("gsm8k_raw", "mbpp_raw"),
        (*STARLING, "meta_llama_mtp_raw", "meta_llama_mtp_tokenizer", "micro_mtp"),
    ],
    ids=["the whole graph", "a group", "two datasets", "a model beside another"],
)
def test_optional_beside_what_it_has_nothing_to_do_with(real: Path, keys: tuple[str, ...]) -> None:
    """Nothing starts, and the message says what would have, and how to start what was meant."""
    with pytest.raises(SpecError, match="nothing was started: ") as refused:
        require_chosen(select(*keys))
    assert "Jobs, everything" in str(refused.value)
    if "starling_rm_raw" in keys:
        assert "starling_rm_raw (13 to 27 GB on the hub)" in str(refused.value)


@pytest.mark.parametrize(
    "keys",
    [
        REQUIRED,
        STARLING,
        ("starling_rm_card", *STARLING, "meta_llama_mtp_raw", "meta_llama_mtp_tokenizer"),
        (*STARLING, "parameter_snapshot", "completion_report"),
        ("meta_llama_mtp_raw", "meta_llama_mtp_bf16"),
        ("published_models",),
    ],
    ids=[
        "required",
        "chosen",
        "with its upstream",
        "with its downstream",
        "variant",
        "no artifact",
    ],
)
def test_what_somebody_chose_is_started(real: Path, keys: tuple[str, ...]) -> None:
    """An optional artifact alone, or with what it is made from or what is made from it."""
    require_chosen(select(*keys))


def test_what_is_there_is_kept_right(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optional artifacts that somebody made are like any other. A job names its own assets."""
    monkeypatch.setenv("WMTP_SOURCE", "hub")
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(store.root))
    require_chosen(select(*EVERY))
    require_chosen(None)


def test_sample_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first click of a newcomer is not refused for what takes seconds."""
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(tmp_path))
    require_chosen(select(*EVERY))


def launch(url: str, *keys: str) -> dict[str, str]:
    """What the web server answers to "Materialize" of some assets."""
    chosen = ", ".join(f'{{path: ["{key}"]}}' for key in keys)
    try:
        answer = query(url, LAUNCH.replace("CHOSEN", chosen))
    except HTTPError as error:  # of 500, with what the web UI shows
        answer = json.load(error)["data"]
    return answer["launchPipelineExecution"]


@pytest.mark.long
def test_web_server_refuses(real: Path, tmp_path: Path) -> None:
    """Dagster's own, with the real source: by a click on the whole graph no run is created; what
    is chosen is queued."""
    folder = tmp_path / "project"
    copy_project(folder)
    (folder / "wmtp_assets").symlink_to(PROJECT / "wmtp_assets")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(folder / ".dagster/hub"),
        "PYTHONPATH": str(PROJECT),
    }
    command = f"{Path(sys.executable).with_name('dagster-webserver')} -w workspace.yaml"
    with serving(command, folder, environment) as url:
        refused = launch(url, *EVERY)
        assert refused["__typename"] == "PythonError"
        assert "nothing was started: starling_rm_raw (13 to 27 GB" in refused["message"]
        assert runs(url) == 0
        assert launch(url, *STARLING)["__typename"] == "LaunchRunSuccess"
        assert runs(url) == 1


def runs(url: str) -> int:
    """How many runs there are."""
    found = query(url, "{ runsOrError { ... on Runs { results { id } } } }")
    return len(found["runsOrError"]["results"])
