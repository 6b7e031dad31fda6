"""CodeContests: upstream rows → problems with their Python solutions.

Source: https://huggingface.co/datasets/deepmind/code_contests. Structs of lists; labels have the
numbers of the dataset card's ``class_label``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.strict_json import short
from wmtp_assets.datasets.parquet import read_batches, read_rows, read_table, rows_of, values_of
from wmtp_assets.datasets.records import (
    TEST_KINDS,
    AlpacaRecord,
    EvaluationMetadata,
    EvaluationRecord,
    Format,
    Options,
    Problem,
    Record,
    Tests,
    naming,
)

if TYPE_CHECKING:
    import pyarrow as pa


class CodeContestsMetadata(Record):
    """Which problem of CodeContests a solution belongs to, and what upstream says about both."""

    source: str = Field(min_length=1, description="the contest site, in lower case, or 'unknown'")
    difficulty: str = Field(
        min_length=1, description="upstream's name in lower case; 'unknown': upstream has none"
    )
    difficulty_number: int = Field(
        ge=0, description="upstream's number of the difficulty: 0 is unknown, 7 is a"
    )
    has_tests: bool = Field(description="whether upstream has tests of any kind for the problem")
    problem_id: str = Field(
        min_length=1, description="upstream's name; with '#2', … where another problem has it too"
    )
    language: Literal["python", "python3"] = Field(description="python is Python 2")

    @field_validator("difficulty_number")
    @classmethod
    def _is_that_of_the_name(cls, value: int, info: ValidationInfo) -> int:
        name = _label("difficulty_number", DIFFICULTIES, value)
        if info.data.get("difficulty", name) != name:
            raise ValueError(f"difficulty is {short(info.data['difficulty'])}")
        return value


class CodeContestsRecord(AlpacaRecord):
    """A solution of a CodeContests problem, right or wrong, in the Alpaca format."""

    instruction: str = Field(min_length=1, description="upstream's description")
    input: str = Field(description="the first public tests, as many as the dataset's spec says")
    output: str = Field(min_length=1, description="the solution, its line breaks included")
    task_id: str = Field(
        pattern=r"^[\s\S]+_(correct|incorrect)_(0|[1-9][0-9]*)$",
        description="problem_id, is_correct, and the index in upstream's list of such solutions",
    )
    is_correct: bool
    metadata: CodeContestsMetadata

    @field_validator("is_correct")
    @classmethod
    def _agrees(cls, value: bool, info: ValidationInfo) -> bool:
        task_id = info.data.get("task_id")
        if task_id is not None and (task_id.rsplit("_", 2)[1] == "correct") != value:
            raise ValueError(f"task_id is {short(task_id)}")
        return value

    @field_validator("metadata")
    @classmethod
    def _same_problem(
        cls, value: CodeContestsMetadata, info: ValidationInfo
    ) -> CodeContestsMetadata:
        task_id = info.data.get("task_id")
        if task_id is not None and task_id.rsplit("_", 2)[0] != value.problem_id:
            raise ValueError(f"problem_id is {short(value.problem_id)}, task_id {short(task_id)}")
        return value


_TESTS = "struct<input: list<string>, output: list<string>>"
_SOLUTIONS = "struct<language: list<int64>, solution: list<string>>"

COLUMNS = {
    "name": "string",
    "description": "string",
    "public_tests": _TESTS,
    "private_tests": _TESTS,
    "generated_tests": _TESTS,
    "source": "int64",
    "difficulty": "int64",
    "cf_rating": "int32",
    "time_limit": "struct<seconds: int64, nanos: int64>",
    "memory_limit_bytes": "int64",
    "solutions": _SOLUTIONS,
    "incorrect_solutions": _SOLUTIONS,
}
NULLABLE = ("time_limit",)

LANGUAGES = {1: "python", 3: "python3"}
"""The languages that are kept, by upstream's number; 1 is Python 2."""

SOURCES = ("unknown", "codechef", "codeforces", "hackerearth", "codejam", "atcoder", "aizu")
DIFFICULTIES = (
    "unknown",
    "easy",
    "medium",
    "hard",
    "harder",
    "hardest",
    "external",
    *"abcdefghijklmnopqrstuv",
)
"""Upstream's names in lower case, by number; UNKNOWN_SOURCE and UNKNOWN_DIFFICULTY: 'unknown'."""

BATCH = 8
"""Rows that are decoded at a time: a problem has a megabyte of solutions and tests on average."""


def problem_ids(shards: Iterable[tuple[str, Path]]) -> tuple[list[list[str]], list[str]]:
    """A unique problem_id for each row of each shard, and those that are not upstream's name.

    A repeated name gets the suffix ``#2``, ``#3``, …, unless it is the same problem in
    another split: then the two have one problem_id, and the rule ``splits`` finds them.

    Args:
        shards: split and path of each parquet file, in order.
    """
    columns = {key: COLUMNS[key] for key in ("name", "description")}
    names = [
        (
            split,
            [
                (row["name"], sha256(row["description"].encode()).digest())
                for _, row in read_rows(path, columns)
            ],
        )
        for split, path in shards
    ]
    taken = {name for _, rows in names for name, _ in rows}
    known: dict[tuple[str, bytes], tuple[str, set[str]]] = {}
    numbers: dict[str, Iterator[int]] = {}
    ids: list[list[str]] = []
    renamed: list[str] = []
    for split, rows in names:
        ids.append([])
        for key in rows:
            name = key[0]
            problem_id, splits = known.get(key, (name, set()))
            if split in splits or (key not in known and name in numbers):
                suffixed = (f"{name}#{number}" for number in numbers[name])
                problem_id = next(new for new in suffixed if new not in taken)
                renamed.append(problem_id)
            numbers.setdefault(name, count(2))
            known.setdefault(key, (problem_id, splits))[1].add(split)
            ids[-1].append(problem_id)
    return ids, renamed


def convert_batch(
    path: Path, first: int, batch: pa.RecordBatch, options: Options
) -> Iterator[Problem]:
    """The rows of a batch, with :data:`COLUMNS`, that begins at row ``first``, as problems.

    Solutions in :data:`LANGUAGES` are kept, right ones first; instruction is the description, input
    the first ``options.public_tests`` public tests as :func:`input_of` writes them.

    Raises:
        InvalidInput: naming file, row and field.
    """
    right = _python_solutions(path, first, batch, "solutions")
    wrong = _python_solutions(path, first, batch, "incorrect_solutions")
    tests_of_rows = zip(*(_lists(path, first, batch, kind)[1] for kind in TEST_KINDS), strict=True)
    has_tests = [any(counts) for counts in tests_of_rows]
    scalars = ("description", "public_tests", "source", "difficulty")
    if options.evaluation:
        scalars += (*TEST_KINDS[1:], "cf_rating", "time_limit", "memory_limit_bytes")
    for offset, row in enumerate(rows_of(path, first, batch.select(scalars))):
        number = first + offset
        problem_id = options.problem_ids[number]
        with naming(f"{path}: row {number}"):
            text, source, difficulty = _described(row, options.public_tests)
            metadata = {
                language: CodeContestsMetadata.model_validate(
                    {
                        "source": source,
                        "difficulty": difficulty,
                        "difficulty_number": row["difficulty"],
                        "has_tests": has_tests[offset],
                        "problem_id": problem_id,
                        "language": language,
                    }
                )
                for language in LANGUAGES.values()
            }
            dropped = Counter[str]()
            records: list[CodeContestsRecord] = []
            solutions = {"correct": right[offset], "incorrect": wrong[offset]}
            for label, (samples, kept) in solutions.items():
                dropped["other_language"] += samples - len(kept)
                for index, language, solution in kept:
                    if not row["description"] or not solution:
                        dropped["empty" if row["description"] else "no_description"] += 1
                        continue
                    records.append(
                        CodeContestsRecord(
                            instruction=row["description"],
                            input=text,
                            output=solution,
                            task_id=f"{problem_id}_{label}_{index}",
                            is_correct=label == "correct",
                            metadata=metadata[language],
                        )
                    )
            evaluation = (
                _evaluation(row, problem_id, options.public_tests)
                if options.evaluation and row["description"]
                else None
            )
        yield Problem(number, problem_id, records, +dropped, evaluation)


def input_of(tests: Tests, count: int) -> str:
    """The first ``count`` tests as text: ``Input:``, the input, ``Output:``, the output, a line
    each, without white space at the end of either; an empty line between two tests."""
    pairs = zip(tests.input[:count], tests.output[:count], strict=True)
    return "\n\n".join(
        f"Input:\n{given.rstrip()}\nOutput:\n{wanted.rstrip()}" for given, wanted in pairs
    )


def read_evaluations(
    path: Path, public_tests: int, ids: Sequence[str]
) -> Iterator[EvaluationRecord]:
    """The problems of a shard with their tests; those without a description are left out.

    Raises:
        InvalidInput: as :func:`convert_batch`.
    """
    columns = {key: COLUMNS[key] for key in COLUMNS if "solutions" not in key}
    for first, batch in read_batches(path, columns, nullable=NULLABLE, batch_size=BATCH):
        for kind in TEST_KINDS:
            _lists(path, first, batch, kind)  # refuses nulls in there, and lists of two lengths
        for number, row in enumerate(rows_of(path, first, batch), first):
            if row["description"]:
                with naming(f"{path}: row {number}"):
                    record = _evaluation(row, ids[number], public_tests)
                yield record


def count_solutions(path: Path) -> tuple[int, int]:
    """How many solutions a shard has, and how many of them are in no language that is kept.

    Raises:
        InvalidInput: naming the file, if it is not Parquet or has other columns.
    """
    names = ("solutions", "incorrect_solutions")
    types = {name: COLUMNS[name] for name in names}
    samples = others = 0
    for _, batch in read_table(path, [f"{name}.language" for name in names], 256, types):
        for name in names:
            languages = batch.column(name).field("language").flatten().to_pylist()
            samples += len(languages)
            others += sum(number not in LANGUAGES for number in languages)
    return samples, others


def _evaluation(row: dict[str, Any], problem_id: str, public_tests: int) -> EvaluationRecord:
    text, source, difficulty = _described(row, public_tests)
    limit = row["time_limit"]
    if limit is not None and None in limit.values():
        raise ValueError("'time_limit' holds a null")
    return EvaluationRecord(
        task_id=problem_id,
        instruction=row["description"],
        input=text,
        metadata=EvaluationMetadata(
            source=source,
            difficulty=difficulty,
            cf_rating=row["cf_rating"],
            time_limit=None if limit is None else limit["seconds"] + limit["nanos"] / 1e9,
            memory_limit_bytes=row["memory_limit_bytes"],
            **{kind: Tests.model_validate(row[kind]) for kind in TEST_KINDS},
        ),
    )


def _described(row: dict[str, Any], public_tests: int) -> tuple[str, str, str]:
    """The input, the source and the difficulty of a problem.

    Raises:
        ValueError: naming the field of a number that upstream's labels do not have.
    """
    tests = Tests.model_validate(row["public_tests"])
    source = _label("source", SOURCES, row["source"])
    difficulty = _label("difficulty", DIFFICULTIES, row["difficulty"])
    return input_of(tests, public_tests), source, difficulty


def _label(field: str, names: Sequence[str], value: int) -> str:
    if not 0 <= value < len(names):
        raise ValueError(f"{field} is {value}; upstream's labels end at {len(names) - 1}")
    return names[value]


def _python_solutions(
    path: Path, first: int, batch: pa.RecordBatch, name: str
) -> list[tuple[int, list[tuple[int, str, str]]]]:
    """How many solutions each row has, and index, language and text of those in Python; only these
    become Python objects."""
    import pyarrow as pa
    import pyarrow.compute as pc

    (languages, texts), counts = _lists(path, first, batch, name)
    is_python = pc.call_function(
        "is_in", [languages], pc.SetLookupOptions(pa.array(LANGUAGES, pa.int64()))
    )
    places = pc.call_function("indices_nonzero", [is_python])
    every = [(row, index) for row, count in enumerate(counts) for index in range(count)]
    kept = [every[place] for place in places.to_pylist()]
    wanted = values_of(path, first, name, texts.take(places), [row for row, _ in kept])
    numbers = languages.take(places).to_pylist()
    found: list[tuple[int, list[tuple[int, str, str]]]] = [(count, []) for count in counts]
    for (row, index), number, text in zip(kept, numbers, wanted, strict=True):
        found[row][1].append((index, LANGUAGES[number], text))
    return found


def _lists(
    path: Path, first: int, batch: pa.RecordBatch, name: str
) -> tuple[list[pa.Array], list[int]]:
    """The fields of a struct of lists, flattened, and the length of the lists of each row.

    Raises:
        InvalidInput: naming a row that has a null in there, or lists of two lengths.
    """
    import pyarrow.compute as pc

    fields = batch.column(name).flatten()
    lengths = [pc.call_function("list_value_length", [field]).to_pylist() for field in fields]
    for row, counts in enumerate(zip(*lengths, strict=True), first):
        if None in counts:
            raise InvalidInput(f"{path}: row {row}: {name!r} holds a null list")
        if len({*counts}) > 1:
            raise InvalidInput(
                f"{path}: row {row}: {name!r} holds lists of {counts[0]} and {counts[1]} values"
            )
    flat = [field.flatten() for field in fields]
    for values in flat:
        if values.null_count:
            place = values.is_null().to_pylist().index(True)
            rows = [row for row, count in enumerate(lengths[0]) for _ in range(count)]
            raise InvalidInput(f"{path}: row {first + rows[place]}: {name!r} holds a null")
    return flat, lengths[0]


FORMAT = Format(
    CodeContestsRecord,
    COLUMNS,
    convert_batch,
    problem_ids=problem_ids,
    nullable=NULLABLE,
    batch=BATCH,
    count_samples=count_solutions,
    read_evaluations=read_evaluations,
)
