"""Paragraphs: as wide as the terminal, and what is to be copied is in one piece."""

from __future__ import annotations

import pytest

from wmtp_assets.base.table import paragraph

PATH = "datasets_v2/codecontests/processed/" + "x" * 50
COMMAND = "dagster asset materialize --select 'codecontests_processed'"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two three four five", ["one two three four", "  five"]),
        (f"a file: {PATH}", ["a file:", f"  {PATH}"]),
        (COMMAND, [COMMAND]),
        (f"put it back, or: {COMMAND}", ["put it back, or:", f"  {COMMAND}"]),
        ("make it readable: it is not", ["make it readable: it", "  is not"]),
        ("", []),
    ],
)
def test_paragraph(text: str, lines: list[str]) -> None:
    """A command that is broken in two does half of it, or something else, when it is pasted."""
    assert paragraph(text, 20, hanging=2) == lines
    assert paragraph(text, None) == [text]
