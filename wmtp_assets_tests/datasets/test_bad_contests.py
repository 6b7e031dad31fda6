"""CodeContests that are not what they are declared to be: refused by file and row, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput
from wmtp_assets.base.settings import WORKERS_VARIABLE
from wmtp_assets.datasets import parts
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.datasets.contests import (
    CPP,
    PY3,
    commit_raw,
    make,
    problem,
    raw_path,
    shard_name,
    shards,
    small_repository,
    table,
)
from wmtp_assets_tests.trees import damage, flip, tree

Change = Callable[[pa.Table], pa.Table]

BAD_SHARD = {"train": shard_name("train", 1, 3), "valid": shard_name("valid", 0, 1)}


def refusal(store: Store, part: str = "processed") -> str:
    """Why raw rows are refused; what is committed must be as before, and staging empty."""
    before = tree(store.root / "datasets_v2")
    with pytest.raises(InvalidInput) as caught:
        make(store, part)
    assert tree(store.root / "datasets_v2") == before
    assert tree(store.internal / "staging") == {}
    return str(caught.value)


def without(column: str) -> Change:
    return lambda rows: rows.drop_columns([column])


def column(name: str, values: Any, type_: pa.DataType | None = None) -> Change:
    """A change of a column; ``values`` may be an array of another type."""

    def change(rows: pa.Table) -> pa.Table:
        index = rows.schema.get_field_index(name)
        array = values if isinstance(values, pa.Array) else pa.array(values, type_)
        return rows.set_column(index, name, array)

    return change


def second(name: str, value: Any) -> Change:
    """A change of a column in row 1."""

    def change(rows: pa.Table) -> pa.Table:
        values = rows.column(name).to_pylist()
        values[1] = value
        return column(name, values, rows.schema.field(name).type)(rows)

    return change


def as_text(values: list[bytes]) -> pa.Array:
    """Bytes that say they are text."""
    return pa.array(values, pa.binary()).view(pa.string())


def struct_of_lists(offsets: list[int], **fields: pa.Array) -> pa.Array:
    """Lists with the same offsets, in a struct."""
    lists = [pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), f) for f in fields.values()]
    return pa.StructArray.from_arrays(lists, names=list(fields))


BAD_TEXT = as_text([b"a", b"b\xff"])
TESTS = "struct<input: list<string>, output: list<string>>"
SOLUTIONS = "struct<language: list<int64>, solution: list<string>>"
MINE = {"language": [PY3, PY3], "solution": ["a", "b"]}

BAD: dict[str, tuple[Change, str]] = {
    "no solutions": (without("solutions"), "no column 'solutions'; it has name, description, "),
    "no names": (without("name"), "no column 'name'; it has description, "),
    "source as text": (
        column("source", ["CODEFORCES", "AIZU"]),
        "column 'source' is string, expected int64",
    ),
    "a list of structs": (
        column("solutions", [[{"language": 3, "solution": "a"}], []]),
        "column 'solutions' is list<struct<language: int64, solution: string>>, "
        f"expected {SOLUTIONS}",
    ),
    "32-bit languages": (
        column(
            "incorrect_solutions",
            [MINE, MINE],
            pa.struct(
                [("language", pa.list_(pa.int32())), ("solution", pa.list_(pa.string()))],
            ),
        ),
        "column 'incorrect_solutions' is struct<language: list<int32>, solution: list<string>>, "
        f"expected {SOLUTIONS}",
    ),
    "tests without outputs": (
        column("public_tests", [{"input": ["1"]}] * 2),
        f"column 'public_tests' is struct<input: list<string>>, expected {TESTS}",
    ),
    "null name": (second("name", None), "row 1: 'name' is null"),
    "null description": (second("description", None), "row 1: 'description' is null"),
    "null solutions": (second("solutions", None), "row 1: 'solutions' is null"),
    "null difficulty": (second("difficulty", None), "row 1: 'difficulty' is null"),
    "null memory limit": (
        second("memory_limit_bytes", None),
        "row 1: 'memory_limit_bytes' is null",
    ),
    "null tests": (second("generated_tests", None), "row 1: 'generated_tests' is null"),
    "null list": (
        second("solutions", {"language": [PY3], "solution": None}),
        "row 1: 'solutions' holds a null list",
    ),
    "null solution": (
        second("solutions", {"language": [PY3, PY3], "solution": ["a", None]}),
        "row 1: 'solutions' holds a null",
    ),
    "null solution in another language": (
        second("solutions", {"language": [CPP], "solution": [None]}),
        "row 1: 'solutions' holds a null",
    ),
    "null language": (
        second("incorrect_solutions", {"language": [PY3, None], "solution": ["a", "b"]}),
        "row 1: 'incorrect_solutions' holds a null",
    ),
    "null test": (
        second("private_tests", {"input": ["1"], "output": [None]}),
        "row 1: 'private_tests' holds a null",
    ),
    "more languages than solutions": (
        second("solutions", {"language": [PY3, PY3], "solution": ["a"]}),
        "row 1: 'solutions' holds lists of 2 and 1 values",
    ),
    "more outputs than inputs": (
        second("public_tests", {"input": [], "output": ["1"]}),
        "row 1: 'public_tests' holds lists of 0 and 1 values",
    ),
    "name that is not UTF-8": (
        column("name", BAD_TEXT),
        "row 1: 'name' is not UTF-8: invalid start byte",
    ),
    "description that is not UTF-8": (
        column("description", BAD_TEXT),
        "row 1: 'description' is not UTF-8: invalid start byte",
    ),
    "solution that is not UTF-8": (
        column(
            "solutions",
            struct_of_lists(
                [0, 2, 4],
                language=pa.array([CPP, PY3, CPP, PY3]),
                solution=as_text([b"\xff", b"a", b"b", b"\xc3"]),
            ),
        ),
        "row 1: 'solutions' is not UTF-8: unexpected end of data",
    ),
    "test that is not UTF-8": (
        column(
            "public_tests",
            struct_of_lists(
                [0, 0, 2], input=as_text([b"a", b"b"]), output=as_text([b"c", b"\xff"])
            ),
        ),
        "row 1: 'public_tests' is not UTF-8: invalid start byte",
    ),
    "source nobody knows": (
        second("source", 7),
        "row 1: source is 7; upstream's labels end at 6",
    ),
    "difficulty nobody knows": (
        second("difficulty", 29),
        "row 1: difficulty is 29; upstream's labels end at 28",
    ),
    "negative difficulty": (
        second("difficulty", -1),
        "row 1: difficulty is -1; upstream's labels end at 28",
    ),
    "no name at all": (second("name", ""), "row 1: "),
}

BAD_FOR_EVALUATION: dict[str, tuple[Change, str]] = {
    "no rating": (without("cf_rating"), "no column 'cf_rating'; it has name, "),
    "null rating": (second("cf_rating", None), "row 1: 'cf_rating' is null"),
    "half a time limit": (
        second("time_limit", {"seconds": 1, "nanos": None}),
        "row 1: 'time_limit' holds a null",
    ),
    "no name for the task": (second("name", ""), "row 1: "),
    "generated test that is not UTF-8": (
        column(
            "generated_tests",
            struct_of_lists([0, 0, 1], input=as_text([b"a"]), output=as_text([b"\xff"])),
        ),
        "row 1: 'generated_tests' is not UTF-8: invalid start byte",
    ),
}

BAD_FOR_TESTS = {
    name: BAD[name]
    for name in (
        "no names",
        "null tests",
        "null test",
        "more outputs than inputs",
        "test that is not UTF-8",
        "source nobody knows",
    )
} | BAD_FOR_EVALUATION


def put_bad(store: Store, split: str, change: Change) -> Path:
    """Commit a repository of which one shard has two problems, changed."""
    name = BAD_SHARD[split]
    rows = change(table([problem("x"), problem("y")]))
    commit_raw(store, small_repository() | {name: rows})
    return raw_path(store, name)


@pytest.mark.parametrize("name", BAD)
def test_bad_row_is_refused_with_file_and_row(contests: Store, name: str) -> None:
    """One bad row among 41 shards must be found without a debugger."""
    change, problem_text = BAD[name]
    path = put_bad(contests, "train", change)
    assert refusal(contests).startswith(f"{path}: {problem_text}")


@pytest.mark.parametrize("name", BAD_FOR_EVALUATION)
def test_bad_problem_is_refused_where_it_is_for_evaluation(contests: Store, name: str) -> None:
    """What only evaluation reads must be right there, too."""
    change, problem_text = BAD_FOR_EVALUATION[name]
    path = put_bad(contests, "valid", change)
    assert refusal(contests).startswith(f"{path}: {problem_text}")


@pytest.mark.parametrize("name", BAD_FOR_TESTS)
def test_bad_tests_are_refused(contests: Store, name: str) -> None:
    """They are read from raw a second time, without the rows having been converted."""
    change, problem_text = BAD_FOR_TESTS[name]
    path = put_bad(contests, "train", change)
    assert refusal(contests, "tests").startswith(f"{path}: {problem_text}")


def test_bad_row_is_refused_alike_in_another_process(
    contests: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error has to come back from a worker as what it is."""
    path = put_bad(contests, "train", second("source", 7))
    alone = refusal(contests)
    monkeypatch.setattr(parts, "SIDE_BY_SIDE", 0)
    monkeypatch.setenv(WORKERS_VARIABLE, "2")
    assert refusal(contests) == alone == f"{path}: {BAD['source nobody knows'][1]}"


def test_languages_upstream_may_add_are_others(contests: Store) -> None:
    """A new number is not damage: the solution is dropped and counted like one in Java."""
    put_bad(contests, "train", second("solutions", {"language": [99], "solution": ["?"]}))
    counts = make(contests).document["splits"]["train"]
    assert counts["dropped"] == {"other_language": 1}


@pytest.mark.parametrize("part", ["processed", "tests"])
@pytest.mark.parametrize(
    ("files", "problem_text"),
    [
        (
            {"valid": None},
            " has no file data/valid-*.parquet",
        ),
        (
            {"train": [0, 2]},
            " has 2 of 3 shards of data/train-*.parquet; missing: 00001",
        ),
    ],
    ids=["split", "shard"],
)
def test_missing_shard_is_refused(
    contests: Store, files: dict[str, list[int] | None], problem_text: str, part: str
) -> None:
    """``NNNNN-of-NNNNN`` says how many there are: a download that lost one is not a dataset."""
    good = small_repository()
    gone = {
        name
        for split, kept in files.items()
        for name in good
        if split in name and not any(shard_name(split, n, 3) == name for n in kept or ())
    }
    commit_raw(contests, {name: rows for name, rows in good.items() if name not in gone})
    folder = contests.root / "datasets_v2/codecontests/raw"
    assert refusal(contests, part) == f"{folder}{problem_text}"


def test_empty_split_is_refused(contests: Store) -> None:
    """A dataset of nothing passes every other rule; an empty shard among others is none."""
    nothing = table([])
    commit_raw(contests, small_repository() | shards("test", nothing))
    path = raw_path(contests, shard_name("test", 0, 1))
    assert refusal(contests) == f"split test in {path}: no rows"
    commit_raw(contests, small_repository() | {BAD_SHARD["train"]: nothing})
    assert make(contests).document["splits"]["train"]["problems"] == 4


@pytest.mark.parametrize("content", [b"", b"<html>502</html>", b"PAR1" + bytes(50) + b"PAR1"])
@pytest.mark.parametrize("part", ["processed", "tests"])
def test_what_is_no_parquet_is_refused(contests: Store, content: bytes, part: str) -> None:
    """Its hash is the announced one: upstream itself can be broken."""
    commit_raw(contests, small_repository() | {BAD_SHARD["train"]: content})
    path = raw_path(contests, BAD_SHARD["train"])
    assert refusal(contests, part).startswith(f"{path}: not readable as parquet: ")


@pytest.mark.parametrize("part", ["processed", "tests"])
def test_shards_are_verified_before_they_are_parsed(contests: Store, part: str) -> None:
    """A flipped bit can be a valid file with other rows."""
    damage(raw_path(contests, BAD_SHARD["train"]), flip(1000))
    before = tree(contests.root / "datasets_v2")
    with pytest.raises(CorruptArtifact, match=r"train-00001-of-00003.*is damaged"):
        make(contests, part)
    assert tree(contests.root / "datasets_v2") == before
