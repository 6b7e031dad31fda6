"""From upstream parquet to everything the training code reads: one pass, shard by shard.

Shards are converted side by side (:mod:`wmtp_assets.datasets.shard`) and joined in their order.
What is done stays on disk, so that an interrupted conversion goes on with the shards it lacks.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate
from multiprocessing import get_context, parent_process
from pathlib import Path

from wmtp_assets.base.errors import InvalidInput, StoreError
from wmtp_assets.base.progress import Progress, Say, human_rows, pace
from wmtp_assets.base.settings import WORKERS_VARIABLE, read_workers
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, SplitSpec
from wmtp_assets.datasets.format import format_of
from wmtp_assets.datasets.problem import Options
from wmtp_assets.datasets.problem_index import ProblemIndex, problem_index_file
from wmtp_assets.datasets.random_access import offsets_file, pack_offsets
from wmtp_assets.datasets.records import (
    EvaluationRecord,
    Record,
    is_labelled,
    schema_document,
)
from wmtp_assets.datasets.shard import (
    EVALUATION,
    LENGTHS,
    ROWS,
    TWIN,
    Job,
    Summary,
    convert_shard,
    read_problems,
    read_summary,
)
from wmtp_assets.datasets.twin import TwinWriter, twin_file, twin_schema
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.files import BLOCK, HashedFile
from wmtp_assets.storage.manifest import Document, render
from wmtp_assets.storage.store import Store

VERSION = 1
"""Of the conversion, apart from formats: raised when the same raw bytes become other files."""

FORMAT = "alpaca"
SCHEMA = "processed/schema.json"
EVALUATION_SCHEMA = "processed/evaluation_schema.json"

SIDE_BY_SIDE = 64 << 20
"""Bytes of raw shards from which several processes are worth their start."""


def split_file(split: str) -> str:
    """Name of a split's rows in the processed artifact."""
    return f"processed/{split}.jsonl"


def evaluation_file(split: str) -> str:
    """Name of a split's evaluation rows in the processed artifact."""
    return f"processed/{split}_eval.jsonl"


@dataclass(frozen=True)
class Shard:
    """One raw file of a split."""

    split: str
    path: Path
    size: int
    sha256: str


def raw_shards(
    store: Store, raw: Artifact[DatasetSpec], advance: Callable[[int], None] = lambda size: None
) -> list[Shard]:
    """The shards of every processed split in order, hashed against the manifest.

    Raises:
        MissingArtifact, CorruptArtifact: as :meth:`Store.verify_file`.
        InvalidInput: if the raw artifact lacks a shard.
    """
    spec = raw.spec
    files = store.manifest(raw).files
    names = [name.removeprefix("raw/") for name in files]
    shards = []
    for split, split_spec in spec.processed_splits.items():
        try:
            selected = split_spec.select(names)
        except ValueError as error:
            raise InvalidInput(f"{store.folder(raw) / 'raw'} {error}") from error
        for name in selected:
            path = store.verify_file(raw, f"raw/{name}", advance)
            record = files[f"raw/{name}"]
            shards.append(Shard(split, path, record.size, record.sha256))
    return shards


def problem_ids(
    spec: DatasetSpec, shards: Sequence[Shard]
) -> tuple[Sequence[Sequence[str]], list[str]]:
    """The problem_ids of the rows of each shard, and those that are not upstream's names.

    Empty where each row names itself.
    """
    assign = format_of(spec).problem_ids
    if assign is None:
        return [()] * len(shards), []
    return assign((shard.split, shard.path) for shard in shards)


def build_processed(build: Build[DatasetSpec]) -> Document:
    """Convert every split: JSONL, evaluation rows, problem index, offsets, twin, schemas.

    Raises:
        InvalidInput: naming file and row; also when upstream has another number of rows than the
            spec pins, or none, or two rows share a task_id.
        CorruptArtifact: if a raw file or the tokenizer is not the one that was committed.
        StoreError: if a process of the conversion was killed.
    """
    spec, store = build.artifact.spec, build.store
    raw, tokenizer = build.upstream("raw"), build.upstream("tokenizer")
    tokenizer_path = store.verify_file(tokenizer, "tokenizer.model")
    tokenizer_sha256 = store.manifest(tokenizer).files["tokenizer.model"].sha256
    total = sum(record.size for record in store.manifest(raw).files.values())
    shards = raw_shards(store, raw, Progress(f"verifying {raw.key}", total, build.say).advance)
    ids, renamed = problem_ids(spec, shards)
    if renamed:
        build.say(
            f"{spec.name}: {len(renamed)} problems have the name of another: they are called "
            + ", ".join(renamed[:10])
            + (", …" if len(renamed) > 10 else "")
        )
    jobs = []
    for shard, of_rows in zip(shards, ids, strict=True):
        options = Options(spec.public_tests, shard.split in spec.evaluation, tuple(of_rows))
        key = _fingerprint(spec, shard, tokenizer_sha256, options)
        folder = build.scratch / key
        jobs.append(Job(shard.path, spec, tokenizer_path, tokenizer_sha256, folder, options))
    _remove_others(build.scratch, {job.folder for job in jobs})
    done = {n for n, job in enumerate(jobs) if read_summary(job.folder) is not None}
    if done:
        build.say(f"{build.artifact.key}: {len(done)} of {len(jobs)} shards are done already")
    splits: Document = {}
    with _converted(jobs, build.say) as parts:
        progress = _SampleProgress(build, shards, done)
        for split, split_spec in spec.processed_splits.items():
            mine = [n for n, shard in enumerate(shards) if shard.split == split]
            with ExitStack() as stack:
                joined = _Joined(build, split, stack)
                for n in mine:
                    summary = parts(n)
                    joined.add(jobs[n], summary)
                    progress.advance(n, summary)
                joined.finish()
            _check_upstream_rows(split, split_spec, [jobs[n].path for n in mine], joined)
            splits[split] = joined.describe()
    _write_schemas(build, raw)
    return {
        "dataset": spec.folder,
        "version": spec.version,
        "format": FORMAT,
        "rows": sum(split["rows"] for split in splits.values()),
        "splits": splits,
        "max_tokens": spec.max_tokens,
        **({"public_tests": spec.public_tests} if format_of(spec).read_evaluations else {}),
        "renamed_problems": renamed,
        "tokenizer": {"asset": tokenizer.key, "sha256": tokenizer_sha256},
        "source": store.manifest(raw).document["source"],
    }


def _remove_others(scratch: Path, wanted: set[Path]) -> None:
    """Remove parts that were made from other bytes or with other settings."""
    if scratch.is_dir():
        for path in scratch.iterdir():
            if not path.is_dir():
                path.unlink()
            elif path not in wanted:
                shutil.rmtree(path)


def _write_schemas(build: Build[DatasetSpec], raw: Artifact[DatasetSpec]) -> None:
    source = build.store.manifest(raw).document["source"]

    def write(name: str, record: type[Record], format_name: str) -> None:
        schema = schema_document(record, format_name, source["repo"], source["revision"])
        build.staged.write(name, render(schema))

    write(SCHEMA, format_of(build.spec).record, FORMAT)
    if build.spec.evaluation:
        write(EVALUATION_SCHEMA, EvaluationRecord, "evaluation")


def _check_upstream_rows(split: str, spec: SplitSpec, paths: list[Path], joined: _Joined) -> None:
    where = f"split {split} in {', '.join(map(str, paths))}"
    found = joined.total.upstream_rows
    if spec.rows is not None and found != spec.rows:
        raise InvalidInput(f"{where}: {found} rows, but the spec pins {spec.rows}")
    if spec.rows is None and not found:
        raise InvalidInput(f"{where}: no rows")


def _fingerprint(spec: DatasetSpec, shard: Shard, tokenizer_sha256: str, options: Options) -> str:
    """What decides about the content of a part: the bytes read, the settings, versions of code."""
    known = (
        shard.split,
        shard.path.name,
        shard.sha256,
        tokenizer_sha256,
        (VERSION, spec.converter, format_of(spec).version),
        spec.max_tokens,
        options.public_tests,
        options.evaluation,
        options.problem_ids,
        [version(library) for library in ("pyarrow", "sentencepiece")],
    )
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


# -- converting shards -----------------------------------------------------------------------------


@contextmanager
def _converted(jobs: Sequence[Job], say: Say) -> Iterator[Callable[[int], Summary]]:
    """Converts shards, in several processes where that is worth it.

    Inside the ``with`` block it is a function from a job's number to its :class:`Summary`, which
    waits for it.
    """
    size = sum(job.path.stat().st_size for job in jobs)
    workers = min(len(jobs), read_workers())
    if size < SIDE_BY_SIDE or workers <= 1:
        yield lambda number: convert_shard(jobs[number])
        return
    say(f"converting {len(jobs)} shards in {workers} processes")
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent
    )

    def wait(number: int) -> Summary:
        with _explained(jobs[number]):
            return futures[number].result()

    try:
        with _explained(jobs[0]):
            futures = [pool.submit(convert_shard, job) for job in jobs]
        yield wait
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _explained(job: Job) -> Iterator[None]:
    """Turn the end of a process of the pool into an error that says what to do."""
    try:
        yield
    except BrokenProcessPool as error:
        raise StoreError(
            f"a process that converted {job.path} or a later shard was killed (out of memory?). "
            "Run again: it goes on with the shards that are not done; "
            f"{WORKERS_VARIABLE}=1 needs less memory"
        ) from error


def _end_with_parent() -> None:
    """In a worker: end when the process that started it is killed."""
    parent = parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


class _SampleProgress:
    """Says after each shard how far the conversion is, in rows a second and time left.

    Args:
        done: numbers of the shards that an earlier run converted: they say nothing about the rate.
    """

    def __init__(
        self, build: Build[DatasetSpec], shards: Sequence[Shard], done: Container[int]
    ) -> None:
        self._build, self._shards, self._done = build, shards, done
        self._started = time.monotonic()
        self._rows = self._new_rows = self._new_bytes = 0
        self._total = sum(shard.size for n, shard in enumerate(shards) if n not in done)

    def advance(self, number: int, summary: Summary) -> None:
        shard = self._shards[number]
        self._rows += summary.rows
        if number not in self._done:
            self._new_rows += summary.rows
            self._new_bytes += shard.size
        seconds = time.monotonic() - self._started
        said = (
            f"{self._build.artifact.key}: shard {number + 1} of {len(self._shards)} "
            f"({shard.split}): {human_rows(self._rows)}"
        )
        if self._new_bytes:
            share = self._new_bytes / self._total
            said += ", " + pace(self._new_rows, share, seconds, human_rows)
        self._build.say(said)


# -- joining parts ---------------------------------------------------------------------------------


class _Joined:
    """The files of one split, to which the parts of its shards are added in order.

    Args:
        stack: closes the files.
    """

    def __init__(self, build: Build[DatasetSpec], split: str, stack: ExitStack) -> None:
        def create(name: str) -> HashedFile:
            return stack.enter_context(build.staged.create(name))

        record = format_of(build.spec).record
        self.split = split
        self.total = Summary(0, 0, 0, Counter(), 0, {})
        self._problems = self._size = 0
        self._seen: set[str] = set()
        self._rows = create(split_file(split))
        self._offsets = create(offsets_file(split))
        self._twin = TwinWriter(create(twin_file(split)), twin_schema(record))
        stack.callback(self._twin.abandon)
        self._index = ProblemIndex(create(problem_index_file(split)).write, is_labelled(record))
        self._evaluation = (
            create(evaluation_file(split)) if split in build.spec.evaluation else None
        )

    def finish(self) -> None:
        """Write the ends of the files."""
        self._offsets.write(pack_offsets([self._size]))
        self._twin.close()
        self._index.close()

    def add(self, job: Job, summary: Summary) -> None:
        """Append the part of a shard.

        Raises:
            InvalidInput: if a problem of it was there before.
        """
        import pyarrow as pa

        for problem in read_problems(job.folder):
            if problem.problem_id in self._seen:
                raise InvalidInput(
                    f"{job.path}: row {problem.row}: task_id {problem.problem_id!r} stands twice "
                    f"in split {self.split}"
                )
            self._seen.add(problem.problem_id)
            if problem.labels:
                self._index.add(
                    problem.problem_id,
                    problem.difficulty,
                    self.total.rows + problem.first,
                    problem.labels,
                    problem.tokens,
                )
                self._problems += 1
        lengths = array("Q", (job.folder / LENGTHS).read_bytes())
        *begins, self._size = accumulate(lengths, initial=self._size)
        self._offsets.write(pack_offsets(begins))
        _copy(job.folder / ROWS, self._rows)
        with pa.ipc.open_stream(job.folder / TWIN) as batches:
            for batch in batches:
                self._twin.write(batch)
        if self._evaluation is not None:
            _copy(job.folder / EVALUATION, self._evaluation)
        self.total.upstream_rows += summary.upstream_rows
        self.total.samples += summary.samples
        self.total.rows += summary.rows
        self.total.crlf_rows += summary.crlf_rows
        self.total.dropped.update(summary.dropped)

    def describe(self) -> Document:
        """What the manifest says about the split."""
        return {
            "upstream_rows": self.total.upstream_rows,
            "samples": self.total.samples,
            "rows": self.total.rows,
            "problems": self._problems,
            "dropped": dict(sorted(self.total.dropped.items())),
            "crlf_rows": self.total.crlf_rows,
        }


def _copy(source: Path, target: HashedFile) -> None:
    with source.open("rb") as file:
        shutil.copyfileobj(file, target, BLOCK)
