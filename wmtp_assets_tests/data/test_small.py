"""Small splits: a fair, repeatable sample of whole lines."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtp_assets.data.small import sample
from wmtp_assets.errors import CorruptArtifact
from wmtp_assets.materialize import materialize
from wmtp_assets.store import Store
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import damage, flip

IDS = st.lists(st.text(max_size=8), unique=True, max_size=30)


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def processed_lines(store: Store) -> list[bytes]:
    return lines(store.path(store.catalogue["humaneval_processed"], "test.jsonl"))


def small_lines(store: Store) -> list[bytes]:
    """The small split, made anew."""
    small = store.catalogue["humaneval_small"]
    materialize(store, small)
    return lines(store.path(small, "test_small.jsonl"))


@settings(deadline=None)
@given(IDS, st.integers(1, 40), st.integers(0, 3))
def test_sample_has_its_size_in_the_order_of_rows(ids: list[str], limit: int, seed: int) -> None:
    """Never more than the limit, never fewer than there are, no row twice."""
    kept = sample(ids, limit, seed)
    assert len(kept) == min(limit, len(ids))
    assert kept == sorted(set(kept))
    assert all(0 <= index < len(ids) for index in kept)


@settings(deadline=None)
@given(IDS, st.integers(1, 40), st.integers(0, 3), st.randoms(use_true_random=False))
def test_sample_is_independent_of_the_order_of_rows(
    ids: list[str], limit: int, seed: int, shuffler: random.Random
) -> None:
    """Upstream may reorder its shards; the small split must stay the same problems."""
    shuffled = list(ids)
    shuffler.shuffle(shuffled)
    kept = {ids[index] for index in sample(ids, limit, seed)}
    assert {shuffled[index] for index in sample(shuffled, limit, seed)} == kept


@settings(deadline=None)
@given(IDS, st.integers(1, 20), st.integers(1, 20), st.integers(0, 3))
def test_smaller_sample_is_part_of_the_larger(
    ids: list[str], few: int, more: int, seed: int
) -> None:
    """Raising the limit adds rows and takes none away."""
    assert set(sample(ids, few, seed)) <= set(sample(ids, few + more, seed))


def test_sample_is_pinned() -> None:
    """The same rows on every machine and in every release, or results are not comparable.

    The numbers are those of ``printf '0:HumanEval/%d' | sha256sum``, sorted.
    """
    ids = [f"HumanEval/{number}" for number in range(164)]
    assert sample(ids, 8, 0) == [2, 32, 35, 72, 80, 94, 149, 156]
    assert sample(ids, 8, 1) == [7, 34, 66, 69, 112, 118, 127, 143]


def test_lines_are_taken_over_byte_for_byte(good_root: Path, store: Store) -> None:
    """A line that is written anew could differ in its escapes, and would be another version."""
    small = lines(good_root / "datasets_local_small/humaneval_small/test_small.jsonl")
    full = processed_lines(store)
    assert len(small) == 32
    assert len(set(small)) == 32
    assert [line for line in full if line in small] == small


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
    assert train.manifest(small).document["splits"] == {"train": {"rows": 100, "of": 164}}


def test_processed_rows_are_verified_before_they_are_sampled(store: Store) -> None:
    """Or damage would be copied into an artifact whose own hashes are right."""
    damage(store.path(store.catalogue["humaneval_processed"], "test.jsonl"), flip(5000))
    with pytest.raises(CorruptArtifact, match=r"test\.jsonl is damaged"):
        small_lines(store)
