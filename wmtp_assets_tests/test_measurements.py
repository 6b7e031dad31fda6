"""The numbers of ``docs/measurements.md`` are those that commands printed."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that writes the page."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("page", None)
    import page  # pyright: ignore[reportMissingImports]

    return page


def commands() -> dict[str, str]:
    """Table → the command that prints it; read, as running it needs what benchmarks need."""
    tree = ast.parse((BENCHMARKS / "all.py").read_text())
    (short,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SHORT"
    )
    return ast.literal_eval(short)


def test_the_page_is_as_commands_printed_it(page: ModuleType) -> None:
    """A number that somebody typed is one that nobody can measure again."""
    assert list(page.problems(page.PAGE.read_text())) == []


def test_every_benchmark_has_its_table(page: ModuleType) -> None:
    """One that is not run by ``make benchmarks`` grows old unseen."""
    assert sorted(page.names(page.PAGE.read_text())) == sorted(commands())
    scripts = {command.split()[0] for command in commands().values()}
    shared = {"page.py", "all.py", "s3_server.py"}
    assert scripts | shared == {path.name for path in BENCHMARKS.glob("*.py")}


def test_a_table_that_was_edited_is_found(page: ModuleType) -> None:
    """One digit, a table beside the markers, and a number in the text."""
    text = page.put("<!-- begin a -->\n<!-- end a  -->\n", "a", "run", "read  1.25 GB/s", "here")
    assert list(page.problems(text)) == []
    assert page.names(text) == ["a"]
    assert len(list(page.problems(text.replace("1.25", "1.35")))) == 1
    assert len(list(page.problems(text + "```text\n1 s\n```\n"))) == 2
    assert len(list(page.problems(text + "It runs at 2.2 GB/s here.\n"))) == 1
    assert len(list(page.problems(text + "That is 6 times as fast.\n"))) == 1
    assert list(page.problems(text + "Parts, `--gigabytes 27 GB`, two cores.\n")) == []
    again = page.put(text, "a", "run", "read  1.30 GB/s", "there")
    assert "1.30" in again and "1.25" not in again and not list(page.problems(again))
    with pytest.raises(ValueError, match="0 tables are called b"):
        page.put(text, "b", "run", "", "")
