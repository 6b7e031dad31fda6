"""The whole sample graph, with all checks, on an engine of two nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg

from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets_tests.engines.site import Site
from wmtp_assets_tests.golden import TABLE

EVERYTHING = "not tag:optional=true"

CONFIG = {"poll_seconds": 10, "look_seconds": 600}
"""Another host looks at the root first, however long that takes here."""


def expected() -> dict[str, str]:
    """Artifact → content hash when one process makes it; summaries say what else is there, and the
    golden run made the optional artifacts too."""
    golden = json.loads(TABLE.read_text())
    return {
        artifact.key: golden[artifact.key]["content_sha256"]
        for artifact in load_catalogue()
        if not artifact.optional and not artifact.is_summary and artifact.kind != "release"
    }


def run_everything(site: Site, engine: str, **variables: Any) -> str:
    """Make all that is required; the run."""
    before = site.runs()
    process = site.start(EVERYTHING, engine, config=CONFIG, **variables)
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
    looked = site.events(run.run_id, dg.DagsterEventType.ENGINE_EVENT)
    assert any("sees the storage root and reaches the history" in said for said in looked)
    return run.run_id


def files_with(folder: Path, text: str) -> list[Path]:
    """Files that contain a text."""
    return [
        path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()
    ]
