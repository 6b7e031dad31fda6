"""What a converter makes of one upstream row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import ValidationError

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.model import first_problem
from wmtp_assets.datasets.records import AlpacaRecord, EvaluationRecord


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
        dropped: solutions that are no records, by reason.
        evaluation: the problem with its tests, where that was wanted.
    """

    row: int
    problem_id: str
    records: Sequence[AlpacaRecord]
    dropped: Mapping[str, int] = field(default_factory=dict)
    evaluation: EvaluationRecord | None = None


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Turn what a record does not allow into an error that names ``place`` and the field.

    Raises:
        InvalidInput: for a ``ValidationError`` inside.
    """
    try:
        yield
    except ValidationError as error:
        raise InvalidInput(f"{place}: {first_problem(error)}") from error
