"""Small splits: a fair, repeatable sample of whole lines."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.datasets.records import problem_of
from wmtp_assets.datasets.views import METHOD, Stratum, sample
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.contests import make, processed_path
from wmtp_assets_tests.datasets.rows import read_jsonl
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import damage, flip

Rows = list[tuple[str, Stratum]]

PROBLEMS = st.sampled_from([f"p{number}" for number in range(6)])


def rows_with(labels: st.SearchStrategy[bool | None]) -> st.SearchStrategy[Rows]:
    rows = st.tuples(st.text(max_size=4), st.tuples(PROBLEMS, labels))
    return st.lists(rows, unique_by=lambda row: row[0], max_size=40)


ROWS = rows_with(st.none()) | rows_with(st.booleans())
LIMITS = st.integers(1, 45)
SEEDS = st.integers(0, 3)


def chosen(rows: Rows, limit: int, seed: int) -> dict[int, Stratum]:
    """The sample of rows that stand in a list."""
    return sample(lambda: rows, limit, seed)


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def processed_lines(store: Store) -> list[bytes]:
    path = store.path(store.catalogue["humaneval_processed"], "processed/test.jsonl")
    return lines(path)


def small_lines(store: Store) -> list[bytes]:
    """The small split, made anew."""
    small = store.catalogue["humaneval_small"]
    materialize(store, small)
    return lines(store.path(small, "test_small.jsonl"))


@settings(deadline=None)
@given(ROWS, LIMITS, SEEDS)
def test_sample_has_its_size_in_the_order_of_rows(rows: Rows, limit: int, seed: int) -> None:
    """Never more than the limit, never fewer than there are, each with its own stratum."""
    kept = chosen(rows, limit, seed)
    assert len(kept) == min(limit, len(rows))
    assert [*kept] == sorted(kept)
    assert kept == {number: rows[number][1] for number in kept}


@settings(deadline=None)
@given(ROWS, LIMITS, SEEDS)
def test_sample_covers_problems_and_labels_by_turns(rows: Rows, limit: int, seed: int) -> None:
    """A hundred solutions of two problems say nothing about the other thirteen thousand.

    No problem and label has two rows more than another that has rows left; and where there is room
    for all, all are there.
    """
    kept = Counter(chosen(rows, limit, seed).values())
    sizes = Counter(stratum for _, stratum in rows)
    for stratum, size in sizes.items():
        assert kept[stratum] <= size
        if kept[stratum] < size:
            assert max(kept.values()) <= kept[stratum] + 1
    assert len(kept) == min(limit, len(sizes))


@settings(deadline=None)
@given(ROWS, LIMITS, SEEDS)
def test_sample_has_both_labels_of_its_problems(rows: Rows, limit: int, seed: int) -> None:
    """A critic learns from the two side by side; only the last problem may have room for one, and
    one that is there for a label that no other problem before it has."""
    kept = set(chosen(rows, limit, seed).values())
    problems = {problem for problem, _ in kept}
    missed = [stratum for _, stratum in rows if stratum not in kept and stratum[0] in problems]
    assert len({problem for problem, _ in missed}) <= 2
    labels = {label for _, (_, label) in rows}
    assert len({label for _, label in kept}) == min(len(labels), limit)


@settings(deadline=None)
@given(ROWS, LIMITS, SEEDS, st.randoms(use_true_random=False))
def test_sample_is_independent_of_the_order_of_rows(
    rows: Rows, limit: int, seed: int, shuffler: random.Random
) -> None:
    """Upstream may reorder its shards; the small split must stay the same solutions."""
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    kept = {rows[number] for number in chosen(rows, limit, seed)}
    assert {shuffled[number] for number in chosen(shuffled, limit, seed)} == kept


@settings(deadline=None)
@given(ROWS, LIMITS, LIMITS, SEEDS)
def test_smaller_sample_is_part_of_the_larger(rows: Rows, few: int, more: int, seed: int) -> None:
    """Raising the limit adds rows and takes none away."""
    assert chosen(rows, few, seed).items() <= chosen(rows, few + more, seed).items()


LABELS = (True, False, None)


@settings(deadline=None)
@given(ROWS, LIMITS, SEEDS)
def test_sample_follows_from_the_seed_and_the_names(rows: Rows, limit: int, seed: int) -> None:
    """As the module says it, from the definition: everything sorted, nothing left in a heap."""

    def digest(text: str) -> bytes:
        return hashlib.sha256(f"{seed}:{text}".encode()).digest()

    left: dict[Stratum, list[int]] = {}
    for number in sorted(range(len(rows)), key=lambda number: digest(rows[number][0])):
        left.setdefault(rows[number][1], []).append(number)
    turns = sorted(left, key=lambda stratum: (digest(stratum[0]), stratum[1] is False))
    firsts = [next((turn for turn in turns if turn[1] is label), None) for label in LABELS]
    turns.sort(key=lambda stratum: stratum not in firsts)
    kept: list[int] = []
    while len(kept) < min(limit, len(rows)):
        for stratum in turns:
            if left[stratum] and len(kept) < limit:
                kept.append(left[stratum].pop(0))
    assert [*chosen(rows, limit, seed)] == sorted(kept)


def test_sample_is_pinned() -> None:
    """The same rows on every machine and in every release, or results are not comparable.

    The numbers are those of ``printf '0:HumanEval/%d' | sha256sum``, sorted.
    """
    ids = [f"HumanEval/{number}" for number in range(164)]
    rows: Rows = [(task_id, (task_id, None)) for task_id in ids]
    assert [*chosen(rows, 8, 0)] == [2, 32, 35, 72, 80, 94, 149, 156]
    assert [*chosen(rows, 8, 1)] == [7, 34, 66, 69, 112, 118, 127, 143]


SPLITS = [
    *((name, split) for name in ("codecontests",) for split in ("train", "valid", "test")),
    *(("mbpp", split) for split in ("train", "validation", "test")),
    ("humaneval", "test"),
]


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_lines_are_taken_over_byte_for_byte(
    good_root: Path, store: Store, name: str, split: str
) -> None:
    """A line that is written anew could differ in its escapes, and would be another version."""
    small = lines(good_root / f"datasets_local_small/{name}_small/{split}_small.jsonl")
    full = lines(good_root / f"datasets_v2/{name}/processed/{split}.jsonl")
    wanted = set(small)
    assert len(small) == len(wanted) == (100 if split == "train" else 32)
    assert [line for line in full if line in wanted] == small
    rows = [json.loads(line) for line in small]
    counts = {
        "rows": len(rows),
        "of": len(full),
        "problems": len({problem_of(row) for row in rows}),
    }
    if name == "codecontests":
        correct = sum(row["is_correct"] for row in rows)
        counts |= {"correct": correct, "incorrect": len(rows) - correct}
    document = store.manifest(store.catalogue[f"{name}_small"]).document
    assert document["splits"][split] == counts
    assert document["sample"] == {"method": METHOD, "seed": 0}


def test_all_problems_of_code_contests_are_covered_with_both_labels(good_root: Path) -> None:
    """The head of the file would be one or two problems, and their correct solutions only."""
    folder = good_root / "datasets_v2/codecontests/processed"
    index = json.loads((folder / "train_metadata.json").read_bytes())["problem_index_map"]
    path = good_root / "datasets_local_small/codecontests_small/train_small.jsonl"
    found = {(problem_of(row), row["is_correct"]) for _, row in read_jsonl(path)}
    assert found == {
        (problem, label)
        for problem, entry in index.items()
        for label in (True, False)
        if entry["correct_indices" if label else "incorrect_indices"]
    }


def test_small_split_is_not_the_head_of_the_file(good_root: Path, store: Store) -> None:
    """The first rows are the easy ones, or all of one problem."""
    small = lines(good_root / "datasets_local_small/humaneval_small/test_small.jsonl")
    full = processed_lines(store)
    positions = [full.index(line) for line in small]
    assert small != full[:32]
    assert positions[0] < 41 and positions[-1] >= 123


def test_limit_and_seed_are_the_spec_s(store: Store) -> None:
    """Another seed is another sample of the same size; a split shorter than its bound is whole."""
    by_default = small_lines(store)
    seeded = small_lines(respec(store, "humaneval", small={"seed": 1}))
    assert len(by_default) == len(seeded) == 32
    assert by_default != seeded
    few = small_lines(respec(store, "humaneval", small={"other": 5}))
    assert len(few) == 5
    assert set(few) < set(by_default)
    everything = small_lines(respec(store, "humaneval", small={"other": 1000}))
    assert everything == processed_lines(store)


def test_train_split_has_a_limit_of_its_own(store: Store) -> None:
    """The bounds are 100 and 32 by default; mixed up, a laptop trains on a third of the rows."""
    files = ["openai_humaneval/test-00000-of-00001.parquet"]
    train = respec(store, "humaneval", splits={"train": {"files": files}})
    materialize(train, train.catalogue["humaneval_processed"])
    small = train.catalogue["humaneval_small"]
    materialize(train, small)
    assert len(lines(train.path(small, "train_small.jsonl"))) == 100
    assert train.manifest(small).document["splits"] == {
        "train": {"rows": 100, "of": 164, "problems": 100}
    }


@pytest.mark.parametrize(
    "name", ["processed/test.jsonl", "index/test.parquet", "index/test.offsets"]
)
def test_what_is_sampled_from_is_verified(contests: Store, name: str) -> None:
    """Or damage would be copied into an artifact whose own hashes are right."""
    damage(processed_path(contests, name), flip(20))
    with pytest.raises(CorruptArtifact, match=f"{Path(name).name} is damaged"):
        make(contests, "small")
