"""Each guarantee in the documentation, and each requirement, names the tests that hold it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
GUARANTEES, REQUIREMENTS = (
    (TESTS.parent / "docs" / name).read_text() for name in ("guarantees.md", "specification.md")
)
ROWS = re.findall(r"^\| \*\*.*$", GUARANTEES, re.MULTILINE)
ROWS += re.findall(r"^\| (?:\d+|all).*$", REQUIREMENTS, re.MULTILINE)
NAMED = re.compile(r"`([a-z0-9_/]+\.py)::(test_\w+)`")


def functions(path: Path) -> set[str]:
    """The test functions of a module."""
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_guarantee_names_a_test() -> None:
    """A promise without a test is a wish."""
    assert len(ROWS) > 40
    assert [row for row in ROWS if not NAMED.search(row)] == []


def test_every_named_test_is_there() -> None:
    """A test that was renamed or removed takes the promise with it."""
    missing = [
        f"{path}::{name}"
        for path, name in NAMED.findall(GUARANTEES + REQUIREMENTS)
        if not (TESTS / path).is_file() or name not in functions(TESTS / path)
    ]
    assert missing == []
