"""A bare word in YAML that one program reads so and another otherwise is refused, everywhere.

PyYAML, and with it Dagster, reads YAML 1.1; most other programs 1.2.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets.base.errors import InvalidInput, SpecError
from wmtp_assets.base.yaml_file import read_yaml
from wmtp_assets.catalogue.specs import DEFS_FOLDER, load_spec

MISREAD = {
    "1:30": "the number 90",
    "-1:30": "the number -90",
    "190:20:30.15": "the number 685230.15",
    "010": "the number 8",
    "0x10": "the number 16",
    "0b11": "the number 3",
    "1_000": "the number 1000",
    "1_000.5": "the number 1000.5",
    "yes": "True",
    "No": "False",
    "on": "True",
    "OFF": "False",
    "2025-01-01": "a date, by some programs",
    "2025-01-01 12:00:00": "a date, by some programs",
}

PLAIN = {
    "90": 90,
    "-7": -7,
    "0": 0,
    "1.5": 1.5,
    "1.0e-05": 1e-05,
    "true": True,
    "False": False,
    "'1:30'": "1:30",
    '"no"': "no",
    "norway": "norway",
    "1:30 pm": "1:30 pm",
    "08": "08",
    "null": None,
    "'2025-01-01'": "2025-01-01",
}


@pytest.mark.parametrize("word", MISREAD)
@pytest.mark.parametrize("form", ["{}", "a: 1\nb: {}", "- {}", "{}: 1"])
def test_word_that_is_read_otherwise(word: str, form: str, tmp_path: Path) -> None:
    """As a value, in a list and as a key; the message says as what it is read, where, and what to
    do."""
    path = tmp_path / "x.yaml"
    path.write_text(form.format(word))
    line = 2 if "\n" in form else 1
    with pytest.raises(InvalidInput) as error:
        read_yaml(path)
    said = str(error.value)
    assert f"{word!r} is read as {MISREAD[word]} in YAML 1.1: put it in quotes" in said
    assert f"line {line}" in said


@pytest.mark.parametrize("word", PLAIN)
def test_word_that_means_what_it_says(word: str, tmp_path: Path) -> None:
    """Everybody reads it so."""
    (tmp_path / "x.yaml").write_text(f"a: {word}")
    assert read_yaml(tmp_path / "x.yaml") == {"a": PLAIN[word]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("max_tokens: 2048", "max_tokens: 34:08"),
        ("max_tokens: 2048", "max_tokens: 04000"),
        ("pretty_name: ", "pretty_name: 2025-01-01 # "),
        ("license: ", "license: no # "),
    ],
)
def test_in_a_spec(before: str, after: str, tmp_path: Path) -> None:
    """Dagster's own checks of the definitions build them from our catalogue, so they say it too."""
    text = (DEFS_FOLDER / "datasets/codecontests/defs.yaml").read_text()
    assert before in text
    (tmp_path / "defs.yaml").write_text(text.replace(before, after))
    with pytest.raises(SpecError, match=r"defs.yaml: not readable as YAML: .* is read as .*quotes"):
        load_spec(tmp_path / "defs.yaml")
