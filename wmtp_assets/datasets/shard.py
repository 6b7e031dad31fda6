"""One upstream shard → the part of each processed file that comes from it.

The unit of work: it can be repeated, resumed, and run in any process. A part is a folder with

- ``rows.jsonl``; ``lengths``, the bytes of each line (native u64);
- ``rows.arrow``, the rows of the twin, as an Arrow IPC stream;
- ``problems.jsonl``, a :class:`ProblemRows` a line, with row numbers counted from the part's first;
- ``evaluation.jsonl``, where that is wanted;
- ``summary.json``, written last: counts, and the size of each file.
"""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.strict_json import read_small
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.records import (
    AlpacaRecord,
    Options,
    Problem,
    RowRenderer,
    format_of,
    render_line,
)
from wmtp_assets.datasets.tokens import TextCounter, counter_of
from wmtp_assets.datasets.twin import ROW_GROUP, twin_rows, twin_schema
from wmtp_assets.storage.files import replace_file

LAYOUT = 1
"""Of a part: raised when its files are others for the same rows."""

ROWS, LENGTHS, TWIN = "rows.jsonl", "lengths", "rows.arrow"
PROBLEMS, EVALUATION, SUMMARY = "problems.jsonl", "evaluation.jsonl", "summary.json"

MAX_EVALUATION = 90 << 20
"""Bytes of the line that a problem with all its tests takes, at most."""


@dataclass(frozen=True)
class Shard:
    """One raw file of a split.

    Attributes:
        name: of the file in the raw artifact.
        path: of the parquet file.
        size, sha256: of the file, as it was committed.
        problem_ids: of its rows; empty where each row names itself.
    """

    split: str
    name: str
    path: Path
    size: int
    sha256: str
    problem_ids: Sequence[str] = ()


@dataclass(frozen=True)
class Job:
    """What is to be done with one shard.

    Attributes:
        spec: of the dataset.
        tokenizer, tokenizer_sha256: path of the tokenizer, verified, and its hash.
        folder: where the part goes; its name is that of the part, a full stop, and a hash of all
            that decides about its content.
    """

    shard: Shard
    spec: DatasetSpec
    tokenizer: Path
    tokenizer_sha256: str
    folder: Path

    @property
    def name(self) -> str:
        """Of the part: the split, and the number of the shard in it."""
        return self.folder.name.partition(".")[0]

    @property
    def lock(self) -> str:
        """The lock that is held while the part is made, whatever it is made from."""
        return lock_of(self.folder)

    @property
    def options(self) -> Options:
        """What the converter is told."""
        evaluation = self.shard.split in self.spec.evaluation
        return Options(self.spec.public_tests, evaluation, self.shard.problem_ids)


@dataclass
class Summary:
    """What a part, or all that was joined of a split, holds.

    Attributes:
        counts: ``upstream_rows`` of the shards; ``samples``, solutions in it, those that were
            dropped too; ``rows`` that were kept, and ``problems`` that have some; ``crlf_rows``,
            those whose output has CRLF line breaks.
        dropped: how many samples were not kept, by reason.
        sizes: bytes of each file of the part.
    """

    counts: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ProblemRows:
    """Where the rows of a problem are.

    Attributes:
        row: of the problem upstream.
        problem_id: of the problem.
        difficulty: its number.
        first: number of its first row.
        labels: is_correct of each row; None where upstream does not say.
        tokens: of the output of each row.
    """

    row: int
    problem_id: str
    difficulty: int
    first: int
    labels: list[bool | None]
    tokens: list[int]


def lock_of(folder: Path) -> str:
    """The lock of the part that goes into a folder."""
    return f"{folder.parent.name}/{folder.name.partition('.')[0]}"


def convert_shard(job: Job) -> Summary:
    """Write the part of a shard, unless it is there already.

    The raw file was verified, and whoever calls this holds the lock of the part.

    Raises:
        InvalidInput: naming file, row and field.
        OSError: if the disk refuses.
    """
    done = read_summary(job.folder)
    if done is not None:
        return done
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    with ExitStack() as stack:
        part = _Part(job, stack)
        for problem in format_of(job.spec).problems(job.shard.path, job.options):
            part.add(problem)
        part.finish()
    replace_file(job.folder / SUMMARY, json.dumps(vars(part.summary)).encode())
    return part.summary


def read_summary(folder: Path) -> Summary | None:
    """The summary of a part that is there and complete; None where none is."""
    try:
        summary = Summary(**json.loads(read_small(folder / SUMMARY)))
        whole = all((folder / name).stat().st_size == n for name, n in summary.sizes.items())
    except (OSError, ValueError, TypeError):
        return None
    return summary if whole else None


def read_problems(folder: Path) -> list[ProblemRows]:
    """The problems of a part, in order."""
    lines = (folder / PROBLEMS).read_bytes().splitlines()
    return [ProblemRows(**json.loads(line)) for line in lines]


@lru_cache(maxsize=1)
def load_counter(path: Path, sha256: str) -> TextCounter:
    """The counter of a tokenizer, kept with all it remembers for the next shard."""
    return counter_of(path.read_bytes(), str(path))


class _Part:
    """A part that is being written; ``stack`` closes its files."""

    def __init__(self, job: Job, stack: ExitStack) -> None:
        import pyarrow as pa

        self._job = job
        self.summary = Summary()
        self._counter = load_counter(job.tokenizer, job.tokenizer_sha256)
        self._schema = twin_schema(format_of(job.spec).record)
        self._render = RowRenderer()
        self._twin: list[dict[str, Any]] = []
        self._lengths = array("Q")
        names = [ROWS, LENGTHS, TWIN, PROBLEMS, *([EVALUATION] if job.options.evaluation else [])]
        self._files: dict[str, IO[bytes]] = {
            name: stack.enter_context((job.folder / name).open("xb")) for name in names
        }
        self._ipc = pa.ipc.new_stream(
            self._files[TWIN], self._schema, options=pa.ipc.IpcWriteOptions(compression="lz4")
        )

    def finish(self) -> None:
        """Write what is left, and see that all of it is on the disk."""
        self._flush_twin()
        self._ipc.close()
        self._files[LENGTHS].write(self._lengths.tobytes())
        for name, file in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            self.summary.sizes[name] = file.tell()

    def add(self, problem: Problem) -> None:
        """Write the rows of a problem that are short enough."""
        counts = self.summary.counts
        self.summary.dropped.update(problem.dropped)
        kept = list(self._short_enough(problem))
        records = [record for record, _ in kept]
        tokens = [of_record for _, of_record in kept]
        rows = [record.model_dump() for record in records]
        for row in rows:
            line = self._render(row)
            self._files[ROWS].write(line)
            self._lengths.append(len(line))
        for row in twin_rows(rows, tokens):
            self._twin.append(row)
            if len(self._twin) == ROW_GROUP:
                self._flush_twin()
        found = ProblemRows(
            problem.row,
            problem.problem_id,
            records[0].metadata.difficulty_number if records else 0,
            counts["rows"],
            [getattr(record, "is_correct", None) for record in records],
            [output for *_, output in tokens],
        )
        self._files[PROBLEMS].write(json.dumps(vars(found), ensure_ascii=False).encode() + b"\n")
        if problem.evaluation is not None:
            line = render_line(problem.evaluation)
            if len(line) > MAX_EVALUATION:
                raise InvalidInput(
                    f"{self._job.shard.path}: row {problem.row}: the problem has {len(line)} bytes "
                    f"with its tests; at most {MAX_EVALUATION} can be read again"
                )
            self._files[EVALUATION].write(line)
        counts.update(
            upstream_rows=1,
            samples=len(problem.records) + sum(problem.dropped.values()),
            rows=len(rows),
            problems=1 if rows else 0,
            crlf_rows=sum("\r\n" in row["output"] for row in rows),
        )

    def _short_enough(
        self, problem: Problem
    ) -> Iterator[tuple[AlpacaRecord, tuple[int, int, int]]]:
        """The records within the limit, with their tokens; each text is counted once."""
        if not problem.records:
            return
        first = problem.records[0]
        texts = [first.instruction, first.input, *(record.output for record in problem.records)]
        instruction, given, *outputs = self._counter.count(texts)
        for record, output in zip(problem.records, outputs, strict=True):
            if instruction + given + output > self._job.spec.max_tokens:
                self.summary.dropped["too_long"] += 1
            else:
                yield record, (instruction, given, output)

    def _flush_twin(self) -> None:
        import pyarrow as pa

        self._ipc.write(pa.RecordBatch.from_pylist(self._twin, self._schema))
        self._twin = []
