"""The list of rules in the documentation is the list of rules in the code."""

from __future__ import annotations

from pathlib import Path

from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.describe_rules import describe_rules

DOCS = Path(__file__).parents[2] / "docs/rules.md"


def test_documentation_lists_the_rules_there_are() -> None:
    """Or it would say that something is checked which is not."""
    assert DOCS.read_text().endswith(f"\n\n{describe_rules(load_catalogue())}")
