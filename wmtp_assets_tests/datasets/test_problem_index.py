"""Which rows belong to which problem: as the training code reads it, one problem per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from wmtp_assets.datasets.problem_index import ProblemIndex, problem_index_file
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets_tests.datasets.rows import read_jsonl

Problems = dict[str, list[tuple[bool, int]]]
"""Label and tokens of each row of each problem, in the order of the rows."""

PROBLEMS = st.dictionaries(
    st.text(min_size=1),
    st.lists(st.tuples(st.booleans(), st.integers(0, 2048)), min_size=1, max_size=6),
    max_size=6,
)


def written(problems: Problems, *, is_labelled: bool) -> bytes:
    """The file that an index of the problems is."""
    parts: list[bytes] = []
    index = ProblemIndex(is_labelled)
    first = 0
    for name, rows in problems.items():
        labels = [label if is_labelled else None for label, _ in rows]
        parts.append(index.add(name, 7, first, labels, [tokens for _, tokens in rows]))
        first += len(rows)
    return b"".join([*parts, *index.rows(), index.close()])


@given(PROBLEMS)
@example({})
@example({'"\\\n\u2028é': [(True, 1), (False, 2), (True, 3)]})
def test_labelled_index_is_a_recount(problems: Problems) -> None:
    """Written piece by piece, it is the JSON that a whole object would be."""
    wanted: dict[str, Any] = {}
    row = 0
    for name, rows in problems.items():
        entry = wanted[name] = {"difficulty": 7}
        for key, label in (("correct", True), ("incorrect", False)):
            mine = [number for number, (found, _) in enumerate(rows) if found is label]
            entry[f"{key}_indices"] = [row + number for number in mine]
            entry[f"{key}_token_lengths"] = [rows[number][1] for number in mine]
        row += len(rows)
    counts = [(sum(label for label, _ in rows), len(rows)) for rows in problems.values()]
    data = written(problems, is_labelled=True)
    assert json.loads(data) == {
        "problem_index_map": wanted,
        "metadata": [
            {"is_correct": label, "difficulty": 7}
            for rows in problems.values()
            for label, _ in rows
        ],
        "stats": {
            "total": row,
            "correct": sum(right for right, _ in counts),
            "incorrect": sum(size - right for right, size in counts),
            "n_problems": len(problems),
            "n_valid_problems": sum(0 < right < size for right, size in counts),
            "total_possible_pairs": sum(right * (size - right) for right, size in counts),
            "difficulty_dist": {"7": row} if problems else {},
        },
    }
    assert len(data.split(b"\n")) == 2 * len(problems) + 6


@given(PROBLEMS)
def test_index_without_labels_says_nothing_about_them(problems: Problems) -> None:
    """An empty list of correct rows would be a claim."""
    index = json.loads(written(problems, is_labelled=False))
    row = 0
    for name, rows in problems.items():
        assert index["problem_index_map"][name] == {
            "difficulty": 7,
            "indices": [row + number for number in range(len(rows))],
            "token_lengths": [tokens for _, tokens in rows],
        }
        row += len(rows)
    assert index["metadata"] == [{"difficulty": 7}] * row
    assert index["stats"] == {
        "total": row,
        "n_problems": len(problems),
        "difficulty_dist": {"7": row} if problems else {},
    }


@pytest.mark.parametrize(("name", "split"), [("humaneval", "test"), ("mbpp", "validation")])
def test_index_of_datasets_without_labels(good_root: Path, name: str, split: str) -> None:
    """The same file for every dataset, so that the training code has one reader."""
    encode = SentencePieceProcessor(model_file=str(MODEL_PATH)).encode
    folder = good_root / f"datasets_v2/{name}"
    rows = [row for _, row in read_jsonl(folder / f"processed/{split}.jsonl")]
    assert json.loads((folder / problem_index_file(split)).read_bytes()) == {
        "problem_index_map": {
            row["task_id"]: {
                "difficulty": 0,
                "indices": [number],
                "token_lengths": [len(encode(row["output"]))],
            }
            for number, row in enumerate(rows)
        },
        "metadata": [{"difficulty": 0}] * len(rows),
        "stats": {
            "total": len(rows),
            "n_problems": len(rows),
            "difficulty_dist": {"0": len(rows)},
        },
    }
