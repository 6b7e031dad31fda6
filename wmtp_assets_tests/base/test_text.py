"""What others wrote is shown, and obeyed by nothing."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.base.text import json_text, printable

BAD = (
    *map(chr, (*range(9), 11, 12, 13, *range(14, 32), 0x7F, *range(0x80, 0xA0))),
    *"\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e",
    *"\u2060\u2066\u2067\u2068\u2069\ufeff\U000e0041\ud800",
)
"""C0, DEL, C1; what changes the order, separates lines, or is not seen."""


@pytest.mark.parametrize("letter", BAD, ids=lambda letter: f"{ord(letter):x}")
def test_is_an_escape(letter: str) -> None:
    """Wherever it stands, in texts, in errors and in JSON."""
    for text in (letter, f"a{letter}b", f"é{letter}é"):
        assert printable(text).isprintable()
        assert str(CorruptArtifact(text)).isprintable()
        shown = json_text({text: [text]})
        assert shown.replace("\n", "").isprintable()
        assert json.loads(shown) == {text: [text]}


@pytest.mark.parametrize(
    "text",
    ["plain", "été", "日本語", "👩\u200d💻", "क\u094d\u200dष", "שלום", "two\nlines", "e\u0301"],
)
def test_stays(text: str) -> None:
    """Emoji and words with joiners are texts like others; lines of an error stay lines."""
    assert printable(text) == text


@pytest.mark.parametrize("text", ["a\u200db", "\u200d", "é\u200d", "\u200dé", "é\u200d\u200dé"])
def test_joiner_that_joins_nothing(text: str) -> None:
    """It would make two names that look the same."""
    assert "\\u200d" in printable(text)


def test_line_of_a_table_is_one() -> None:
    """A name must not write a line of its own."""
    assert printable("a\nb\tc", keep="") == "a\\nb\\tc"


@given(st.lists(st.integers(0, 0x10FFFF)).map(lambda codes: "".join(map(chr, codes))))
def test_any_text(text: str) -> None:
    """Nothing is lost but what is seen as an escape; JSON is what it was."""
    assert all(letter.isprintable() or letter in "\n\u200c\u200d" for letter in printable(text))
    assert json.loads(json_text([text])) == [text]


def test_json_of_names_that_are_no_text() -> None:
    """Names of files may be any bytes: as values, as keys however deep, as paths; two stay two."""
    names = ["\udcff", "a\udcfe", "\ud800\udc00"]
    document = {"deep": {name: {name: Path(name)} for name in names}, Path("\udcff"): (names[0],)}
    found = json.loads(json_text(document))
    # JSON has no word for the two halves of one letter that do not make it
    assert list(found["deep"]) == ["\udcff", "a\udcfe", "\U00010000"]
    assert found["deep"]["\udcff"] == {"\udcff": "\udcff"}
    assert found["\udcff"] == ["\udcff"]


def test_json_of_what_it_has_no_type_for() -> None:
    """As pydantic has it."""
    document = {"at": datetime(2025, 1, 2, 3, 4, 5), "on": date(2025, 1, 2), "n": float("nan")}
    assert json.loads(json_text(document)) == {
        "at": "2025-01-02T03:04:05",
        "on": "2025-01-02",
        "n": None,
    }
