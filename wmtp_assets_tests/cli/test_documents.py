"""``wmtp approve`` and ``wmtp verify --release`` as people and scripts call them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wmtp_assets.storage.store import Store
from wmtp_assets_tests.cli.conftest import Wmtp, run_wmtp
from wmtp_assets_tests.trees import damage, flip


def test_approve(wmtp: Wmtp, store: Store) -> None:
    """The exit code says whether it was recorded; nothing is without a name and a reason."""
    ada = ("approve", "--by", "Ada", "--role", "reviewer")
    refused = wmtp(*ada)
    assert refused.returncode == 1
    assert "not every item has passed" in refused.stderr
    assert wmtp("approve").returncode == 64
    assert wmtp("approve", "--by", "A\tda", "--role", "reviewer", "--note", "x").returncode == 1
    unknown = wmtp("approve", "--by", "Ada", "--role", "boss", "--note", "x")
    assert unknown.returncode == 64
    assert "'boss' is not one of 'reviewer', 'product-owner'" in unknown.stderr
    done = wmtp(*ada, "--note", "not verified yet", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said.pop("root"), said.pop("source")) == (str(store.root), "sample")
    assert (said["by"], said["role"]) == ("Ada", "reviewer")
    assert said["note"] == "not verified yet"
    report = store.catalogue["completion_report"]
    assert store.manifest(report).document["approvals"] == [said]
    assert said["sha256"] in store.read(report, report.owns[0]).decode()


@pytest.mark.long
def test_verify_release(wmtp: Wmtp, store: Store) -> None:
    """A copy elsewhere is what was released, or it is said where not; no document matters."""
    damage(store.path(store.catalogue["storage_readme"], "README.md"), flip(9))
    good = wmtp("verify", "--release")
    assert good.returncode == 0, good.stdout
    assert "storage_release release: ok" in good.stdout.splitlines()
    assert "storage_readme" not in good.stdout
    damage(store.path(store.catalogue["mbpp_small"], "test_small.jsonl"), flip(9))
    bad = wmtp("verify", "--release", "--json")
    assert bad.returncode == 1
    (finding,) = json.loads(bad.stdout)["findings"]
    assert finding["file"] == "datasets_local_small/mbpp_small/test_small.jsonl"
    assert wmtp("verify", "--release", "mbpp").returncode == 64


def test_nothing_was_released(tmp_path: Path) -> None:
    """'Equal to no release' is not 'all good'."""
    assert run_wmtp(tmp_path, "verify", "--release").returncode == 2
