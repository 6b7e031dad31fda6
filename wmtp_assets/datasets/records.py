"""The records that processed datasets consist of, and how upstream's rows become them.

Each module of ``formats/`` defines the record of a dataset and gives, as ``FORMAT``, a
:class:`Format`; it is found by its name when a spec asks for it.
"""

from __future__ import annotations

import json
import pkgutil
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from wmtp_assets.base.errors import InvalidInput, SpecError
from wmtp_assets.base.model import first_problem
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets import formats
from wmtp_assets.datasets.parquet import read_batches, rows_of
from wmtp_assets.storage.manifest import Document

if TYPE_CHECKING:
    import pyarrow as pa

PROMPT_RULE = "instruction; where input is not empty, followed by an empty line and input"


class Record(BaseModel):
    """Base: strict types, unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AlpacaRecord(Record):
    """What the record of every dataset has; each states what its fields mean.

    The record of a dataset that says which rows are right has ``is_correct`` too. Its metadata has
    ``difficulty`` (lower case, ``unknown`` where upstream has none), ``difficulty_number`` and
    ``has_tests``, and where a problem has several rows ``problem_id``.
    """

    instruction: str
    input: str
    output: str
    task_id: str
    if TYPE_CHECKING:
        metadata: Any


class ProblemMetadata(Record):
    """What the metadata begins with where a problem has one solution."""

    source: str = Field(description="name of the dataset")
    difficulty: str = Field(description="lower case; 'unknown': upstream has none")
    difficulty_number: int = Field(
        default=0, description="upstream's number of it; 0: upstream has none"
    )
    has_tests: bool


class Tests(Record):
    """Inputs and the outputs that a right program gives for them, in the same order."""

    input: list[str]
    output: list[str]


TEST_KINDS = ("public_tests", "private_tests", "generated_tests")


class EvaluationMetadata(Record):
    """What is needed to judge a program that solves a CodeContests problem."""

    source: str = Field(min_length=1)
    difficulty: str = Field(min_length=1)
    cf_rating: int = Field(description="Codeforces' rating of the difficulty; 0: none")
    time_limit: float | None = Field(description="seconds; null: upstream has none")
    memory_limit_bytes: int = Field(description="0: upstream has none")
    public_tests: Tests
    private_tests: Tests
    generated_tests: Tests


class EvaluationRecord(Record):
    """A problem of CodeContests with all its tests and no solution."""

    task_id: str = Field(min_length=1, description="the problem_id of the rows")
    instruction: str = Field(min_length=1)
    input: str = Field(description="as in the rows")
    metadata: EvaluationMetadata


def is_labelled(record: type[Record]) -> bool:
    """Whether rows of a dataset say if they are correct."""
    return "is_correct" in record.model_fields


def problem_of(row: Mapping[str, Any]) -> str:
    """The problem_id of a row: its task_id where upstream has one solution per problem."""
    return row["metadata"].get("problem_id", row["task_id"])


class PairMetadata(Record):
    """Which problem a pair belongs to."""

    problem_id: str = Field(min_length=1)
    difficulty: str = Field(min_length=1, description="lower case; 'unknown': upstream has none")


class PairRecord(Record):
    """A prompt and a response to it: the view that training reads."""

    prompt: str = Field(min_length=1, description=PROMPT_RULE)
    response: str = Field(min_length=1, description="the record's output")
    is_correct: bool | None = Field(description="null: upstream does not say")
    metadata: PairMetadata


def schema_document(record: type[Record], format_name: str, source: Mapping[str, Any]) -> Document:
    """``schema.json``: the JSON Schema of a record, and where the rows come from.

    Args:
        source: as a manifest has it.
    """
    schema = record.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "required_fields": schema["required"],
        "format": format_name,
        "encoding": "JSON Lines, UTF-8, one record per line",
        "source": {"repository": source["repo"], "revision": source["revision"]},
    }


def render_line(record: Record) -> bytes:
    """A record as a line of JSONL: UTF-8, fields in the record's order, ends with a newline."""
    return render_row(record.model_dump())


def encode(value: Any) -> str:
    """JSON in one line, whoever splits lines: what is not ASCII stays as it is, but U+0085, U+2028
    and U+2029 are escaped, at which ``str.splitlines`` ends a line and ``wc -l`` does not."""
    text = _ENCODER.encode(value)
    for character in "\x85\u2028\u2029":
        if character in text:
            text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def render_row(row: Mapping[str, Any]) -> bytes:
    """The fields of a record, in order, as :func:`render_line` writes them."""
    return f"{encode(row)}\n".encode()


_ENCODER = json.JSONEncoder(ensure_ascii=False)


class RowRenderer:
    """Renders rows as :func:`render_row` does; a value that consecutive rows have in common is
    rendered once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, bytes]] = {}
        self._objects: defaultdict[str, RowRenderer] = defaultdict(RowRenderer)

    def __call__(self, row: Mapping[str, Any]) -> bytes:
        return self._render(row) + b"\n"

    def _render(self, row: Mapping[str, Any]) -> bytes:
        fields: list[bytes] = []
        for name, value in row.items():
            known = self._known.get(name, _UNKNOWN)
            # only texts are compared: 1 and True are equal, and are not written alike
            if known[0] is not value and (type(value) is not str or known[0] != value):
                known = self._known[name] = self._field(name, value)
            fields.append(known[1])
        return b"{" + b", ".join(fields) + b"}"

    def _field(self, name: str, value: Any) -> tuple[object, bytes]:
        """A value by which the field is known again, if it may be, and how it is rendered."""
        begin, kind = encode_text(name) + b": ", type(value)
        if kind is str:
            return value, begin + encode_text(value)
        if kind in (bool, int, NoneType):
            return value, begin + to_json(value)
        if kind is dict:
            return _UNKNOWN, begin + self._objects[name]._render(value)
        return _UNKNOWN, begin + encode(value).encode()


_UNKNOWN = (object(), b"")


def encode_text(text: str) -> bytes:
    """:func:`encode` of a text, some times as fast.

    Raises:
        ValueError: for a lone surrogate, which UTF-8 cannot hold.
    """
    data = to_json(text)
    return data if text.isascii() else _LINE_END.sub(_escape, data)


_LINE_END = re.compile("\x85|\u2028|\u2029".encode())


def _escape(line_end: re.Match[bytes]) -> bytes:
    return f"\\u{ord(line_end[0].decode()):04x}".encode()


# -- from upstream's rows --------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """What the spec decides about the conversion of one shard.

    Attributes:
        public_tests: most public tests of a problem in ``input``.
        evaluation: whether evaluation records are wanted too.
        problem_ids: of every row of the shard; empty: each row names its own.
    """

    public_tests: int = 0
    evaluation: bool = False
    problem_ids: Sequence[str] = ()


@dataclass(frozen=True)
class Problem:
    """One upstream row: a problem, and its solutions as records.

    Attributes:
        row: its number in the file, from 0.
        problem_id: unique in its split.
        records: in upstream's order; they share instruction, input and problem.
        dropped: solutions that are not records, by reason.
        evaluation: the problem with its tests, where that was wanted.
    """

    row: int
    problem_id: str
    records: Sequence[AlpacaRecord]
    dropped: Mapping[str, int] = field(default_factory=dict)
    evaluation: EvaluationRecord | None = None


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Turn what a record or its converter does not allow into an error that names ``place``.

    Raises:
        InvalidInput: for a ``ValidationError`` inside, naming the field; for a ``ValueError``.
    """
    try:
        yield
    except ValidationError as error:
        raise InvalidInput(f"{place}: {first_problem(error)}") from error
    except ValueError as error:
        raise InvalidInput(f"{place}: {error}") from error


@dataclass(frozen=True)
class Format:
    """How one dataset's upstream rows become records.

    Attributes:
        record: of its rows.
        columns: what is read, name → Arrow type.
        convert_batch: path, number of the first row, and rows → problems.
        version: raised when the same upstream bytes become other records.
        problem_ids: names the rows of all shards; None: each row names itself.
        nullable: columns that may hold nulls.
        batch: rows that are read at a time.
        count_samples: path → solutions in a shard, and those of them that are left out for their
            language; None: each row is one solution, and none is left out for that.
        read_evaluations: path, most public tests, and the problem_id of each row → problems with
            their tests; None: upstream has no tests to run.
    """

    record: type[AlpacaRecord]
    columns: Mapping[str, str]
    convert_batch: Callable[[Path, int, pa.RecordBatch, Options], Iterator[Problem]]
    version: int = 1
    problem_ids: (
        Callable[[Iterable[tuple[str, Path]]], tuple[list[list[str]], list[str]]] | None
    ) = None
    nullable: tuple[str, ...] = ()
    batch: int = 256
    count_samples: Callable[[Path], tuple[int, int]] | None = None
    read_evaluations: Callable[[Path, int, Sequence[str]], Iterator[EvaluationRecord]] | None = None

    def problems(self, path: Path, options: Options) -> Iterator[Problem]:
        """The rows of one upstream parquet file as problems.

        Raises:
            InvalidInput: naming file, row and field.
            OSError: if it cannot be read.
        """
        batches = read_batches(path, self.columns, nullable=self.nullable, batch_size=self.batch)
        for first, batch in batches:
            yield from self.convert_batch(path, first, batch, options)

    def evaluations(
        self, path: Path, public_tests: int, ids: Sequence[str]
    ) -> Iterator[EvaluationRecord]:
        """The problems of a shard with their tests, as :attr:`read_evaluations` reads them.

        Raises:
            SpecError: if upstream has no tests to run.
            InvalidInput: naming file, row and field.
        """
        if self.read_evaluations is None:
            raise SpecError(f"{path}: upstream has no tests of its own to write")
        return self.read_evaluations(path, public_tests, ids)


def row_by_row(
    convert_row: Callable[[dict[str, Any]], AlpacaRecord],
) -> Callable[[Path, int, pa.RecordBatch, Options], Iterator[Problem]]:
    """A converter of batches from one whose rows are a problem with one solution each.

    Args:
        convert_row: gets the columns of a row, and its ``problem_id`` where
            :attr:`Format.problem_ids` names it; what it refuses is a ``ValueError``.
    """

    def convert_batch(
        path: Path, first: int, batch: pa.RecordBatch, options: Options
    ) -> Iterator[Problem]:
        for number, row in enumerate(rows_of(path, first, batch), first):
            if options.problem_ids:
                row["problem_id"] = options.problem_ids[number]
            with naming(f"{path}: row {number}"):
                record = convert_row(row)
            yield Problem(number, record.task_id, [record])

    return convert_batch


def format_of(spec: DatasetSpec) -> Format:
    """The format that a dataset's spec names.

    Raises:
        SpecError: as :func:`load_format`.
    """
    return load_format(spec.converter)


@cache
def load_format(name: str) -> Format:
    """The format of the module ``name``.

    Raises:
        SpecError: for a name that no module has, naming those there are.
    """
    known = sorted(module.name for module in pkgutil.iter_modules(formats.__path__))
    if name not in known:
        raise SpecError(f"converter: {name!r} is not a known format; known: {', '.join(known)}")
    return import_module(f"{formats.__name__}.{name}").FORMAT
