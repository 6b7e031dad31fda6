"""The bills of materials, read by CycloneDX's own validator."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets_tests.clients.environments import run

pytestmark = pytest.mark.clients


def test_every_bill_is_valid(good_root: Path) -> None:
    """With the formats of fields, which the test beside the builder cannot look at."""
    count = int(run("cyclonedx", "-m", "wmtp_assets_tests.clients.bills", good_root))
    assert count == len([*good_root.glob("*/*/bom.cdx.json")]) > 0
