"""Each guarantee in the documentation names the tests that hold it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs/guarantees.md").read_text()
ROWS = [line for line in TEXT.splitlines() if line.startswith("| **")]
NAMED = re.compile(r"`([a-z0-9_/]+\.py)::(test_\w+)`")


def functions(path: Path) -> set[str]:
    """The test functions of a module."""
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_guarantee_names_a_test() -> None:
    """A promise without a test is a wish."""
    assert len(ROWS) > 15
    assert [row for row in ROWS if not NAMED.search(row)] == []


def test_every_named_test_is_there() -> None:
    """A test that was renamed or removed takes the promise with it."""
    missing = [
        f"{path}::{name}"
        for path, name in NAMED.findall(TEXT)
        if not (TESTS / path).is_file() or name not in functions(TESTS / path)
    ]
    assert missing == []
