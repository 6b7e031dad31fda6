"""Statistics: right numbers, one file per content, nothing lost."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.datasets.formats.codecontests import CodeContestsRecord
from wmtp_assets.datasets.records import problem_of
from wmtp_assets.datasets.stats import distribution, histogram, newest_summary, summarize_split
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.contests import make, processed_path
from wmtp_assets_tests.datasets.rows import read_jsonl
from wmtp_assets_tests.quick import quick
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import damage, flip

DAY = 86_400
START = 1_767_225_600  # 2026-01-01T00:00:00Z


def nearest_rank(values: list[int], percent: int) -> int:
    """The definition itself: the smallest value that enough of the values do not exceed."""
    return min(
        value
        for value in values
        if Fraction(sum(other <= value for other in values), len(values)) >= Fraction(percent, 100)
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=250))
@example([7])
@example(list(range(100)))
@example(list(range(101)))
@example(list(range(10)))
def test_distribution_is_that_of_the_definition(values: list[int]) -> None:
    """Off by one rank, and the number that decides about max_tokens is another row's."""
    found = distribution(Counter(values))
    assert found == {
        "mean": round(float(Fraction(sum(values), len(values))), 2),
        "p50": nearest_rank(values, 50),
        "p90": nearest_rank(values, 90),
        "p99": nearest_rank(values, 99),
        "max": max(values),
    }


def test_distribution_of_nothing_is_zero() -> None:
    """A split of which every row was too long still has a summary."""
    assert distribution({}) == {"mean": 0, "p50": 0, "p90": 0, "p99": 0, "max": 0}


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ({}, []),
        ({0: 2}, [2]),
        ({64: 1, 65: 1}, [1, 1]),
        ({1: 3, 2048: 1}, [3, *[0] * 30, 1]),
    ],
)
def test_bars_end_at_the_limit(values: dict[int, int], bars: list[int]) -> None:
    """A row of exactly the limit is within it: no bar stands beyond the line."""
    assert histogram(values) == bars


def test_newest_summary_is_the_latest_day() -> None:
    """Other files of the folder are not summaries."""
    names = ["2026-02-01_summary.json", "2025-12-31_summary.json", "2027-notes.json"]
    assert newest_summary(names) == "2026-02-01_summary.json"
    assert newest_summary(["metadata.json"]) is None


def recount(root: Path, name: str, split: str) -> dict[str, Any]:
    """What the JSONL and sentencepiece say about a split, row by row."""
    encode = SentencePieceProcessor(model_file=str(MODEL_PATH)).encode
    path = root / f"datasets_v2/{name}/processed/{split}.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    asked = {text: len(encode(text)) for row in rows for text in (row["instruction"], row["input"])}
    tokens = {
        "instruction": [asked[row["instruction"]] for row in rows],
        "input": [asked[row["input"]] for row in rows],
        "output": [len(ids) for ids in encode([row["output"] for row in rows])],
    }
    tokens["total"] = [sum(counts) for counts in zip(*tokens.values(), strict=True)]
    outputs = [(problem_of(row), row["output"]) for row in rows]
    labels = [row.get("is_correct") for row in rows]
    both = {output for output, label in zip(outputs, labels, strict=True) if label} & {
        output for output, label in zip(outputs, labels, strict=True) if label is False
    }
    languages = Counter(row["metadata"].get("language", "unknown") for row in rows)
    found: dict[str, Any] = {
        "rows": len(rows),
        "problems": len({problem_of(row) for row in rows}),
        "tokens": {field: distribution(Counter(counts)) for field, counts in tokens.items()},
        "histogram": {
            "tokens": 64,
            "rows": [
                sum(64 * bar < max(count, 1) <= 64 * (bar + 1) for count in tokens["total"])
                for bar in range(-(-max(tokens["total"]) // 64))
            ],
        },
        "near_limit": {"tokens": 64, "rows": sum(count > 2048 - 64 for count in tokens["total"])},
        "difficulty": dict(Counter(row["metadata"]["difficulty"] for row in rows)),
        "languages": dict(languages),
        "with_tests": sum(row["metadata"]["has_tests"] for row in rows),
        "duplicates": len(rows) - len({*zip(outputs, labels, strict=True)}),
        "contradicted": sum(output in both for output in outputs),
    }
    if name == "codecontests":
        found["is_correct"] = {"true": labels.count(True), "false": labels.count(False)}
    return found


SPLITS = {
    "codecontests": ["train", "valid", "test"],
    "mbpp": ["train", "validation", "test"],
    "humaneval": ["test"],
}


@pytest.mark.parametrize("name", quick(SPLITS, ["mbpp", "humaneval"]))
def test_summary_is_a_recount_of_the_rows(good_root: Path, store: Store, name: str) -> None:
    """Every number again, from the lines and sentencepiece alone; a full line is near no limit."""
    stats = store.catalogue[f"{name}_stats"]
    summary = json.loads(store.read(stats, store.manifest(stats).document["summary"]))
    processed = store.manifest(store.catalogue[f"{name}_processed"]).document
    seen = ("upstream_rows", "samples", "dropped", "crlf_rows")
    assert summary == {
        "dataset": name,
        "version": "v2.0.0",
        "max_tokens": 2048,
        "tokenizer_sha256": hash_file(MODEL_PATH).sha256,
        "splits": {
            split: {
                **recount(good_root, name, split),
                **{key: processed["splits"][split][key] for key in seen},
            }
            for split in SPLITS[name]
        },
    }


def test_rows_near_the_limit_are_those_a_template_makes_too_long(contests: Store) -> None:
    """2,048 tokens are counted without template and BOS: 37 to 56 more when training."""
    rows = contests.path(contests.catalogue["codecontests_processed"], "index/train.parquet")
    columns = ["tokens_instruction", "tokens_input", "tokens_output"]
    totals = [sum(row.values()) for row in pq.read_table(rows, columns=columns).to_pylist()]
    (total,) = set(totals)
    for limit, near in ((total, 12), (total + 63, 12), (total + 64, 0)):
        assert summarize_split(rows, CodeContestsRecord, limit)["near_limit"]["rows"] == near


class Days:
    """Runs ``humaneval_stats`` on the days of 2026 on a store that has no summary yet."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.artifact = store.catalogue["humaneval_stats"]
        self.said: list[str] = []
        self._monkeypatch = monkeypatch
        for path in store.folder(self.artifact).iterdir():
            path.unlink()

    def run(self, day: int, max_tokens: int = 2048, strays: tuple[str, ...] = ()) -> list[str]:
        """Make processed rows and statistics on a day of January; return the summaries' names.

        No other summary is on disk but ``strays``.
        """
        self._monkeypatch.setenv("SOURCE_DATE_EPOCH", str(START + (day - 1) * DAY))
        changed = respec(self.store, "humaneval", max_tokens=max_tokens)
        materialize(changed, changed.catalogue["humaneval_processed"])
        materialize(changed, changed.catalogue["humaneval_stats"], self.said.append)
        folder = self.store.folder(self.artifact)
        names = {path.name for path in folder.iterdir()} - {"metadata.json"}
        committed = self.store.manifest(self.artifact).files
        assert names == {*committed, *strays}
        return sorted(committed)

    def document(self) -> dict[str, Any]:
        return self.store.manifest(self.artifact).document

    def limit(self, name: str) -> int:
        """Which content a summary has, by the max_tokens it was made with."""
        return json.loads(self.store.read(self.artifact, name))["max_tokens"]


@pytest.fixture
def days(store: Store, monkeypatch: pytest.MonkeyPatch) -> Days:
    return Days(store, monkeypatch)


def test_equal_content_adds_no_file_on_another_day(days: Days) -> None:
    """Dated bodies would make every nightly run a new version, and everything behind it stale."""
    first = days.run(1)
    before = days.document()
    assert first == ["2026-01-01_summary.json"]
    assert days.run(2) == first
    assert days.document() == before


def test_changed_content_adds_a_file_and_keeps_the_earlier(days: Days) -> None:
    """The series is the history of the dataset; the manifest says which one is valid."""
    days.run(1)
    names = days.run(3, max_tokens=300)
    assert names == ["2026-01-01_summary.json", "2026-01-03_summary.json"]
    assert [days.limit(name) for name in names] == [2048, 300]
    assert days.document()["summary"] == names[1]
    assert newest_summary(names) == names[1]


def test_content_that_comes_back_is_the_newest_again(days: Days) -> None:
    """Equal to an earlier summary but not to the newest: it must be said anew."""
    days.run(1)
    days.run(2, max_tokens=300)
    names = days.run(3)
    assert [days.limit(name) for name in names] == [2048, 300, 2048]


def test_second_content_of_a_day_replaces_the_first(days: Days) -> None:
    """A file per day: what was wrong an hour ago is not a history."""
    days.run(1)
    names = days.run(1, max_tokens=300)
    assert names == ["2026-01-01_summary.json"]
    assert days.limit(names[0]) == 300


def test_clock_that_went_back_does_not_hide_the_new_summary(days: Days) -> None:
    """The newest name is taken for the valid one; an older date would never be looked at."""
    days.run(5)
    names = days.run(2, max_tokens=300)
    assert names == ["2026-01-05_summary.json"]
    assert days.limit(names[0]) == 300
    assert days.document()["summary"] == names[0]


def test_damaged_earlier_summary_is_left_out_and_said(days: Days) -> None:
    """It cannot be made again; carried on, its damage would get a right hash."""
    days.run(1)
    days.run(2, max_tokens=300)
    damage(days.store.path(days.artifact, "2026-01-01_summary.json"), flip(40))
    days.said.clear()
    assert days.run(3, max_tokens=400) == ["2026-01-02_summary.json", "2026-01-03_summary.json"]
    assert len(days.said) == 1
    assert days.said[0].startswith("left out: ")
    assert "2026-01-01_summary.json is damaged" in days.said[0]


def test_missing_earlier_summary_is_left_out_and_said(days: Days) -> None:
    """Somebody deleted it: the rest of the series continues."""
    days.run(1)
    days.run(2, max_tokens=300)
    days.store.path(days.artifact, "2026-01-01_summary.json").unlink()
    days.said.clear()
    assert days.run(3, max_tokens=400) == ["2026-01-02_summary.json", "2026-01-03_summary.json"]
    assert "2026-01-01_summary.json is missing" in days.said[0]


def test_damaged_earlier_summary_of_the_same_content_is_made_again(days: Days) -> None:
    """Its bytes are known again: the hash of its record says so."""
    days.run(1)
    days.run(2, max_tokens=300)
    path = days.store.path(days.artifact, "2026-01-01_summary.json")
    good = path.read_bytes()
    damage(path, flip(40))
    days.run(3)
    assert path.read_bytes() == good


def test_damaged_newest_summary_is_made_again(days: Days) -> None:
    """Damage must not count as 'the content changed back'."""
    days.run(1)
    damage(days.store.path(days.artifact, "2026-01-01_summary.json"), flip(40))
    assert days.run(1) == ["2026-01-01_summary.json"]
    assert days.limit("2026-01-01_summary.json") == 2048


def test_damaged_manifest_costs_the_series_and_that_is_said(days: Days) -> None:
    """Without it no earlier file can be believed; losing them in silence would be worse."""
    days.run(1)
    damage(days.store.manifest_path(days.artifact), flip(100))
    days.said.clear()
    assert days.run(2, strays=("2026-01-01_summary.json",)) == ["2026-01-02_summary.json"]
    assert days.said[0].startswith("left out, all earlier summaries: ")
    assert days.said[-1].startswith("kept 2026-01-01_summary.json, which is not a file of")


def test_processed_rows_are_verified_before_they_are_counted(contests: Store) -> None:
    """Or the statistics would be those of the damage."""
    damage(processed_path(contests, "index/test.parquet"), flip(500))
    with pytest.raises(CorruptArtifact, match=r"test\.parquet is damaged"):
        make(contests, "stats")
