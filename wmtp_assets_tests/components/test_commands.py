"""The literal commands of the pages, in a project folder of their own, sharing one instance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from wmtp_assets.catalogue.artifact import INTERNAL, TOP_FOLDERS
from wmtp_assets.components.instance import prepare_instance
from wmtp_assets.components.materialize import selection_of
from wmtp_assets.definitions import defs
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.components.test_artifacts import EVERYTHING_FOR_MICRO
from wmtp_assets_tests.pages import copy_project
from wmtp_assets_tests.quick import full_only, thinned
from wmtp_assets_tests.trees import damage, flip, link_tree
from wmtp_assets_tests.webserver import serving

PROJECT = Path(__file__).parents[2]
Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder like the checkout, with an instance that nothing else uses."""
    folder = tmp_path / "project"
    copy_project(folder)
    (folder / "wmtp_assets").symlink_to(PROJECT / "wmtp_assets")
    (folder / ".venv").symlink_to(sys.prefix)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.delenv("WMTP_SOURCE", raising=False)
    monkeypatch.chdir(folder)
    prepare_instance()
    return folder


def _environment(root: Path) -> dict[str, str]:
    """Of a person's shell: a ``make`` that runs within another one names the folders it is in."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        "WMTP_STORAGE_ROOT": str(root),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


@pytest.fixture
def shell(project: Path, root: Path) -> Shell:
    """Run a line in bash in the project folder, over a copy of the good tree."""

    def run(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line],
            cwd=project,
            env=_environment(root) | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def query(url: str, text: str) -> Any:
    """Ask the web server's GraphQL."""
    request = urllib.request.Request(
        f"{url}/graphql",
        data=json.dumps({"query": text}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]


ORIGINS = """{ runsOrError { ... on Runs { results {
  repositoryOrigin { repositoryName repositoryLocationName }
} } } }"""
SERVED = {"repositoryName": "__repository__", "repositoryLocationName": "wmtp_assets"}
RUNS_AND_ASSETS = """
{ runsOrError { ... on Runs { results { status } } }
  assetNodes { assetKey { path } } }
"""


def statuses(url: str) -> list[str]:
    """The status of every run the instance knows, and that all assets are there."""
    data = query(url, RUNS_AND_ASSETS)
    assert len(data["assetNodes"]) == 66
    return [run["status"] for run in data["runsOrError"]["results"]]


@pytest.mark.long
def test_literal_commands_share_one_instance(shell: Shell, project: Path, root: Path) -> None:
    """What one command did, every other shows: in an activated shell and in a plain one. That
    ``dagster dev`` does too is seen in the browser."""
    listed = shell("source activate.sh && dagster asset list")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.split() == sorted(listed.stdout.split())
    assert "micro_mtp" in listed.stdout.split()

    elsewhere = shell(
        f"cd / && source {project}/activate.sh && dagster asset materialize --select micro_mtp"
    )
    assert elsewhere.returncode == 0, elsewhere.stderr
    plain = shell("dg launch --assets micro_mtp")
    assert plain.returncode == 0, plain.stderr
    defs = shell("dg list defs --json")
    assert defs.returncode == 0, defs.stderr
    assert "micro_mtp" in defs.stdout

    with serving("dagster-webserver -w workspace.yaml", project, _environment(root)) as url:
        assert statuses(url) == ["SUCCESS", "SUCCESS"]
        runs = query(url, ORIGINS)["runsOrError"]["results"]
        # Those of no code location are missing on the timeline, and in the lists of jobs.
        assert [run["repositoryOrigin"] for run in runs] == [SERVED, SERVED]


@full_only
def test_tests_alone_on_the_command_line(shell: Shell, store: Store) -> None:
    """Evaluation needs upstream's tests and no conversion: two assets from nothing, with their
    checks; in the log stands what was written and how many problems it has."""
    for artifact in store.catalogue.select("codecontests"):
        for name in (*store.manifest(artifact).files, artifact.manifest):
            store.path(artifact, name).unlink()
    done = shell("source activate.sh && dagster asset materialize --select '*codecontests_tests'")
    assert done.returncode == 0, done.stderr
    assert "codecontests_tests: train: 48 problems" in done.stderr
    assert "codecontests_tests: test: 12 problems" in done.stderr
    made = {item.key for item in store.catalogue if store.manifest_path(item).is_file()}
    others = {item.key for item in store.catalogue if "codecontests" not in item.key}
    assert made - others == {"codecontests_raw", "codecontests_tests"}
    assert shell("wmtp verify codecontests_raw codecontests_tests").returncode == 0


@pytest.mark.long
def test_models_and_datasets_side_by_side(
    shell: Shell, project: Path, root: Path, tmp_path: Path
) -> None:
    """Two runs at once share root, instance and what both are made from: one downloads it, the
    other waits for that, and uses it."""
    fresh = tmp_path / "fresh"
    link_tree(root / INTERNAL / "hub", fresh / INTERNAL / "hub")
    selections = ("*micro_mtp", "*humaneval_small,*mbpp_small")
    lines = [
        f"source activate.sh; exec dagster asset materialize --select '{selection}'"
        for selection in selections
    ]
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda line: shell(line, WMTP_STORAGE_ROOT=str(fresh)), lines))
    assert [run.returncode for run in runs] == [0, 0], [run.stderr for run in runs]

    with dg.DagsterInstance.from_config(str(project)) as instance:
        assert [run.status.value for run in instance.get_runs()] == ["SUCCESS"] * 2
    made = ("micro_mtp", "humaneval_small", "mbpp_small", "meta_llama_mtp_raw")
    verified = shell(f"wmtp verify {' '.join(made)}", WMTP_STORAGE_ROOT=str(fresh))
    assert verified.returncode == 0, verified.stdout
    for name in ("previous", "staging"):
        assert not any((fresh / INTERNAL / name).glob("*"))


MISSING = [
    ("micro_mtp", EVERYTHING_FOR_MICRO),
    ("codecontests_tests", "codecontests_raw,codecontests_tests"),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("key", "everything"),
    thinned(MISSING, MISSING[:1]),
)
def test_missing_upstream_on_the_command_line(
    shell: Shell, tmp_path: Path, key: str, everything: str
) -> None:
    """The first thing a newcomer may try: it must say what to type instead."""
    done = shell(
        f"source activate.sh && dagster asset materialize --select {key}",
        WMTP_STORAGE_ROOT=str(tmp_path / "nothing"),
    )
    assert done.returncode == 1
    assert f"dagster asset materialize --select '{everything}'" in done.stderr
    for top in TOP_FOLDERS:
        assert not (tmp_path / "nothing" / top).exists()


whole = cache(lambda: defs().resolve_asset_graph())
"""All that the project defines, made once."""


def dry_run(*variables: str) -> str:
    """What ``make materialize`` would run; nothing is."""
    command = ["make", "-n", "materialize", *variables]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("select", "selection", "count"),
    [
        ("+micro_mtp", "*micro_mtp", 4),
        ("+micro_mtp,humaneval_processed+", "*micro_mtp,humaneval_processed*", 18),
        ("humaneval_processed+", "humaneval_processed*", 14),
        ("*", "*", 59),
        ("micro_mtp", "micro_mtp", 1),
        ("+micro_ref", "*micro_ref", 4),
        ("+starling_rm_safetensors", "*starling_rm_safetensors", 5),
        ("micro_mtp+", "micro_mtp*", 11),
        ("+codecontests_tests", "*codecontests_tests", 2),
        ("+codecontests_stats", "*codecontests_stats", 5),
        ("codecontests_raw+", "codecontests_raw*", 16),
        ("not tag:optional=true", "not tag:optional=true", 40),
        ('+key:"humaneval_small"', '+key:"humaneval_small"', 5),
    ],
)
def test_make_selects_everything_upstream(select: str, selection: str, count: int) -> None:
    """Dagster takes a bare ``+a`` for one layer; on a fresh clone that is never enough."""
    assert f"wmtp_assets.components.materialize --select '{select}'" in dry_run(f"SELECT={select}")
    if count == 40:
        assert dry_run() == dry_run(f"SELECT={select}")
    assert selection_of(select, load_catalogue()) == selection
    assert len(dg.AssetSelection.from_coercible(selection.split(",")).resolve(whole())) == count


@pytest.mark.long
def test_integrity_job_exits_non_zero(shell: Shell, store: Store) -> None:
    """Cron and CI see a damaged artifact by the exit code; the pages run it on a good tree."""
    damage(store.path(store.catalogue["humaneval_small"], "test_small.jsonl"), flip(9))
    bad = shell("source activate.sh && dagster job execute -j integrity")
    assert bad.returncode == 1
    assert "humaneval_small: sha256" in bad.stderr


@full_only
def test_each_source_has_its_instance(shell: Shell, project: Path) -> None:
    """Activating the real source selects another instance; forgetting to is refused."""
    entered = shell("source activate.sh && echo $DAGSTER_HOME", WMTP_SOURCE="hub")
    assert entered.stdout.strip() == str(project / ".dagster/hub")
    left = shell(
        "export WMTP_SOURCE=hub; source activate.sh; unset WMTP_SOURCE; "
        "source activate.sh; echo [$DAGSTER_HOME]"
    )
    assert left.stdout.strip() == f"[{project / '.dagster/sample'}]"
    own = shell("source activate.sh; echo $DAGSTER_HOME", DAGSTER_HOME="/srv/dagster")
    assert own.stdout.strip() == "/srv/dagster"

    forgotten = shell("dg launch --assets humaneval_small", WMTP_SOURCE="hub")
    assert forgotten.returncode != 0
    remedy = "export WMTP_SOURCE=hub; source activate.sh"
    assert remedy in forgotten.stderr + forgotten.stdout
    entered = shell(f"{remedy}; python -m wmtp_assets.components.instance")
    assert entered.stdout.splitlines()[-1] == (
        f"Dagster instance ready: {project / '.dagster/hub/storage'}"
    )
    other = shell(f"{remedy}; unset WMTP_SOURCE; dagster asset materialize --select humaneval_raw")
    assert "keeps the history of the source 'hub'" in other.stderr


@pytest.mark.long
def test_commands_work_wherever_programs_start_them(shell: Shell, project: Path) -> None:
    """A shell function was found by neither ``timeout`` nor ``xargs`` nor a script, and gave
    ``sensor`` another name of the code location than the daemon has."""
    for caller in ("timeout 100 dagster {}", "echo {} | xargs dagster", "sh -c 'dagster {}'"):
        listed = shell(f"source activate.sh; cd /; {caller.format('asset list')}")
        assert "micro_mtp" in listed.stdout.split(), listed.stderr
    for kind in ("sensor", "schedule", "job"):
        listed = shell(f"source activate.sh; cd /; timeout 100 dagster {kind} list")
        assert listed.returncode == 0, listed.stderr
    stopped = shell("source activate.sh; cd /; timeout 100 dagster schedule stop integrity_daily")
    assert stopped.returncode == 0, stopped.stderr
    with dg.DagsterInstance.from_config(str(project)) as instance:
        (state,) = instance.all_instigator_state()
    assert state.origin.repository_origin.code_location_origin.location_name == "wmtp_assets"


def test_activation_keeps_the_shell_usable(shell: Shell) -> None:
    """It is sourced: it must not change the folder, export a module, or break ``set -eu``."""
    done = shell("set -eu; source ./activate.sh; pwd; env | grep -c DAGSTER_MODULE || true")
    assert done.returncode == 0, done.stderr
    folder, count = done.stdout.split()
    assert (Path(folder).name, count) == ("project", "0")
