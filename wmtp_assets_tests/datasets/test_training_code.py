"""What the training code reads of the storage, read as it reads it: nothing here is its code.

``wooshikwon/weighted_mtp`` is public. Read were, at commit b9f999a, ``data/datasets.py``,
``pipelines/run_evaluation.py`` and the loaders of ``models/``; ``verify_storage.py`` at 35f950b and
``extract_metadata.py`` at 7022dc7. What it cannot read is told in ``docs/training-code.md``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

TRAINED = ("train", "validation", "test")
"""The splits that it knows, by its names."""

ROW = {"instruction": str, "input": str, "output": str, "task_id": str}
"""The fields that it reads of every row, with their types."""

Row = dict[str, Any]


@pytest.fixture(scope="module")
def storage(good_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``storage/`` that it reads; there, folders have the names of v1."""
    folder = tmp_path_factory.mktemp("training") / "storage"
    folder.mkdir()
    for name, there in {
        "datasets": "datasets_v2",
        "models": "models_v2",
        "datasets_local_small": "datasets_local_small",
    }.items():
        (folder / name).symlink_to(good_root / there)
    return folder


def processed(storage: Path, name: str) -> Path:
    return storage / "datasets" / name / "processed"


def first(folder: Path, *names: str) -> Path:
    """The first of some files that is there, as it looks for a split that has two names."""
    return next(path for path in map(folder.joinpath, names) if path.exists())


def rows_path(storage: Path, name: str, split: str) -> Path:
    """The JSONL of a split: ``validation`` is also looked up as ``valid``."""
    names = ["valid", "validation"] if split == "validation" else [split]
    return first(processed(storage, name), *(f"{item}.jsonl" for item in names))


def metadata(storage: Path, name: str, split: str) -> Row:
    """The metadata of a split, looked up likewise, in the other order."""
    names = ["validation", "valid"] if split == "validation" else [split]
    path = first(processed(storage, name), *(f"{item}_metadata.json" for item in names))
    with path.open(encoding="utf-8") as file:
        return json.load(file)


def text_lines(path: Path) -> list[str]:
    """The lines as text in Python's universal newlines mode, in which it opens every file."""
    with path.open(encoding="utf-8") as file:
        return list(file)


def drawn(
    problems: Row, is_wanted: Callable[[int], bool], seed: int = 42
) -> list[tuple[str, int, int]]:
    """Problem, right and wrong row of pairs in which no row comes twice, of problems whose
    difficulty is wanted, as it draws them."""
    chance = random.Random(seed)
    pairs: list[tuple[str, int, int]] = []
    for name, entry in problems.items():
        right, wrong = [*entry["correct_indices"]], [*entry["incorrect_indices"]]
        if is_wanted(entry["difficulty"]):
            chance.shuffle(right)
            chance.shuffle(wrong)
            pairs += [(name, *pair) for pair in zip(right, wrong, strict=False)]
    return pairs


@pytest.mark.parametrize("split", TRAINED)
def test_pairs_are_drawn_by_bins_of_difficulty(storage: Path, split: str) -> None:
    """``_sample_unique_pairs``: ``low <= difficulty <= high`` with numbers, as every configuration
    of production has it (``all: [1, 25]``), and 0, unknown, in none of them."""
    problems = metadata(storage, "codecontests", split)["problem_index_map"]
    assert {type(entry["difficulty"]) for entry in problems.values()} == {int}
    known = drawn(problems, lambda difficulty: 1 <= difficulty <= 25)
    bins = [(1, 3), (4, 7), (8, 11), (12, 25)]
    by_bin = [drawn(problems, lambda n, low=low, high=high: low <= n <= high) for low, high in bins]
    assert known and sum(map(len, by_bin)) == len(known) < len(drawn(problems, lambda n: True))
    assert sum(map(bool, by_bin)) >= 2


@pytest.mark.parametrize("split", TRAINED)
def test_rows_of_pairs_are_found_by_line(storage: Path, split: str) -> None:
    """``_read_jsonl_pairwise``, ``_read_jsonl_by_indices``: a line number is a row of that problem
    with that label, and becomes instruction, input, correct_output, incorrect_output."""
    lines = text_lines(rows_path(storage, "codecontests", split))
    problems = metadata(storage, "codecontests", split)["problem_index_map"]
    for name, *numbers in drawn(problems, lambda difficulty: True):
        rows = [json.loads(lines[number].strip()) for number in numbers]
        assert [row["is_correct"] for row in rows] == [True, False]
        assert {row["metadata"]["problem_id"] for row in rows} == {name}
        assert rows[0]["instruction"] == rows[1]["instruction"]
        assert rows[0]["input"] == rows[1]["input"]
        assert all(type(row[field]) is kind for row in rows for field, kind in ROW.items())


@pytest.mark.parametrize("split", TRAINED)
def test_pairs_of_one_length_are_found(storage: Path, split: str) -> None:
    """``_sample_length_balanced_pairs``: token lengths stand at the places of the row numbers, and
    some pairs of a problem fall between the same two bounds."""
    bounds = [0, 100, 150, 200, 300, 500, 1000, 2000]
    found = 0
    for entry in metadata(storage, "codecontests", split)["problem_index_map"].values():
        bins = []
        for label in ("correct", "incorrect"):
            lengths = entry[f"{label}_token_lengths"]
            assert len(lengths) == len(entry[f"{label}_indices"])
            assert all(type(length) is int and length > 0 for length in lengths)
            bins.append(Counter(sum(length >= bound for bound in bounds) for length in lengths))
        found += (bins[0] & bins[1]).total()
    assert found >= 100


def test_samples_become_one_table(storage: Path) -> None:
    """``Dataset.from_list`` over what was drawn: rows of a split have one type each field."""
    lines = text_lines(rows_path(storage, "codecontests", "train"))
    table = datasets.Dataset.from_list([json.loads(line) for line in lines])
    assert {*ROW, "is_correct", "metadata"} == {*table.column_names}
    assert len(table) == len(lines)


@pytest.mark.parametrize("split", TRAINED)
def test_metadata_says_the_label_and_difficulty_of_each_row(storage: Path, split: str) -> None:
    """7022dc7: ``metadata`` is a list with an entry per line of the JSONL, ``is_correct`` and a
    number ``difficulty``, whose counts are in ``stats`` as text."""
    rows = [json.loads(line) for line in text_lines(rows_path(storage, "codecontests", split))]
    document = metadata(storage, "codecontests", split)
    assert document["metadata"] == [
        {"is_correct": row["is_correct"], "difficulty": row["metadata"]["difficulty_number"]}
        for row in rows
    ]
    counts = Counter(str(entry["difficulty"]) for entry in document["metadata"])
    assert document["stats"]["difficulty_dist"] == counts
    assert sorted(counts, key=int) == [*document["stats"]["difficulty_dist"]]
    assert document["stats"]["total"] == len(rows)
    assert document["stats"]["correct"] == sum(row["is_correct"] for row in rows)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("humaneval", {"test": str, "entry_point": str}),
        ("mbpp", {"test_list": list, "test_setup_code": str}),
        ("gsm8k", {"final_answer": str}),
    ],
)
def test_benchmarks_are_evaluated_from_their_rows(
    storage: Path, name: str, kinds: dict[str, type]
) -> None:
    """``load_evaluation_dataset``, ``run_evaluation``: every row of test has a prompt, a task_id,
    and in metadata what judges an answer; 100 of them become one table."""
    rows = [json.loads(line.strip()) for line in text_lines(rows_path(storage, name, "test"))]
    for row in rows:
        assert all(type(row[field]) is kind for field, kind in ROW.items())
        assert {key: type(row["metadata"][key]) for key in kinds} == kinds
    assert len({row["task_id"] for row in rows}) == len(rows)
    sampled = random.Random(42).sample(rows, 100)
    assert datasets.Dataset.from_list(sampled).to_list() == sampled


def test_final_answers_are_numbers(storage: Path) -> None:
    """``evaluate_gsm8k_answer`` compares as floats, and does not take commas away from ours."""
    for line in text_lines(rows_path(storage, "gsm8k", "test")):
        float(json.loads(line)["metadata"]["final_answer"])


def test_tests_of_mbpp_run(storage: Path) -> None:
    """``execute_mbpp_tests``: setup, code and assertions joined by newlines are a program; CRLF in
    the code is one line break."""
    for line in itertools.islice(text_lines(rows_path(storage, "mbpp", "test")), 50):
        row = json.loads(line)
        tests = "\n".join(row["metadata"]["test_list"])
        program = f"{row['metadata']['test_setup_code']}\n{row['output']}\n\n{tests}\n"
        with warnings.catch_warnings(action="ignore"):
            compile(program, row["task_id"], "exec")


@pytest.mark.parametrize("split", ["valid", "test"])
def test_contests_are_evaluated_from_problems(storage: Path, split: str) -> None:
    """``load_evaluation_dataset``, ``_load_codecontests_tests``: ``{split}_eval.jsonl`` has a row
    per problem, whose task_id is a key of ``tests/{split}_tests.json``: three kinds of tests, each
    as many outputs as inputs, all text."""
    path = processed(storage, "codecontests") / f"{split}_eval.jsonl"
    rows = [json.loads(line.strip()) for line in text_lines(path)]
    assert len(datasets.Dataset.from_list(rows)) == len(rows)
    tests = storage / f"datasets/codecontests/tests/{split}_tests.json"
    with tests.open(encoding="utf-8") as file:
        by_problem = json.load(file)
    assert {*by_problem} == {row["task_id"] for row in rows}
    for row in rows:
        assert type(row["instruction"]) is str and type(row["input"]) is str
        of_problem = by_problem[row["task_id"]]
        for kind in ("public_tests", "private_tests", "generated_tests"):
            inputs, outputs = of_problem[kind]["input"], of_problem[kind]["output"]
            assert len(inputs) == len(outputs)
            assert {type(text) for text in (*inputs, *outputs)} <= {str}
            assert row["metadata"][kind] == of_problem[kind]


@pytest.mark.parametrize("model", ["meta-llama-mtp", "micro-mtp"])
def test_parameters_are_those_that_its_model_takes(storage: Path, model: str) -> None:
    """``load_meta_mtp_model``: ``ModelArgs(**params.json)`` takes no other name; config.json, which
    it reads where there is no params.json, says the same."""
    configs = storage / "models" / model / "configs"
    params = json.loads((configs / "params.json").read_bytes())
    known = "dim n_layers n_heads n_kv_heads vocab_size multiple_of ffn_dim_multiplier norm_eps"
    assert {*params} <= {*known.split(), "n_future_tokens", "rope_theta"}
    config = json.loads((configs / "config.json").read_bytes())
    for name, there in {
        "dim": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "n_kv_heads": "num_key_value_heads",
        "vocab_size": "vocab_size",
        "n_future_tokens": "n_future_tokens",
        "rope_theta": "rope_theta",
        "norm_eps": "rms_norm_eps",
    }.items():
        assert config[there] == params[name], name


SIZES = {
    "meta-llama-mtp": {"n_future_tokens": 4, "rope_theta": 10000.0, "dtype": "float16"},
    "ref-sheared-llama-2.7b": {},
    "micro-mtp": {"num_hidden_layers": 4, "hidden_size": 512},
}
"""What ``verify_storage`` asks the adapter for and the sample has; its sizes are the real ones."""


@pytest.mark.parametrize("model", SIZES)
def test_models_pass_its_verification(storage: Path, model: str) -> None:
    """``verify_storage``: the files are there; the first word of SHA256SUMS is the checkpoint's
    hash; ``meta_adapter.yaml`` has the parameters by these names."""
    folder = storage / "models" / model
    for name in ("params.json", "config.json", "meta_adapter.yaml"):
        assert (folder / "configs" / name).is_file()
    sums = (folder / "safetensors/SHA256SUMS").read_text()
    data = (folder / "safetensors/model.safetensors").read_bytes()
    assert sums.strip().split()[0] == hashlib.sha256(data).hexdigest()
    adapter = yaml.safe_load((folder / "configs/meta_adapter.yaml").read_text())
    assert {key: adapter.get(key) for key in SIZES[model]} == SIZES[model]
    named = ("intermediate_size", "hidden_size", "num_hidden_layers")
    assert all(type(adapter[key]) is int for key in named)


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("codecontests", ["train", "valid", "test"]),
        ("mbpp", ["train", "validation", "test"]),
        ("humaneval", ["test"]),
        ("gsm8k", ["train", "test"]),
    ],
)
def test_datasets_pass_its_verification(storage: Path, name: str, splits: list[str]) -> None:
    """``verify_storage``: these files, these fields in the first rows, and a problem index with its
    counts."""
    fields = {*ROW, "is_correct"} if name == "codecontests" else {*ROW}
    for split in splits:
        for line in text_lines(processed(storage, name) / f"{split}.jsonl")[:3]:
            assert fields <= json.loads(line).keys()
        document = json.loads((processed(storage, name) / f"{split}_metadata.json").read_bytes())
        assert document["problem_index_map"]
        if name == "codecontests":
            assert {"n_valid_problems", "total_possible_pairs"} <= document["stats"].keys()


@pytest.mark.parametrize(
    "file",
    [
        "codecontests_small/train_small.jsonl",
        "codecontests_small/valid_small.jsonl",
        "mbpp_small/train_small.jsonl",
        "mbpp_small/validation_small.jsonl",
        "humaneval_small/test_small.jsonl",
    ],
)
def test_small_sets_pass_its_verification(storage: Path, file: str) -> None:
    """``verify_storage``, and the configurations for laptops: the files have these names."""
    (line, *_) = text_lines(storage / "datasets_local_small" / file)
    assert {*ROW} <= json.loads(line).keys()
