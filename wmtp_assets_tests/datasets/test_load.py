"""``load_dataset``: the rows of the JSONL, with what the twin knows about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

import wmtp_assets
from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact, SpecError
from wmtp_assets.base.settings import ROOT_VARIABLE
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.contests import processed_path
from wmtp_assets_tests.datasets.rows import read_jsonl
from wmtp_assets_tests.trees import damage

KNOWN = {
    *("tokens_instruction", "tokens_input", "tokens_output"),
    *("problem_id", "language", "is_duplicate", "is_contradicted"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``datasets`` copies what it loads; not into the home of who runs the tests."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


@pytest.mark.parametrize(
    ("name", "split", "file"),
    [
        ("codecontests", "test", "test"),
        ("codecontests", "validation", "valid"),
        ("mbpp", "valid", "validation"),
        ("humaneval", "test", "test"),
    ],
)
def test_rows_are_those_of_the_jsonl(good_root: Path, name: str, split: str, file: str) -> None:
    """Whoever reads the one or the other reads the same; ``valid`` and ``validation`` are one."""
    loaded = wmtp_assets.load_dataset(name, split, root=good_root)
    path = good_root / f"datasets_v2/{name}/processed/{file}.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    assert set(loaded.column_names) == rows[0].keys() | KNOWN
    assert loaded.remove_columns(sorted(KNOWN)).to_list() == rows


def test_root_is_that_of_the_settings(good_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a training script nobody names the folder twice."""
    monkeypatch.setenv(ROOT_VARIABLE, str(good_root))
    assert len(wmtp_assets.load_dataset("humaneval", "test")) == 164


NAMES = "known: codecontests, gsm8k, humaneval, mbpp"


@pytest.mark.parametrize(
    ("name", "split", "text"),
    [
        ("apps", "train", "'apps' is not a dataset; known: codecontests, gsm8k, humaneval, mbpp"),
        (
            "micro_mtp",
            "train",
            "'micro_mtp' is not a dataset; known: codecontests, gsm8k, humaneval, mbpp",
        ),
        ("humaneval", "train", "humaneval has no split 'train'; it has: test"),
        ("humaneval", "valid", "humaneval has no split 'validation'; it has: test"),
        ("mbpp", "prompt", "mbpp has no split 'prompt'; it has: train, validation, test"),
    ],
)
def test_unknown_names_are_answered_with_the_known(
    contests: Store, name: str, split: str, text: str
) -> None:
    """Before anything is read."""
    with pytest.raises(SpecError) as caught:
        wmtp_assets.load_dataset(name, split, root=contests.root)
    assert str(caught.value) == text


def test_dataset_that_was_not_made_is_said_with_the_command(contests: Store) -> None:
    """A person on a new machine knows what to type next."""
    with pytest.raises(MissingArtifact, match=r"mbpp_processed has not been materialized: .*mbpp"):
        wmtp_assets.load_dataset("mbpp", "train", root=contests.root)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda path: damage(path, lambda data: data[:-1]), r"\d+ bytes"),
        (lambda path: damage(path, lambda data: data + b"\0"), r"\d+ bytes"),
        (Path.unlink, "no such file"),
    ],
    ids=["shorter", "longer", "gone"],
)
def test_twin_of_another_size_is_refused(
    contests: Store, change: Callable[[Path], None], found: str
) -> None:
    """``datasets`` would say something about thrift; this says which artifact is damaged."""
    path = processed_path(contests, "index/train.parquet")
    change(path)
    with pytest.raises(CorruptArtifact) as caught:
        wmtp_assets.load_dataset("codecontests", "train", root=contests.root)
    text = str(caught.value)
    assert text.startswith(f"{path}: expected ")
    assert text.endswith("Find out more with: wmtp verify codecontests_processed")
    caught.match(f"bytes, found {found}\\. ")
