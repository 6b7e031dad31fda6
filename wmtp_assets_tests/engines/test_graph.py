"""The whole sample graph, with all checks, on Slurm with two nodes and on Ray with two nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets_tests.engines.programs import PASSWORD, Postgres, Slurm, ray
from wmtp_assets_tests.engines.site import Site
from wmtp_assets_tests.golden import TABLE

pytestmark = pytest.mark.engines

EVERYTHING = "not tag:optional=true"


def expected() -> dict[str, str]:
    """Artifact → content hash when one process makes it; summaries say what else is there, and the
    golden run made the optional artifacts too."""
    golden = json.loads(TABLE.read_text())
    return {
        artifact.key: golden[artifact.key]["content_sha256"]
        for artifact in load_catalogue()
        if not artifact.optional and not artifact.is_summary and artifact.kind != "release"
    }


def run_everything(site: Site, engine: str, **variables: str) -> str:
    """Make all that is required; the run."""
    before = site.runs()
    process = site.start(EVERYTHING, engine, **variables)
    assert site.finish(process, seconds=1500) == 0, site.log.read_text()[-5000:]
    (run,) = site.newest(before)
    hashes = site.hashes()
    assert {key: hashes.get(key) for key in expected()} == expected()
    required = {artifact.key for artifact in load_catalogue() if not artifact.optional}
    assert hashes.keys() == required
    checks = site.events(run.run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    rules = site.store.catalogue
    assert len(checks) >= 3 * len([it for it in rules if not it.optional])
    assert not site.events(run.run_id, dg.DagsterEventType.STEP_UP_FOR_RETRY)
    return run.run_id


def files_with(folder: Path, text: str) -> list[Path]:
    """Files that contain a text."""
    return [
        path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()
    ]


def test_slurm(empty_site: Callable[..., Site], cluster: Slurm, database: Postgres) -> None:
    """Same bytes as in one process, both nodes work, and nobody is shown the password of the
    database: not in the history, in logs, in files, nor by Slurm."""
    site = empty_site("slurm", **cluster.environment)
    run = run_everything(site, "slurm")
    shown = cluster.run("scontrol", "show", "job", "--details")
    assert "NodeList=a\n" in shown and "NodeList=b\n" in shown
    assert PASSWORD not in shown
    assert PASSWORD not in cluster.run("squeue", "--states=all", "--format=%all")
    assert PASSWORD not in site.log.read_text()
    assert not files_with(site.home, PASSWORD)
    assert PASSWORD not in site.dump()
    assert site.status(run) == "SUCCESS"


def test_ray(empty_site: Callable[..., Site], database: Postgres) -> None:
    """Same bytes as in one process, both nodes work; Ray's jobs API shows no password."""
    site = empty_site("ray")
    with ray(site.variables) as cluster:
        run_everything(site, "ray", RAY_ADDRESS=cluster.address)
        shown = cluster.shown_jobs()
        assert len({job["driver_node_id"] for job in shown}) == 2
        assert PASSWORD not in json.dumps(shown)
    assert not files_with(site.home, PASSWORD)
