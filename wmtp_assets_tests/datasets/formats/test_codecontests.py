"""CodeContests: every sample of upstream is where it belongs, or counted as dropped.

The whole sample is converted a second time here, the straightforward way: rows as dicts, a loop,
sentencepiece for every text, nothing shared with the converter.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from struct import unpack
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sentencepiece import SentencePieceProcessor

from wmtp_assets.datasets.formats.codecontests import (
    COLUMNS,
    LANGUAGES,
    count_solutions,
    input_of,
    problem_ids,
    read_evaluations,
)
from wmtp_assets.datasets.records import Options, load_format
from wmtp_assets.datasets.records import Tests as ProblemTests
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.sample.code_contests import DIFFICULTIES, Source
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.contests import (
    CPP,
    JAVA,
    PY2,
    PY3,
    SPLITS,
    Row,
    commit_raw,
    examples,
    make,
    problem,
    processed_path,
    raw_path,
    shards,
    small_repository,
    table,
)
from wmtp_assets_tests.datasets.rows import read_jsonl
from wmtp_assets_tests.respec import respec

FOLDER = "datasets_v2/codecontests"
KINDS = ("public_tests", "private_tests", "generated_tests")


# -- the whole sample, converted a second time -----------------------------------------------------


@dataclass
class Expected:
    """What a split must become."""

    samples: int = 0
    upstream_rows: int = 0
    rows: list[Row] = field(default_factory=list)
    tokens: list[tuple[int, int, int]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    evaluations: list[Row] = field(default_factory=list)
    tests: dict[str, Row] = field(default_factory=dict)

    def problems(self) -> dict[str, list[int]]:
        """Row numbers by problem."""
        found: dict[str, list[int]] = defaultdict(list)
        for number, row in enumerate(self.rows):
            found[row["metadata"]["problem_id"]].append(number)
        return dict(found)


class Straightforward:
    """The converter that anybody would write first."""

    def __init__(self) -> None:
        self._encode = SentencePieceProcessor(model_file=str(MODEL_PATH)).encode
        self._descriptions: dict[str, list[str]] = defaultdict(list)
        self.renamed: list[str] = []

    def split(self, paths: list[Path]) -> Expected:
        expected = Expected()
        for path in paths:
            for row in pq.read_table(path).to_pylist():
                self._add(expected, row)
        return expected

    def _name(self, row: Row) -> str:
        """Upstream's name, numbered from the second description on that has it."""
        descriptions = self._descriptions[row["name"]]
        if row["description"] not in descriptions:
            descriptions.append(row["description"])
        number = descriptions.index(row["description"]) + 1
        if number == 1:
            return row["name"]
        self.renamed.append(f"{row['name']}#{number}")
        return self.renamed[-1]

    def _add(self, expected: Expected, row: Row) -> None:
        name = self._name(row)
        examples = zip(row["public_tests"]["input"], row["public_tests"]["output"], strict=True)
        given = "\n\n".join(
            "Input:\n" + one.rstrip() + "\nOutput:\n" + other.rstrip()
            for one, other in list(examples)[:2]
        )
        source = Source(row["source"]).name.lower().removesuffix("_source")
        difficulty = DIFFICULTIES[row["difficulty"]].lower().removesuffix("_difficulty")
        limit = row["time_limit"]
        expected.upstream_rows += 1
        expected.tests[name] = {"task_name": name, **{kind: row[kind] for kind in KINDS}}
        expected.evaluations.append(
            {
                "task_id": name,
                "instruction": row["description"],
                "input": given,
                "metadata": {
                    "source": source,
                    "difficulty": difficulty,
                    "cf_rating": row["cf_rating"],
                    "time_limit": limit and limit["seconds"] + limit["nanos"] / 1e9,
                    "memory_limit_bytes": row["memory_limit_bytes"],
                    **{kind: row[kind] for kind in KINDS},
                },
            }
        )
        for column, label in (("solutions", "correct"), ("incorrect_solutions", "incorrect")):
            languages, texts = row[column]["language"], row[column]["solution"]
            for number, (language, text) in enumerate(zip(languages, texts, strict=True)):
                expected.samples += 1
                if language not in (1, 3):
                    expected.dropped["other_language"] += 1
                    continue
                counts = [len(self._encode(part)) for part in (row["description"], given, text)]
                if sum(counts) > 2048:
                    expected.dropped["too_long"] += 1
                    continue
                expected.tokens.append((counts[0], counts[1], counts[2]))
                expected.rows.append(
                    {
                        "instruction": row["description"],
                        "input": given,
                        "output": text,
                        "task_id": f"{name}_{label}_{number}",
                        "is_correct": label == "correct",
                        "metadata": {
                            "source": source,
                            "difficulty": difficulty,
                            "difficulty_number": row["difficulty"],
                            "has_tests": any(row[kind]["input"] for kind in KINDS),
                            "problem_id": name,
                            "language": {1: "python", 3: "python3"}[language],
                        },
                    }
                )


Reference = tuple[dict[str, Expected], list[str]]


@pytest.fixture(scope="module")
def reference(good_root: Path) -> Reference:
    """What each split must become, and the problems that are not called as upstream calls them."""
    converter = Straightforward()
    folder = good_root / FOLDER / "raw/data"
    expected = {split: converter.split(sorted(folder.glob(f"{split}-*"))) for split in SPLITS}
    return expected, converter.renamed


def dumped(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def test_sample_has_what_can_go_wrong(reference: Reference) -> None:
    """Otherwise the comparisons below would compare nothing."""
    expected, renamed = reference
    train = expected["train"]
    assert len(train.rows) > 3000
    assert train.dropped["other_language"] > 100
    assert train.dropped["too_long"] > 0
    assert {row["is_correct"] for row in train.rows} == {True, False}
    assert {row["metadata"]["language"] for row in train.rows} == {"python", "python3"}
    assert {row["input"] for row in train.rows} > {""}
    assert len(train.problems()) < train.upstream_rows
    assert len(renamed) == 1
    assert None in {row["metadata"]["time_limit"] for row in expected["valid"].evaluations}


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_those_of_the_straightforward_converter(
    good_root: Path, reference: Reference, split: str
) -> None:
    """The speed of the converter is worth nothing if one of 3.7 million rows is another."""
    rows = reference[0][split].rows
    data = (good_root / FOLDER / f"processed/{split}.jsonl").read_bytes()
    assert data == dumped(rows)
    assert len({row["task_id"] for row in rows}) == len(rows)


@pytest.mark.parametrize("split", SPLITS)
def test_twin_has_the_rows_and_what_is_known_about_each(
    good_root: Path, reference: Reference, split: str
) -> None:
    """Checks and statistics read columns of the twin where this proves the same thing."""
    expected = reference[0][split]
    outputs = Counter[Any]()
    labels = defaultdict(set)
    for row in expected.rows:
        labels[row["metadata"]["problem_id"], row["output"]].add(row["is_correct"])
    rows = []
    for row, tokens in zip(expected.rows, expected.tokens, strict=True):
        problem_id = row["metadata"]["problem_id"]
        outputs[problem_id, row["output"], row["is_correct"]] += 1
        rows.append(
            {
                **row,
                "tokens_instruction": tokens[0],
                "tokens_input": tokens[1],
                "tokens_output": tokens[2],
                "problem_id": problem_id,
                "language": row["metadata"]["language"],
                "is_duplicate": outputs[problem_id, row["output"], row["is_correct"]] > 1,
                "is_contradicted": len(labels[problem_id, row["output"]]) == 2,
            }
        )
    found = pq.read_table(good_root / FOLDER / f"index/{split}.parquet")
    assert found.to_pylist() == rows
    if split == "train":
        assert any(row["is_duplicate"] for row in rows)
        assert any(row["is_contradicted"] for row in rows)


@pytest.mark.parametrize("split", SPLITS)
def test_problem_index_is_a_recount(good_root: Path, reference: Reference, split: str) -> None:
    """The training code samples pairs by these numbers: one off, and it trains on other rows."""
    expected = reference[0][split]
    index = json.loads((good_root / FOLDER / f"processed/{split}_metadata.json").read_bytes())
    wanted = {}
    valid = pairs = 0
    for name, numbers in expected.problems().items():
        right = [number for number in numbers if expected.rows[number]["is_correct"]]
        wrong = [number for number in numbers if not expected.rows[number]["is_correct"]]
        wanted[name] = {
            "difficulty": expected.rows[numbers[0]]["metadata"]["difficulty_number"],
            "correct_indices": right,
            "incorrect_indices": wrong,
            "correct_token_lengths": [expected.tokens[number][2] for number in right],
            "incorrect_token_lengths": [expected.tokens[number][2] for number in wrong],
        }
        valid += bool(right and wrong)
        pairs += len(right) * len(wrong)
    assert index["problem_index_map"] == wanted
    assert [*index["problem_index_map"]] == [*wanted]
    correct = sum(row["is_correct"] for row in expected.rows)
    numbers_of_rows = Counter(row["metadata"]["difficulty_number"] for row in expected.rows)
    assert index["stats"] == {
        "total": len(expected.rows),
        "correct": correct,
        "incorrect": len(expected.rows) - correct,
        "n_problems": len(wanted),
        "n_valid_problems": valid,
        "total_possible_pairs": pairs,
        "difficulty_dist": {
            str(number): count for number, count in sorted(numbers_of_rows.items())
        },
    }


def test_counts_of_a_split_with_one_problem_are_numbers(small_store: Store) -> None:
    """``true`` stood in the manifest where the first count was a truth value, and a rule that
    counts again found 1."""
    processed = small_store.catalogue["codecontests_processed"]
    splits = small_store.manifest(processed).document["splits"]
    assert splits["valid"]["problems"] == 1
    assert {type(split["problems"]) for split in splits.values()} == {int}
    index = json.loads(small_store.read(processed, "processed/valid_metadata.json"))
    assert {type(count) for count in index["stats"].values()} == {int, dict}


@pytest.mark.parametrize("split", SPLITS)
def test_offsets_are_where_lines_begin(good_root: Path, split: str) -> None:
    """n + 1 little-endian unsigned 64-bit numbers: other programs read them without this one."""
    lines = (good_root / FOLDER / f"processed/{split}.jsonl").read_bytes().splitlines(True)
    data = (good_root / FOLDER / f"index/{split}.offsets").read_bytes()
    assert unpack(f"<{len(lines) + 1}Q", data) == (0, *accumulate(map(len, lines)))


@pytest.mark.parametrize("split", SPLITS[1:])
def test_evaluation_rows_are_the_problems_with_all_their_tests(
    good_root: Path, reference: Reference, split: str
) -> None:
    """Also problems that nobody solved in Python: pass@k is over all of them."""
    data = (good_root / FOLDER / f"processed/{split}_eval.jsonl").read_bytes()
    assert data == dumped(reference[0][split].evaluations)


def test_train_is_not_for_evaluation(good_root: Path) -> None:
    """13,000 problems with all generated tests are gigabytes that nobody asked for."""
    assert not (good_root / FOLDER / "processed/train_eval.jsonl").exists()


@pytest.mark.parametrize("split", SPLITS)
def test_tests_are_those_of_upstream(good_root: Path, reference: Reference, split: str) -> None:
    """A program that passes other tests is not a solution."""
    found = json.loads((good_root / FOLDER / f"tests/{split}_tests.json").read_bytes())
    assert found == reference[0][split].tests
    assert [*found] == [*reference[0][split].tests]


def test_manifests_count_what_became_of_every_sample(store: Store, reference: Reference) -> None:
    """Each of upstream's solutions is a row, or in one of the numbers of dropped ones."""
    expected, renamed = reference
    document = store.manifest(store.catalogue["codecontests_processed"]).document
    assert document["splits"] == {
        split: {
            "upstream_rows": found.upstream_rows,
            "samples": found.samples,
            "rows": len(found.rows),
            "problems": len(found.problems()),
            "dropped": dict(found.dropped),
            "crlf_rows": sum("\r\n" in row["output"] for row in found.rows),
        }
        for split, found in expected.items()
    }
    for found in expected.values():
        assert found.samples == len(found.rows) + found.dropped.total()
    assert document["rows"] == sum(len(found.rows) for found in expected.values())
    assert document["renamed_problems"] == renamed
    assert document["public_tests"] == 2
    tests_document = store.manifest(store.catalogue["codecontests_tests"]).document
    assert tests_document["splits"] == {
        split: {"problems": len(found.tests)} for split, found in expected.items()
    }


def test_solutions_are_counted_without_reading_them(good_root: Path, reference: Reference) -> None:
    """The rule about row counts reads language numbers only, and must come to the same."""
    paths = (good_root / FOLDER / "raw/data").glob("train-*")
    counts = [count_solutions(path) for path in paths]
    train = reference[0]["train"]
    assert sum(samples for samples, _ in counts) == train.samples
    assert sum(others for _, others in counts) == train.dropped["other_language"]


@pytest.mark.parametrize(
    ("schema", "rows"), [("schema", "test"), ("evaluation_schema", "valid_eval")]
)
def test_schema_file_validates_every_line(good_root: Path, schema: str, rows: str) -> None:
    """It is read by others, with a JSON Schema library and without this project."""
    folder = good_root / FOLDER / "processed"
    document = json.loads((folder / f"{schema}.json").read_bytes())
    Draft202012Validator.check_schema(document)
    validator = Draft202012Validator(document)
    found = [row for _, row in read_jsonl(folder / f"{rows}.jsonl", 64 << 20)]
    assert [error.message for row in found for error in validator.iter_errors(row)] == []
    assert document["source"]["repository"] == "deepmind/code_contests"
    assert ("is_correct" in document["required_fields"]) == (schema == "schema")


# -- single rows -----------------------------------------------------------------------------------


def rows_of(store: Store, name: str) -> list[Row]:
    return [row for _, row in read_jsonl(processed_path(store, f"processed/{name}.jsonl"))]


@pytest.fixture
def convert(bare_store: Store) -> Callable[..., list[Row]]:
    """Converts rows of train, and gives the processed ones."""

    def convert(*rows: Row, **spec: Any) -> list[Row]:
        other = shards("valid", table([problem("v")])) | shards("test", table([problem("t")]))
        commit_raw(bare_store, {**shards("train", table(rows)), **other})
        make(respec(bare_store, "codecontests", **spec))
        return rows_of(bare_store, "train")

    return convert


def train_counts(store: Store) -> Row:
    document = store.manifest(store.catalogue["codecontests_processed"]).document
    return document["splits"]["train"]


def test_number_in_task_id_is_upstreams(convert: Callable[..., list[Row]]) -> None:
    """The index counts the other languages too, so that a row leads back to its solution."""
    rows = convert(
        problem(
            "p",
            right=[(CPP, "c"), (PY3, "a"), (JAVA, "j"), (PY2, "b")],
            wrong=[(0, "?"), (9, "of a language that comes later"), (PY2, "d")],
        )
    )
    assert [(row["task_id"], row["output"], row["metadata"]["language"]) for row in rows] == [
        ("p_correct_1", "a", "python3"),
        ("p_correct_3", "b", "python"),
        ("p_incorrect_2", "d", "python"),
    ]


def test_what_is_empty_is_dropped_and_counted(
    convert: Callable[..., list[Row]], bare_store: Store
) -> None:
    """Nothing can be learned from it; and a loss must be a number."""
    both = [(PY3, ""), (PY3, "x"), (CPP, "")]
    rows = convert(problem("p", right=both, wrong=both), problem("q", description="", right=both))
    assert [row["task_id"] for row in rows] == ["p_correct_1", "p_incorrect_1"]
    assert train_counts(bare_store) == {
        "upstream_rows": 2,
        "samples": 10,
        "rows": 2,
        "problems": 1,
        "dropped": {"empty": 2, "no_description": 3, "other_language": 3},
        "crlf_rows": 0,
    }


def test_problem_without_description_is_in_no_evaluation(bare_store: Store) -> None:
    """A model that is asked nothing is not wrong."""
    empty = problem("empty", description="")
    files = small_repository() | shards("valid", table([empty, problem("v")]))
    commit_raw(bare_store, files | shards("test", table([empty])))
    make(bare_store)
    make(bare_store, "tests")
    assert [row["task_id"] for row in rows_of(bare_store, "valid_eval")] == ["v"]
    assert rows_of(bare_store, "test_eval") == []
    folder = bare_store.root / FOLDER / "tests"
    assert [*json.loads((folder / "valid_tests.json").read_bytes())] == ["v"]
    assert json.loads((folder / "test_tests.json").read_bytes()) == {}


def test_split_of_which_nothing_is_kept_has_all_its_files(bare_store: Store) -> None:
    """Whoever opens them finds no rows, not an error."""
    files = small_repository() | shards("test", table([problem("t", right=[], wrong=[])]))
    commit_raw(bare_store, files)
    for part in ("processed", "pairs", "small", "stats"):
        make(bare_store, part)
    assert rows_of(bare_store, "test") == []
    assert processed_path(bare_store, "index/test.offsets").read_bytes() == bytes(8)
    assert pq.read_table(processed_path(bare_store, "index/test.parquet")).num_rows == 0
    index = json.loads(processed_path(bare_store, "processed/test_metadata.json").read_bytes())
    assert index["problem_index_map"] == {}
    assert index["stats"].pop("difficulty_dist") == {}
    assert set(index["stats"].values()) == {0}


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [(None, None), ((2, 0), 2.0), ((1, 500_000_000), 1.5), ((0, 250_000_000), 0.25)],
)
def test_time_limit_is_seconds(
    bare_store: Store, limit: tuple[int, int] | None, seconds: float | None
) -> None:
    """Upstream has seconds and nanoseconds, or null; the training code reads one number."""
    value = limit and {"seconds": limit[0], "nanos": limit[1]}
    files = small_repository() | shards("valid", table([problem("v", time_limit=value)]))
    commit_raw(bare_store, files)
    path = next(raw_path(bare_store, "data").glob("valid-*"))
    (found,) = read_evaluations(path, 2, ["v"])
    assert found.metadata.time_limit == seconds


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        (0, ["", ""]),
        (1, ["Input:\n1 2\nOutput:\n3", ""]),
        (2, ["Input:\n1 2\nOutput:\n3\n\nInput:\n\n 4\n5\nOutput:\n", ""]),
        (9, ["Input:\n1 2\nOutput:\n3\n\nInput:\n\n 4\n5\nOutput:\n\n\nInput:\n6\nOutput:\n7", ""]),
    ],
)
def test_input_holds_as_many_public_tests_as_the_spec_says(
    convert: Callable[..., list[Row]], bare_store: Store, setting: int, wanted: list[str]
) -> None:
    """They stand in the description too, so how many are repeated is a setting; 0 leaves it empty.

    The pairs put them into the prompt, behind an empty line, and evaluation asks the same.
    """
    public = examples(("1 2\n", "3\r\n"), ("\n 4\n5", ""), ("6", "7"))
    files = [problem("p", public_tests=public, wrong=[]), problem("q", wrong=[])]
    files[1]["public_tests"] = examples()
    rows = convert(*files, public_tests=setting)
    assert [row["input"] for row in rows] == wanted
    assert [row["metadata"]["has_tests"] for row in rows] == [True, True]
    make(bare_store, "pairs")
    pairs = read_jsonl(bare_store.root / FOLDER / "pairs/train.jsonl")
    assert [pair for _, pair in pairs] == [
        {
            "prompt": f"Solve {name}.\n" + (f"\n\n{given}" if given else ""),
            "response": "print(1)\n",
            "is_correct": True,
            "metadata": {"problem_id": name, "difficulty": "a"},
        }
        for name, given in zip("pq", wanted, strict=True)
    ]
    asked = {row["input"] for row in rows_of(bare_store, "valid_eval")}
    assert asked == {"Input:\n1 2\nOutput:\n3" if setting else ""}
    document = bare_store.manifest(bare_store.catalogue["codecontests_processed"]).document
    assert document["public_tests"] == setting


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4), st.integers(0, 5))
def test_input_never_holds_more_tests_than_there_are(
    pairs: list[tuple[str, str]], count: int
) -> None:
    """Whatever the tests are, ``n`` of them are a prefix of ``n + 1``, and none are the empty
    text."""
    found = ProblemTests(input=[pair[0] for pair in pairs], output=[pair[1] for pair in pairs])
    text = input_of(found, count)
    assert input_of(found, count + 1).startswith(text)
    assert (text == "") == (not pairs or count == 0)
    assert input_of(found, len(pairs)) == input_of(found, len(pairs) + 1)


def test_no_tests_of_any_kind_is_said(convert: Callable[..., list[Row]]) -> None:
    """Such a problem can be trained on, but a solution to it cannot be judged."""
    nothing = dict.fromkeys(KINDS, examples())
    rows = convert(
        problem("p", **nothing), problem("q", **nothing | {KINDS[1]: examples(("1", "2"))})
    )
    assert [row["metadata"]["has_tests"] for row in rows] == [False, False, True, True]


def test_labels_are_those_of_the_card(convert: Callable[..., list[Row]]) -> None:
    """Contiguous numbers, not those of the original protocol: L is 18, AtCoder 5."""
    rows = convert(
        *(problem(f"s{source}", wrong=[], source=source) for source in range(7)),
        *(problem(f"d{level}", wrong=[], difficulty=level) for level in range(29)),
    )
    assert [row["metadata"]["source"] for row in rows[:7]] == [
        "unknown",
        "codechef",
        "codeforces",
        "hackerearth",
        "codejam",
        "atcoder",
        "aizu",
    ]
    names = [row["metadata"]["difficulty"] for row in rows[7:]]
    assert names[:7] == ["unknown", "easy", "medium", "hard", "harder", "hardest", "external"]
    assert (names[7], names[17], names[18], names[28]) == ("a", "k", "l", "v")


def test_converter_is_usable_alone(good_root: Path) -> None:
    """From a notebook: a path and options, without a store."""
    path = next((good_root / FOLDER / "raw/data").glob("test-*"))
    ids = [f"t{number}" for number in range(12)]
    converter = load_format("codecontests")
    problems = list(converter.problems(path, Options(problem_ids=ids)))
    assert [(found.row, found.problem_id) for found in problems] == [*enumerate(ids)]
    assert {found.evaluation for found in problems} == {None}
    assert {record.input for found in problems for record in found.records} == {""}


def test_languages_that_are_kept_are_both_pythons() -> None:
    """Numbers as upstream has them; the columns read are a dozen of twenty."""
    assert {PY2: "python", PY3: "python3"} == LANGUAGES
    assert len(COLUMNS) == 12


# -- names -----------------------------------------------------------------------------------------

Layout = list[tuple[str, list[tuple[str, str]]]]
"""Split, and name and description of each row, of each shard."""

LAYOUTS: dict[str, tuple[Layout, list[list[str]]]] = {
    "another description": ([("train", [("a", "x"), ("a", "y")])], [["a", "a#2"]]),
    "twice in a split": ([("train", [("a", "x"), ("a", "x")])], [["a", "a#2"]]),
    "in two shards of a split": (
        [("train", [("a", "x")]), ("train", [("a", "x")])],
        [["a"], ["a#2"]],
    ),
    "in two splits": ([("train", [("a", "x")]), ("test", [("a", "x")])], [["a"], ["a"]]),
    "another description in another split": (
        [("train", [("a", "x")]), ("test", [("a", "y")])],
        [["a"], ["a#2"]],
    ),
    "renamed, then in another split": (
        [("train", [("a", "x"), ("a", "y")]), ("test", [("a", "y"), ("a", "x")])],
        [["a", "a#2"], ["a#2", "a"]],
    ),
    "three": ([("train", [("a", "x"), ("a", "y"), ("a", "z")])], [["a", "a#2", "a#3"]]),
    "the suffix is a name": (
        [("train", [("a", "x"), ("a", "y"), ("a#2", "z")])],
        [["a", "a#3", "a#2"]],
    ),
    "the suffix is a name of another split": (
        [("train", [("a", "x"), ("a", "y")]), ("test", [("a#2", "z")])],
        [["a", "a#3"], ["a#2"]],
    ),
    "another name": ([("train", [("a", "x"), ("b", "x")])], [["a", "b"]]),
}


def assign(layout: Layout) -> tuple[list[list[str]], list[str]]:
    """The names of the rows of parquet files."""
    with TemporaryDirectory() as folder:
        files = []
        for number, (split, rows) in enumerate(layout):
            path = Path(folder, f"{number}.parquet")
            pq.write_table(table(problem(name, description=text) for name, text in rows), path)
            files.append((split, path))
        return problem_ids(files)


@pytest.mark.parametrize("name", LAYOUTS)
def test_repeated_names_get_a_suffix(name: str) -> None:
    """Two problems under one id would share correct and incorrect solutions."""
    layout, wanted = LAYOUTS[name]
    ids, renamed = assign(layout)
    assert ids == wanted
    upstream = {row[0] for _, rows in layout for row in rows}
    news = [found for shard in ids for found in shard if found not in upstream]
    assert renamed == [*dict.fromkeys(news)]


NAMED = st.tuples(st.sampled_from(["a", "a#2", "a#3", "b"]), st.sampled_from("xyz"))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(SPLITS), st.lists(NAMED, max_size=4)), max_size=4))
@example([("train", [("a", "x"), ("a", "x")]), ("valid", [("a", "x"), ("a", "x")])])
@example([("train", [("a", "x")]), ("valid", [("a", "x")] * 2), ("test", [("a", "x")])])
def test_names_are_unique_in_a_split_and_shared_only_by_the_same_problem(layout: Layout) -> None:
    """What the problem index and the rule about splits rely on, for any upstream."""
    ids, renamed = assign(layout)
    meant: dict[str, tuple[str, str]] = {}
    used: dict[str, list[str]] = defaultdict(list)
    kept: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for (split, rows), of_shard in zip(layout, ids, strict=True):
        for row, found in zip(rows, of_shard, strict=True):
            assert meant.setdefault(found, row) == row
            assert found == row[0] or found.rsplit("#", 1)[0] == row[0]
            used[split].append(found)
            kept[row][split].add(found)
    assert all(len(set(names)) == len(names) for names in used.values())
    for splits in kept.values():
        assert set.intersection(*splits.values())
    assert len(set(renamed)) == len(renamed)
    assert ({row[0] for _, rows in layout for row in rows} | {*renamed}) >= {*meant}


def committed_ids(store: Store) -> Iterator[tuple[str, list[str]]]:
    for split in SPLITS:
        yield split, [row["metadata"]["problem_id"] for row in rows_of(store, split)]


def test_renamed_problems_are_said_and_stand_everywhere_under_one_name(bare_store: Store) -> None:
    """In rows, index, evaluation and tests; a person reads in the log that names were changed."""
    again = problem("v", description="Another.", wrong=[])
    files = small_repository() | shards("valid", table([problem("v", wrong=[]), again]))
    commit_raw(bare_store, files)
    said: list[str] = []
    make(bare_store, say=said.append)
    make(bare_store, "tests")
    assert "codecontests: 1 problems have the name of another: they are called v#2" in said[:3], (
        said
    )
    assert [row["task_id"] for row in rows_of(bare_store, "valid")] == [
        "v_correct_0",
        "v#2_correct_0",
    ]
    assert [row["task_id"] for row in rows_of(bare_store, "valid_eval")] == ["v", "v#2"]
    for name in ("processed/valid_metadata.json", "tests/valid_tests.json"):
        document = json.loads((bare_store.root / FOLDER / name).read_bytes())
        assert [*document.get("problem_index_map", document)] == ["v", "v#2"]


def test_problem_of_two_splits_keeps_its_name_so_that_the_rule_finds_it(bare_store: Store) -> None:
    """A suffix would hide that the test split was trained on."""
    files = small_repository() | shards("test", table([problem("t"), problem("a")]))
    commit_raw(bare_store, files)
    make(bare_store)
    found = dict(committed_ids(bare_store))
    assert "a" in found["train"] and "a" in found["test"]
    processed = bare_store.catalogue["codecontests_processed"]
    (rule,) = [rule for rule in rules_of(processed) if rule.name == "splits"]
    outcome = apply_rule(rule, bare_store, processed)
    assert [finding.found for finding in outcome.findings] == ["a_correct_0", "a_incorrect_0"]
