"""Pictures: well-formed, the same for the same numbers, and with the numbers in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from wmtp_assets.checkpoints.families import META
from wmtp_assets.documents import pictures

SVG = "{http://www.w3.org/2000/svg}"


def summary(**changes: Any) -> dict[str, Any]:
    """A summary with one split, as far as pictures read it."""
    split = {
        "rows": 12_345,
        "tokens": {"total": {"max": 2048}},
        "histogram": {"tokens": 64, "rows": [5, 0, 12_340]},
        "difficulty": {"easy": 3, "hard": 1},
        "is_correct": {"true": 3, "false": 1},
    }
    return {"max_tokens": 2048, "splits": {"train": {**split, **changes}}}


def texts(picture: bytes | None) -> set[str]:
    """What is written in a picture."""
    assert picture is not None
    root = ElementTree.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    return {"".join(text.itertext()) for text in root.iter(f"{SVG}text")}


@pytest.mark.parametrize("draw", [pictures.token_lengths, pictures.labels, pictures.difficulties])
def test_same_numbers_same_bytes(draw: Callable[[dict[str, Any]], bytes | None]) -> None:
    """A picture that changed would be looked at for what did."""
    assert draw(summary()) == draw(summary())


def test_limit_is_marked() -> None:
    """And stands in the picture also where all rows are far below it."""
    assert texts(pictures.token_lengths(summary())) > {
        "limit 2,048",
        "train: 12,345 rows, longest 2,048",
    }


def test_split_without_rows_is_drawn() -> None:
    """Every row may have been too long."""
    empty = summary(rows=0, histogram={"tokens": 64, "rows": []}, tokens={"total": {"max": 0}})
    assert "train: 0 rows, longest 0" in texts(pictures.token_lengths(empty))


def test_labels_are_drawn_where_there_are_any() -> None:
    """Worked answers are all right: a bar of them would say nothing."""
    assert texts(pictures.labels(summary())) > {"3", "1", "correct", "incorrect", "train"}
    without = summary()
    del without["splits"]["train"]["is_correct"]
    assert pictures.labels(without) is None


def test_rare_difficulties_are_summed_up() -> None:
    """Names of contests stand there too; a bar each would be a page."""
    many = summary(difficulty={f"level {n}": 100 - n for n in range(30)})
    found = texts(pictures.difficulties(many))
    assert {"level 0", "level 18", "11 others"} <= found
    assert "level 19" not in found
    assert pictures.difficulties(summary(difficulty={"unknown": 5})) is None


def test_markup_in_a_name_is_text() -> None:
    """Names are upstream's."""
    found = texts(pictures.difficulties(summary(difficulty={"<a> & $x$": 1, "b": 1})))
    assert any("<a>" in text for text in found)


def test_parts_add_up() -> None:
    """Bytes and percent of each part."""
    tensors = {"tok_embeddings.weight": 3_000, "layers.0.attention.wq.weight": 1_000}
    assert texts(pictures.parts(META, tensors)) > {
        "embedding",
        "3.0 kB (75.0 %)",
        "attention",
        "1.0 kB (25.0 %)",
    }
