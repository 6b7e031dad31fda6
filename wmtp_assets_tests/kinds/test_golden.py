"""A builder's version says whether its output changed: it must not be forgotten."""

from __future__ import annotations

import json
from pathlib import Path

from wmtp_assets.base.settings import Settings
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.golden import TABLE, entries

REMEDY = "raise the builder's version, then: python -m wmtp_assets_tests.golden storage/sample"


def test_output_changes_with_the_version_only(good_root: Path) -> None:
    """The same inputs, settings and version must give the same bytes: parts of an interrupted
    conversion are taken up by version, and what is out of date is found by it."""
    found = entries(Store(Settings("sample", good_root), load_catalogue()))
    golden = json.loads(TABLE.read_text())
    assert found.keys() == golden.keys(), REMEDY
    for key, was in golden.items():
        now = found[key]
        same_inputs = all(now[part] == was[part] for part in ("made_with", "upstream"))
        if same_inputs:
            assert now["content_sha256"] == was["content_sha256"], f"{key}: {REMEDY}"
    assert found == golden, "the table is of other inputs or settings; write it anew"
