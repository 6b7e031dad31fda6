"""``wmtp verify --derived`` as people and scripts call it."""

from __future__ import annotations

import json

from wmtp_assets.storage.store import Store
from wmtp_assets_tests.cli.conftest import Wmtp
from wmtp_assets_tests.poison import poison


def test_verify_derived(wmtp: Wmtp, store: Store) -> None:
    """A row that all rules take for good: its place is said, and what to do; exit code 1."""
    good = wmtp("verify", "--derived", "mbpp")
    assert good.returncode == 0, good.stdout
    assert "mbpp_processed derived: ok" in good.stdout.splitlines()
    poison(store, "mbpp", "code")
    assert wmtp("verify", "mbpp_processed").returncode == 0
    bad = wmtp("verify", "--derived", "mbpp", "--json")
    assert bad.returncode == 1
    first = json.loads(bad.stdout)["findings"][0]
    assert (first["place"], first["artifact"]) == ("line 1, output", "mbpp_processed")
    assert "make materialize SELECT=mbpp_processed FORCE=1" in first["remedy"]


def test_wrong_usage(wmtp: Wmtp) -> None:
    """What has no rows would be 'all good'."""
    assert wmtp("verify", "--derived", "micro_mtp").returncode == 64
    assert wmtp("verify", "--derived", "--release").returncode == 64
