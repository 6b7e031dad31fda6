"""Memory and CPUs that steps ask a cluster for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.settings import STEPS_VARIABLE
from wmtp_assets.catalogue.specs import DEFS_FOLDER
from wmtp_assets.components.artifacts import asset_of, checks_of, is_shared
from wmtp_assets.components.needs import KUBERNETES_TAG, SLURM_TAG, tags_of
from wmtp_assets.components.storage import StorageResource
from wmtp_assets.definitions import build_defs
from wmtp_assets.kinds.registry import Needs, load_catalogue, needs_of
from wmtp_assets_tests.components.conftest import assets_and_checks

GB = 10**9


def asked(key: str, source: Any = "hub") -> Needs:
    return needs_of(load_catalogue()[key], source)


def test_needs_follow_the_sizes_of_the_spec() -> None:
    """A checkpoint streams, so that its size asks for CPUs and little memory; a document for
    neither; a dataset for a CPU a shard, and for each the memory of a process."""
    assert asked("meta_llama_mtp_safetensors") == Needs(4 * GB, 4)
    assert asked("meta_llama_mtp_raw") == Needs(4 * GB, 4)
    assert asked("micro_mtp") == asked("storage_readme") == Needs(2 * GB, 1)
    assert asked("mbpp_processed") == Needs(2_700_000_000, 1)
    assert asked("codecontests_processed") == Needs(13_200_000_000, 16)


def test_steps_share_the_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight hosts need five CPUs each for forty shards, not sixteen."""
    monkeypatch.setenv(STEPS_VARIABLE, "8")
    assert asked("codecontests_processed") == Needs(5_500_000_000, 5)


def test_sample_needs_little() -> None:
    """It must run on a laptop's Slurm, whose nodes are small."""
    assert {needs_of(item, "sample").cpus for item in load_catalogue()} == {1}
    assert max(needs_of(item, "sample").memory for item in load_catalogue()) < 3 * GB


@pytest.mark.parametrize("steps", ["0", "3"])
def test_every_step_has_the_tags(monkeypatch: pytest.MonkeyPatch, steps: str) -> None:
    """Those that make, that convert a part, and that check: without them a cluster gives a step
    its default, often a CPU and what memory that has."""
    monkeypatch.setenv("WMTP_SOURCE", "hub")
    monkeypatch.setenv(STEPS_VARIABLE, steps)
    for artifact in load_catalogue():
        wanted = tags_of(artifact)
        checks = [checks_of(artifact)] if is_shared(artifact) else []
        assert len(checks) == (steps != "0" and artifact.kind == "processed")
        for definition in (asset_of(artifact), *checks):
            node = definition.node_def
            ops = node.node_defs if isinstance(node, dg.GraphDefinition) else [node]
            for op in ops:
                assert op.tags[SLURM_TAG] == wanted[SLURM_TAG], op.name
                assert json.loads(op.tags[KUBERNETES_TAG]) == wanted[KUBERNETES_TAG], op.name


def test_tags_say_the_same_in_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's M and Kubernetes' Mi are both 2**20 bytes, rounded up."""
    monkeypatch.setenv("WMTP_SOURCE", "hub")
    tags = tags_of(load_catalogue()["meta_llama_mtp_safetensors"])
    assert tags[SLURM_TAG] == "--mem=3815M --cpus-per-task=4"
    resources = tags[KUBERNETES_TAG]["container_config"]["resources"]
    assert resources == {key: {"cpu": "4", "memory": "3815Mi"} for key in ("requests", "limits")}
    assert 3814 << 20 < 4 * GB <= 3815 << 20


def respecced(tmp_path: Path, **attributes: Any) -> Path:
    """A copy of ``defs/`` in which mbpp says more."""
    for path in DEFS_FOLDER.rglob("*"):
        target = tmp_path / path.relative_to(DEFS_FOLDER)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif path.suffix == ".yaml":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    path = tmp_path / "datasets/mbpp/defs.yaml"
    document = yaml.safe_load(path.read_text())
    document["attributes"] |= attributes
    path.write_text(yaml.safe_dump(document))
    return tmp_path


def test_spec_overrides_what_the_kind_says(tmp_path: Path) -> None:
    """Who knows their cluster says it where the artifact is declared, whole or in part."""
    needs = {"processed": {"memory": "1.5 GB", "cpus": 2}, "pairs": {"cpus": 3}}
    catalogue = load_catalogue(respecced(tmp_path, needs=needs))
    assert needs_of(catalogue["mbpp_processed"], "hub") == Needs(1_500_000_000, 2)
    assert needs_of(catalogue["mbpp_pairs"], "hub") == Needs(2 * GB, 3)
    assert needs_of(catalogue["mbpp_stats"], "hub") == Needs(2 * GB, 1)


@pytest.mark.parametrize(
    ("needs", "problem"),
    [
        ({"safetensors": {"cpus": 1}}, "needs.safetensors: it has no artifact of this kind"),
        ({"processed": {"memory": "4G"}}, "attributes.needs.processed.memory"),
        ({"processed": {"memory": "a lot"}}, "attributes.needs.processed.memory"),
        ({"processed": {"cpus": 0}}, "attributes.needs.processed.cpus"),
        ({"processed": {"gpus": 1}}, "attributes.needs.processed.gpus"),
    ],
)
def test_malformed_needs_are_one_error(tmp_path: Path, needs: dict[str, Any], problem: str) -> None:
    """Before the first step, with file and field."""
    folder = respecced(tmp_path, needs=needs)
    with pytest.raises(SpecError, match=re.escape(problem)) as caught:
        load_catalogue(folder)
    assert str(caught.value).startswith(str(folder / "datasets/mbpp/defs.yaml"))


def test_integrity_waits_for_no_artifact() -> None:
    """The checks of each are one step, and an engine spreads these over its hosts in any order."""
    storage = StorageResource(source="sample", root="/nowhere")
    job = build_defs(assets_and_checks(), storage).resolve_job_def("integrity")
    steps = job.graph.node_dict
    assert steps.keys() == {artifact.key for artifact in load_catalogue()}
    assert not any(job.dependencies.values())
    assert not job.asset_layer.selected_asset_keys
